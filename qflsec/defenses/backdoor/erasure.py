"""Erasing a client: the server goes back to its first model and replays its history without that client, in fewer rounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch

from qflsec.base import ConfigError, DefenseCard, IncompatibleStack, Source, register
from qflsec.defenses.robust import UpdateRule
from qflsec.federation import Pipeline, RoundUpdates, weighted_mean

__all__ = ["Erasure", "History", "calibrated"]


@dataclass(frozen=True, kw_only=True)
class History:
    """What the server keeps for the day on which a client asks to be forgotten.

    Attributes:
        first: The model before the first round; None before it.
        rounds: The updates of each training round by client.

    Shapes:
        first: ``(P,)``; rounds: ``(P,)`` each
    """

    first: torch.Tensor | None = None
    rounds: tuple[Mapping[int, torch.Tensor], ...] = ()

    def length(self, client: int, begin: int, end: int) -> float | None:
        """The L2 norm of the sum of a client's updates in some rounds.

        Args:
            client: The client.
            begin: The first of the rounds.
            end: The one after the last.

        Returns:
            None where it sent none in them.
        """
        sent = [updates[client] for updates in self.rounds[begin:end] if client in updates]
        return float(torch.stack(sent).double().sum(dim=0).norm()) if sent else None


def calibrated(update: torch.Tensor, length: float | None) -> torch.Tensor:
    """An update in its own direction, at the length of those that it stands for.

    Args:
        update: The update of today.
        length: That length; None to leave the update as it is.

    Shapes:
        update: ``(P,)``; returns the same

    Source:
        After Liu, Ma, Yang, Wang, Liu, IWQoS 2021 (FedEraser): the norm of the stored update times the unit vector of the new one.
    """
    norm = float(update.double().norm())
    return update if length is None or norm == 0.0 else update * (length / norm)


@register("layer", "erasure")
@dataclass(frozen=True, kw_only=True)
class Erasure(UpdateRule):
    """The weighted mean, until a client is to be forgotten: then the model begins anew and the history is replayed without it.

    After ``after`` rounds one round takes the model back to where it began. In each of the next ``steps`` rounds the other clients
    send updates of the model that is rebuilt, and each is scaled to the length of the sum of that client's old updates in the
    rounds for which the new one stands. Rounds after these are ordinary ones without the client. With ``after = 0`` the client
    is left out from the beginning, which is retraining: what all else is compared with.

    Attributes:
        client: The client that is forgotten.
        after: How many rounds were trained with it.
        steps: How many rounds replay them.
        calibrated: Whether updates are scaled; without it as many rounds of training from the beginning, as a control.

    Raises:
        ConfigError: A value is out of range.
    """

    topologies = frozenset({"star"})
    over_groups = False
    card = DefenseCard(
        name="erasure",
        idea="To forget a client the server begins anew and replays its history in a few rounds of the others, at their old lengths.",
        source=Source(
            paper="Liu, Ma, Yang, Wang, Liu: FedEraser: enabling efficient client-level data removal from federated learning "
            "models, IWQoS 2021",
            year=2021,
            where="calibrated updates, with the length of the sum of those that one stands for",
        ),
        claim="The final model is computed from no update of the client, but for the lengths of the others' old updates.",
        assumption="heuristic",
        hides="nothing",
        does_not=(
            "It gives no certificate: lengths of old updates still depend on the client.",
            "It does not take back models that were published or sent before.",
            "It does not undo what preprocessing learnt of the client's records.",
            "It does not find out whom to forget.",
        ),
        cost="the history: every update of every round; one round of all others for several old ones",
    )

    client: int = 0
    after: int = 14
    steps: int = 5
    calibrated: bool = True

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name, least in (("client", 0), ("after", 0), ("steps", 1)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"{name!r} is too small", got=getattr(self, name), expected=f"{least} or more"
                )
        if 0 < self.after < self.steps:
            raise ConfigError(
                "'steps' replay more rounds than there were",
                got=f"{self.steps} for {self.after}",
                expected="'steps' of at most 'after'",
            )

    def check(self, pipeline: Pipeline) -> None:
        """Refuse pipelines that are too short, in which there is no such client, or whose server scales its steps.

        Raises:
            IncompatibleStack: The pipeline is one.
        """
        super().check(pipeline)
        federation = pipeline.federation
        needed = self.after + 1 + self.steps if self.after else 1
        if federation.rounds < needed:
            raise IncompatibleStack(
                f"{self.card.name!r} needs {self.after} rounds, one to begin anew, and {self.steps} that replay them",
                got=f"{federation.rounds} rounds",
                expected=f"{needed} or more",
                fix="raise 'rounds', or lower 'after'",
            )
        if self.client >= federation.n_clients:
            raise IncompatibleStack(
                f"{self.card.name!r} forgets a client that there is not",
                got=self.client,
                expected=f"0 to {federation.n_clients - 1}",
            )
        if federation.server_learning_rate != 1.0:
            raise IncompatibleStack(
                f"{self.card.name!r} takes the model back in one step, which the server's learning rate would scale",
                got=federation.server_learning_rate,
                fix="set 'server_learning_rate' to 1",
            )

    def start(self, n_params: int) -> object:
        """An empty history."""
        return History()

    def act(self, batch: RoundUpdates, state: object) -> tuple[torch.Tensor, object]:
        """The step, and the history with this round while it is written."""
        past = cast("History", state)
        if batch.round < self.after:
            sent = dict(zip(batch.ids, batch.updates, strict=True))
            first = batch.broadcast if past.first is None else past.first
            step = weighted_mean(batch.updates, batch.counts)
            return step, History(first=first, rounds=(*past.rounds, sent))
        if batch.round == self.after and past.first is not None:
            return past.first - batch.broadcast, past
        others = batch.keep(torch.tensor([one != self.client for one in batch.ids]))
        if not others.ids:
            return torch.zeros_like(batch.broadcast), past
        return weighted_mean(self._replayed(others, past), others.counts), past

    def _replayed(self, others: RoundUpdates, past: History) -> torch.Tensor:
        """The updates of the other clients at the lengths of those for which they stand, while there are such."""
        place = others.round - self.after - 1
        if not self.calibrated or not self.after or place >= self.steps:
            return others.updates
        begin, end = (at * self.after // self.steps for at in (place, place + 1))
        pairs = zip(others.ids, others.updates, strict=True)
        return torch.stack([calibrated(update, past.length(one, begin, end)) for one, update in pairs])

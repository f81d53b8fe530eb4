"""Inconsistent models: a server that sends everybody but its victim a model without gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from qflsec.attacks.base import ActiveInference
from qflsec.attacks.challenges import InversionChallenge
from qflsec.attacks.inversion.gradient_matching import GradientMatching
from qflsec.attacks.inversion.observation import Observation
from qflsec.attacks.needs import missing_architecture
from qflsec.base import AttackCard, ConfigError, IncompatibleAttack, Source, register
from qflsec.federation import Pipeline, ServerHands
from qflsec.models import Model
from qflsec.threat import Item, ThreatModel, View, client

__all__ = ["InconsistentModels", "dead_model"]

_STEP = 0.1
_DEAD = 1e-9
"""A mean squared gradient that moves no client."""


@register("attack", "inconsistent-models")
@dataclass(frozen=True, kw_only=True)
class InconsistentModels(ActiveInference, GradientMatching):
    """In one round, send the model to the victim and a dead model to all others; the sum is the victim's update.

    A dead model is one at which the gradient vanishes for every record and label, so that local training leaves it
    where it is. A variational circuit has such models: the server looks for one by gradient descent on the squared
    gradient, over records that it has or over its own random ones. Masks hide the victim among clients that
    contributed nothing. Clients that compare hashes of what they received notice the deviation and stop.

    Args:
        victim: The client whose records are wanted.
        round: When the server deviates.
        search_steps: Steps of the search for a dead model.
        search_starts: How often it starts anew where it ends at a model that is alive.
        search_records: Records that it is dead on.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Pasquini, Francati, Ateniese: Eluding secure aggregation in federated learning via model inconsistency,
        CCS 2022: gradient suppression, there by dead ReLU layers, here by a search.
    """

    card = AttackCard(
        name="inconsistent-models",
        idea="Send all but one client a model without gradients: what secure aggregation sums is one update.",
        source=Source(
            paper="Pasquini, Francati, Ateniese: Eluding secure aggregation in federated learning via model "
            "inconsistency, CCS 2022, arXiv:2111.07380",
            year=2022,
            where="gradient suppression, with a dead circuit in the place of dead ReLU layers",
        ),
        family="inversion",
        goal="confidentiality",
        needs=(
            "a server that may send each client another model",
            "the sum of a round that contains the victim",
            "the model's architecture",
        ),
    )
    victim: int = 0
    round: int = 0
    search_steps: int = 300
    search_starts: int = 4
    search_records: int = 16

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        super().__post_init__()
        for name, low in (
            ("victim", 0),
            ("round", 0),
            ("search_steps", 1),
            ("search_starts", 1),
            ("search_records", 1),
        ):
            if getattr(self, name) < low:
                raise ConfigError(
                    f"{name!r} is too small", got=getattr(self, name), expected=f"at least {low}"
                )

    def corrupts(self, threat: ThreatModel) -> None:
        """Refuse a threat model in which the server is honest.

        Raises:
            ConfigError: The server is not corrupted.
        """
        if not threat.server:
            raise ConfigError(
                f"attack {self.card.name!r} acts through the server, which threat model {threat.name!r} leaves honest",
                fix="use malicious-server",
            )

    def check(self, pipeline: Pipeline, threat: ThreatModel) -> None:
        """Refuse a victim or a round that the pipeline does not have.

        Raises:
            IncompatibleAttack: There is none, or the victim is corrupted itself.
        """
        super().check(pipeline, threat)
        config = pipeline.federation
        for name, value, size in (
            ("victim", self.victim, config.n_clients),
            ("round", self.round, config.rounds),
        ):
            if value >= size:
                raise IncompatibleAttack(
                    f"{self.card.name!r} names a {name} that the pipeline does not have",
                    got=f"{name}={value}",
                    expected=f"0 to {size - 1}",
                )
        if config.keeps_state and self.round:
            raise IncompatibleAttack(
                f"{self.card.name!r} does not know what the victim's optimiser kept from earlier rounds",
                got=f"round={self.round}, optimizer_state='run'",
                fix="set round = 0",
            )
        if self.victim in threat.clients:
            raise IncompatibleAttack(
                f"the victim of {self.card.name!r} is a corrupted client", got=self.victim
            )

    def broadcast(self, hands: ServerHands) -> torch.Tensor:
        """The model for the victim, a dead one for the others, in one round."""
        models = hands.params[:, None, :].repeat(1, hands.n_clients, 1)
        if hands.round != self.round or self.victim >= hands.n_clients:
            return models
        for lane, view in enumerate(hands.views()):
            features = self._records(view, hands.model, hands.generators[lane])
            dead = dead_model(
                hands.model,
                features,
                generator=hands.generators[lane],
                steps=self.search_steps,
                starts=self.search_starts,
            )
            others = [index for index in range(hands.n_clients) if index != self.victim]
            models[lane, others] = dead.to(models)
        return models

    def _records(self, view: View, model: Model, generator: torch.Generator) -> torch.Tensor:
        auxiliary = view.granted.auxiliary
        if auxiliary is not None and len(auxiliary.labels):
            return auxiliary.features[: self.search_records]
        return torch.pi * torch.rand(self.search_records, model.n_features, generator=generator)

    def missing(self, view: View, challenge: InversionChallenge) -> str | None:
        """The architecture, or a sum of the round in which the server deviated."""
        if challenge.target != self.victim:
            return f"the server sent its models against client {self.victim}, not client {challenge.target}"
        reason = missing_architecture(view)
        if reason is None and self._item(view) is None:
            return f"no update or sum of round {self.round} that contains client {self.victim} can be read"
        return reason

    def observations(self, view: View, challenge: InversionChallenge) -> Sequence[Observation]:
        """The sum of the round as what it is: the victim's update, up to its number of examples."""
        item = self._item(view)
        assert item is not None  # missing() said so
        sent = [
            model
            for model in view.readable("model", round_index=self.round)
            if model.receiver == client(self.victim)
        ]
        victim = frozenset({self.victim})
        return [Observation(params=sent[0].vector, update=item.vector, round=self.round, about=victim)]

    def _item(self, view: View) -> Item | None:
        items = view.readable("update", "aggregate", round_index=self.round, about=self.victim)
        return min(items, key=lambda item: len(item.named), default=None)


def dead_model(
    model: Model,
    features: torch.Tensor,
    *,
    generator: torch.Generator,
    steps: int = 300,
    starts: int = 4,
) -> torch.Tensor:
    """Parameters at which the loss of no record, under no label, has a gradient.

    Args:
        model: The model.
        features: Records to search on.
        generator: Of the starts.
        steps: Steps of Adam on the mean squared gradient.
        starts: How often to start anew where a search ends at a model that is alive.

    Shapes:
        features: ``(n, F)``; returns: ``(P,)``
    """
    asked = _Search(model=model, features=features, start=generator.get_state(), steps=steps, starts=starts)
    found, after = _searched(asked)
    generator.set_state(after)
    return found.clone()


@dataclass(frozen=True, kw_only=True)
class _Search:
    """A search for a dead model; two are the same where all that they depend on is, to the bit."""

    model: Model
    features: torch.Tensor
    start: torch.Tensor
    steps: int
    starts: int

    def _key(self) -> tuple[object, ...]:
        return (
            id(self.model),  # a model may hold what cannot be compared; the search keeps it alive
            tuple(self.features.shape),
            self.features.numpy().tobytes(),
            self.start.numpy().tobytes(),
            self.steps,
            self.starts,
        )

    def __hash__(self) -> int:
        return hash(self._key())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Search) and self._key() == other._key()


@lru_cache(maxsize=64)  # a matrix asks for the same under every stack
def _searched(asked: _Search) -> tuple[torch.Tensor, torch.Tensor]:
    """What a search finds, and the state that it leaves its generator in."""
    generator = torch.Generator()
    generator.set_state(asked.start)
    return _search(asked, generator), generator.get_state()


def _search(asked: _Search, generator: torch.Generator) -> torch.Tensor:
    model = asked.model
    best, least = torch.zeros(model.n_params), float("inf")
    for _ in range(asked.starts):
        params = (2 * torch.pi * torch.rand(model.n_params, generator=generator)).requires_grad_()
        optimiser = torch.optim.Adam([params], lr=_STEP)
        for _ in range(asked.steps):
            optimiser.zero_grad()
            alive = _squared_gradient(model, params, asked.features)
            if float(alive.detach()) < least:
                best, least = params.detach().clone(), float(alive.detach())
            if least < _DEAD:
                return best
            alive.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return best


def _squared_gradient(model: Model, params: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """The mean squared norm of the gradient over records and labels, differentiable in the parameters."""
    rows = features.repeat_interleave(model.n_classes, dim=0)[:, None, :]
    labels = torch.arange(model.n_classes).repeat(len(features))[:, None]
    each = params.expand(len(rows), 1, -1) + torch.zeros(len(rows), 1, 1)
    loss = model.loss.per_sample(model(each, rows), labels).sum()
    (gradients,) = torch.autograd.grad(loss, each, create_graph=True)
    return gradients.square().sum(dim=-1).mean()

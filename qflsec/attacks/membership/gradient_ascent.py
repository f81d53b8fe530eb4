"""Gradient ascent: a server that raises the loss of the records in question, and watches which come down again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qflsec.attacks.base import ActiveInference
from qflsec.attacks.challenges import MembershipChallenge, MembershipClaim
from qflsec.attacks.membership.sum_alignment import mean_cosines, mean_move
from qflsec.attacks.needs import missing_architecture
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.federation import ServerHands
from qflsec.models import per_sample_gradients
from qflsec.threat import ThreatModel, View

__all__ = ["GradientAscent"]

_KINDS = ("update", "aggregate", "step")


@register("attack", "gradient-ascent")
@dataclass(frozen=True, kw_only=True)
class GradientAscent(ActiveInference):
    """Send models on which the candidates' losses are raised, and see which of them training brings down again.

    In every round the server moves the model up the gradients of the candidates' losses before it sends it, the same to
    all clients, so that comparing what they received shows nothing. Each gradient counts with length one. There the
    gradients of records that had been learned are large again, and those of members are a part of what comes back: the
    score is the mean cosine of a candidate's descent direction at the model that was sent with the largest readable sum
    of updates, over all rounds. The server keeps its own model as it was and adds to it what the clients sent.

    Args:
        step: How far the model is moved, as the length of the step in parameters.
        first_round: The first round in which the server deviates.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Nasr, Shokri, Houmansadr: Comprehensive privacy analysis of deep learning, IEEE S&P 2019, section II.C: the
        active global attacker's gradient ascent, there on one record at a time and judged by a trained model, here on all
        candidates at once and judged by cosines.
    """

    card = AttackCard(
        name="gradient-ascent",
        idea="Raise the loss of the records in question: training brings it down again where they are trained on.",
        source=Source(
            paper="Nasr, Shokri, Houmansadr: Comprehensive privacy analysis of deep learning: passive and active "
            "white-box inference attacks against centralized and federated learning, IEEE S&P 2019, arXiv:1812.00910",
            year=2019,
            where="the active global attacker, on all candidates at once",
        ),
        family="membership",
        goal="confidentiality",
        needs=(
            "a server that may send another model",
            "updates, sums or steps of the rounds in which it does",
            "the model's architecture",
            "the records in question before the run",
        ),
    )
    challenge_type = MembershipChallenge
    step: float = 0.5
    first_round: int = 0

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        if self.step <= 0:
            raise ConfigError("'step' is too small", got=self.step, expected="a positive length")
        if self.first_round < 0:
            raise ConfigError("'first_round' is negative", got=self.first_round, expected="a round")

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

    def broadcast(self, hands: ServerHands) -> Tensor:
        """The model, moved up the candidates' losses."""
        models = hands.params.clone()
        if hands.round >= self.first_round:
            for lane, asked in enumerate(hands.asked):
                if asked is None:
                    continue
                gradients = per_sample_gradients(
                    hands.model, hands.params[lane], asked.features, asked.labels
                )
                up = torch.nn.functional.normalize(gradients, dim=-1).sum(dim=0)
                models[lane] += self.step * torch.nn.functional.normalize(up, dim=0).to(models)
        return models[:, None, :].repeat(1, hands.n_clients, 1)

    def missing(self, view: View, challenge: MembershipChallenge) -> str | None:
        """The architecture, or a model that was moved and what clients made of it."""
        reason = missing_architecture(view)
        if reason is None and not self._moves(view):
            return "no update, sum or step of a round in which the server deviated can be read"
        return reason

    def run(self, view: View, challenge: MembershipChallenge) -> MembershipClaim:
        """The mean cosine of every candidate, over the rounds in which the server deviated."""
        return MembershipClaim(
            scores=mean_cosines(view.granted.model, challenge.candidates, self._moves(view))
        )

    def _moves(self, view: View) -> list[tuple[Tensor, Tensor]]:
        """For each round in which the server deviated, the model that it sent and the mean that came back."""
        found = []
        for index in sorted(
            {item.round for item in view.readable(*_KINDS) if item.round >= self.first_round}
        ):
            # what follows from known steps is the model that the server kept to itself
            sent = [item for item in view.readable("model", round_index=index) if not item.derived]
            items = view.readable(*_KINDS, round_index=index)
            if sent and items:
                found.append((sent[0].vector, mean_move(items)))
        return found

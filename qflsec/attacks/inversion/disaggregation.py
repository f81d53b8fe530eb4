"""Disaggregation: one client's update from the sums of many rounds in which others come and go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from qflsec.attacks.challenges import InversionChallenge
from qflsec.attacks.inversion.gradient_matching import GradientMatching
from qflsec.attacks.inversion.observation import Observation, missing_observation, observe
from qflsec.attacks.needs import missing_architecture
from qflsec.base import AttackCard, ConfigError, IncompatibleAttack, Source, register
from qflsec.federation import Pipeline
from qflsec.threat import Item, ThreatModel, View

__all__ = ["Disaggregation"]

_IDENTIFIED = 0.99


@register("attack", "disaggregation")
@dataclass(frozen=True, kw_only=True)
class Disaggregation(GradientMatching):
    """Solve the sums of all rounds for one client's update, then find the records behind it.

    Secure aggregation leaves a sum of each round and, as metadata, whose vectors are in it. Where a client takes
    part in some rounds and not in others, the sums are linear equations in the clients' updates. Updates change
    from round to round with the model, so each is modelled as a polynomial in the round, in units of the round's
    learning rate; what the model does not say is noise to the least squares. Two rounds that differ in one client are the smallest case.

    Groups that are drawn anew in each round come to the same with everybody taking part: each round gives one equation
    for each group.

    Where participation does not identify the target (everybody takes part in every round), the attack looks at
    the sum with the fewest clients, as ``dlg`` does; so it does where the view does not say who took part, since the
    matrix is not reconstructed here.

    Args:
        degree: The degree of the polynomial: 0 takes updates as constant.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Lam, Wei, Brooks, Reddi, Mitzenmacher: Gradient disaggregation, ICML 2021, section 3, here with a known
        participant matrix: the server chooses who takes part.
    """

    card = AttackCard(
        name="disaggregation",
        idea="Sums over changing sets of clients are equations in the clients' updates.",
        source=Source(
            paper="Lam et al.: Gradient disaggregation: Breaking privacy in federated learning by reconstructing "
            "the user participant matrix, ICML 2021, arXiv:2106.06089",
            year=2021,
            where="section 3, the participant matrix being known",
        ),
        family="inversion",
        goal="confidentiality",
        needs=(
            "sums of several rounds with and without the target, and who is in them",
            "the models that they start from",
            "the model's architecture",
        ),
    )
    degree: int = 1

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        super().__post_init__()
        if not 0 <= self.degree <= 3:
            raise ConfigError("'degree' is out of range", got=self.degree, expected="0 to 3")

    def check(self, pipeline: Pipeline, threat: ThreatModel) -> None:
        """Refuse clients whose updates of different rounds do not depend smoothly on the model and the round alone.

        Raises:
            IncompatibleAttack: They draw batches, or their optimiser is not plain gradient descent.
        """
        super().check(pipeline, threat)
        config = pipeline.federation
        if config.optimizer != "sgd" or config.batch_size is not None or config.keeps_state:
            raise IncompatibleAttack(
                f"{self.card.name!r} solves for an update that changes smoothly from round to round",
                got=f"optimizer={config.optimizer!r}, batch_size={config.batch_size}, "
                f"optimizer_state={config.optimizer_state!r}",
                expected="optimizer = 'sgd', no batch_size, and no state that lives over rounds",
                fix="run it on a pipeline of its own, or use 'dlg'",
            )

    def missing(self, view: View, challenge: InversionChallenge) -> str | None:
        """The architecture, a sum that contains the target, or the model that it starts from."""
        return missing_architecture(view) or missing_observation(view, challenge.target)

    def observations(self, view: View, challenge: InversionChallenge) -> Sequence[Observation]:
        """The target's update in the middle of the rounds, where the sums identify it."""
        sums = _sums(view)
        rounds = sorted({item.round for item in sums if challenge.target in item.named})
        middle = rounds[len(rounds) // 2] if rounds else 0
        rates = challenge.training.rate
        sums = [replace(item, value=item.vector * (rates(middle) / rates(item.round))) for item in sums]
        solved = _solve(sums, challenge.target, middle=middle, degree=self.degree)
        params = next((view.base_of(item) for item in sums if item.round == middle), None)
        if solved is None or params is None:
            return [observe(view, challenge.target)]
        target = frozenset({challenge.target})
        return [Observation(params=params, update=solved, round=middle, about=target)]


def _sums(view: View) -> list[Item]:
    """The readable means of each round whose clients are known, one for every set of clients: several of groups.

    A sum and what is left of it without known shares are one equation, of which the one with fewer clients stays.
    """
    found: dict[int, list[Item]] = {}
    for item in view.readable("aggregate", "update"):
        if item.k == 0 or item.weight is None or item.base is None or item.about is None:
            continue
        of_round = found.setdefault(item.round, [])
        of_round[:] = [other for other in of_round if not item.named < other.named]
        if not any(other.named <= item.named for other in of_round):
            of_round.append(item)
    return [item for _, of_round in sorted(found.items()) for item in of_round]


def _solve(sums: Sequence[Item], target: int, *, middle: int, degree: int) -> torch.Tensor | None:
    """The weighted update of the target in one round, up to its number of examples; None where it is not determined."""
    everybody = sorted({index for item in sums for index in item.named})
    if target not in everybody:
        return None
    spread = max(1.0, float(max(abs(item.round - middle) for item in sums)))
    members = torch.tensor(
        [[float(i in item.named) for i in everybody] for item in sums], dtype=torch.float64
    )
    times = torch.tensor([(item.round - middle) / spread for item in sums], dtype=torch.float64)
    design = torch.cat([members * times[:, None] ** power for power in range(degree + 1)], dim=1)
    totals = torch.stack([item.vector.double() * float(item.weight or 0.0) for item in sums])
    inverse = torch.linalg.pinv(design, rtol=1e-9)
    place = everybody.index(target)
    if float((inverse @ design)[place, place]) < _IDENTIFIED:
        return None
    solved: torch.Tensor = inverse @ totals
    return solved[place]

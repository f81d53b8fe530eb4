"""Deep leakage from gradients: records from one update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import comb

import torch
from torch import Tensor

from qflsec.attacks.base import Inference, InversionChallenge, InversionClaim
from qflsec.attacks.inversion.least_squares import minimise
from qflsec.attacks.inversion.matching import Match, Matching
from qflsec.attacks.inversion.observation import missing_observation, observe
from qflsec.attacks.needs import missing_architecture
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.models import Execution
from qflsec.threat import View

__all__ = ["DeepLeakage", "label_hypotheses", "reconstruct"]


@register("attack", "dlg")
@dataclass(frozen=True, kw_only=True)
class DeepLeakage(Inference):
    """Find records whose update equals the observed one.

    Many random starts are compared by their objective; the best are refined by Levenberg-Marquardt, which
    for the few unknowns of such records needs some ten steps where L-BFGS needs hundreds. The labels are
    inferred: the starts are spread over the possible label multisets, and the objective decides.

    The attack reads one item: the one that mixes the target with the fewest other clients, of these the
    earliest. Of a sum over several clients it still seeks the target's records alone; what the others
    added is noise to it, which its objective shows. It models full-batch gradient descent at the client.

    Args:
        restarts: The starts that are refined.
        screened: The random starts that they are chosen from.
        iterations: The most steps of the refinement.
        match: ``"euclidean"`` (DLG), or ``"cosine"``, which a clipped update does not mislead.
        max_hypotheses: The most label multisets; where there are more, a random choice.
        dtype: Of the attacker's simulation.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Zhu, Liu, Han: Deep leakage from gradients, NeurIPS 2019, algorithm 1. iDLG (Zhao, Mopuri, Bilen,
        2020) reads the label off the last bias; a circuit has none, so labels are enumerated.
    """

    card = AttackCard(
        name="dlg",
        idea="Find the records whose gradient is the observed update.",
        source=Source(paper="Zhu, Liu, Han, NeurIPS 2019, arXiv:1906.08935", year=2019, where="algorithm 1"),
        family="inversion",
        goal="confidentiality",
        needs=(
            "an update of the target, or a sum that contains it",
            "the model that the update starts from",
            "the model's architecture",
        ),
    )
    challenge_type = InversionChallenge
    restarts: int = 24
    screened: int = 256
    iterations: int = 30
    match: Match = "euclidean"
    max_hypotheses: int = 16
    dtype: str = "complex128"

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        for name in ("restarts", "screened", "iterations", "max_hypotheses"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name!r} is too small", got=getattr(self, name), expected="at least 1")
        if self.restarts > self.screened:
            raise ConfigError(
                "'restarts' are chosen from 'screened' starts",
                got=f"{self.restarts} of {self.screened}",
                expected="restarts <= screened",
            )
        if self.match not in {"euclidean", "cosine"}:
            raise ConfigError("unknown 'match'", got=repr(self.match), expected="'euclidean' or 'cosine'")

    def missing(self, view: View, challenge: InversionChallenge) -> str | None:
        """The architecture, an update that contains the target, or the model that it starts from."""
        return missing_architecture(view) or missing_observation(view, challenge.target)

    def run(self, view: View, challenge: InversionChallenge) -> InversionClaim:
        """The records of the best start."""
        seen = observe(view, challenge.target)
        model = view.granted.model
        matching = Matching(
            model=model,
            params=seen.params.double(),
            observed=-seen.update.double() / challenge.learning_rate,
            learning_rate=challenge.learning_rate,
            local_steps=challenge.local_steps,
            match=self.match,
            execution=Execution(dtype=self.dtype),
        )
        generator = challenge.generator()
        hypotheses = label_hypotheses(
            challenge.n_records, model.n_classes, most=self.max_hypotheses, generator=generator
        )
        features, labels, objective = reconstruct(
            matching,
            hypotheses,
            feature_range=challenge.feature_range,
            generator=generator,
            screened=self.screened,
            restarts=self.restarts,
            iterations=self.iterations,
        )
        low, high = challenge.feature_range
        if model.angle_features:
            features = low + torch.remainder(features - low, 2 * math.pi)
            features = torch.where(features - high > low + 2 * math.pi - features, low, features)
        return InversionClaim(features=features.clamp(low, high).float(), labels=labels, objective=objective)


def label_hypotheses(n_records: int, n_classes: int, *, most: int, generator: torch.Generator) -> Tensor:
    """The label multisets of some records: all of them, or a random choice.

    Records come in no order, so only the counts of the classes matter.

    Shapes:
        returns: ``(H, n_records)``, sorted in each row
    """
    if comb(n_records + n_classes - 1, n_records) <= most:
        return torch.tensor(list(combinations_with_replacement(range(n_classes), n_records)))
    return torch.randint(n_classes, (most, n_records), generator=generator).sort(dim=1).values


def reconstruct(
    matching: Matching,
    hypotheses: Tensor,
    *,
    feature_range: Sequence[float],
    generator: torch.Generator,
    screened: int,
    restarts: int,
    iterations: int,
    tolerance: float = 1e-13,
) -> tuple[Tensor, Tensor, float]:
    """Features, labels and objective of the best of many starts.

    Args:
        matching: The problem.
        hypotheses: Label multisets; starts are spread evenly over them.
        feature_range: Where starts are drawn, uniformly.
        generator: The stream of the starts.
        screened: Starts that are compared.
        restarts: Starts that are refined.
        iterations: The most steps of the refinement.
        tolerance: A squared relative residual that is good enough; single-precision updates allow no less.

    Shapes:
        hypotheses: ``(H, B)``; returns: ``(B, F)``, ``(B,)`` and a number
    """
    low, high = feature_range
    labels = hypotheses.repeat(math.ceil(screened / len(hypotheses)), 1)
    shape = (*labels.shape, matching.model.n_features)
    starts = low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)
    chosen = matching.objective(starts, labels).argsort(stable=True)[:restarts]
    starts, labels = starts[chosen], labels[chosen]
    found = minimise(
        lambda points: matching.linearise(points.view(starts.shape), labels),
        starts.flatten(start_dim=1),
        iterations=iterations,
        tolerance=tolerance,
    )
    best = int(found.objectives.argmin())
    return found.points[best].view(starts.shape[1:]), labels[best], float(found.objectives[best])

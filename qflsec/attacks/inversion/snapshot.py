"""Snapshots: a record from the gradients of several rounds, by linear algebra."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qflsec.attacks.base import Inference
from qflsec.attacks.challenges import InversionChallenge, InversionClaim
from qflsec.attacks.inversion.leak.certificate import circuit_of
from qflsec.attacks.inversion.leak.snapshot import MAX_UNKNOWNS, Shown, invert_encoder, solve_snapshot
from qflsec.attacks.inversion.leak.structure import structure_of
from qflsec.attacks.inversion.matching import Matching
from qflsec.attacks.inversion.observation import Observation, missing_observation, observe_rounds
from qflsec.attacks.inversion.reconstruction import into_range
from qflsec.attacks.inversion.unrolled import LocalRule
from qflsec.attacks.needs import missing_architecture
from qflsec.base import AttackCard, ConfigError, IncompatibleAttack, Source, register
from qflsec.federation import FederationConfig, Pipeline
from qflsec.models import Execution, Hybrid, Model
from qflsec.threat import ThreatModel, View

__all__ = ["SnapshotRecovery", "no_snapshot", "snapshot_points"]


@register("attack", "snapshot")
@dataclass(frozen=True, kw_only=True)
class SnapshotRecovery(Inference):
    """Solve the gradients of several rounds for the encoded state, and the state for the record.

    Every round's gradient is linear in the encoded state, which is the same in all of them. The rounds that
    it takes, and how noise grows, are what the gradient-leak certificate states (``qflsec leak``): with fewer rounds the
    system has many solutions, and the attack claims one of them. The attack answers for single records and one plain
    gradient step; gradient matching (``dlg``) does better in noise, and takes this as a start.

    Args:
        encoder: Whether what can be an encoded state is used; the paper's attack does not, and needs more rounds.
        max_rounds: The most rounds that are read, the earliest ones.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Heredge et al.: Prospects of privacy advantage in quantum machine learning, arXiv:2405.08801, there with known
        residuals; here they are unknowns of the same system.
    """

    card = AttackCard(
        name="snapshot",
        idea="Gradients of several rounds are linear equations in the encoded state.",
        source=Source(
            paper="Heredge et al.: Prospects of privacy advantage in quantum machine learning, arXiv:2405.08801",
            year=2024,
            where="snapshot recovery, with residuals as unknowns",
        ),
        family="inversion",
        goal="confidentiality",
        needs=(
            "updates of one record in several rounds",
            "the models that they start from",
            "the model's architecture",
        ),
    )
    challenge_type = InversionChallenge
    encoder: bool = True
    max_rounds: int = 24

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        if self.max_rounds < 1:
            raise ConfigError("'max_rounds' is too small", got=self.max_rounds, expected="at least 1")

    def check(self, pipeline: Pipeline, threat: ThreatModel) -> None:
        """Refuse models and local training whose update is not linear in one encoded state.

        Raises:
            IncompatibleAttack: It is not.
        """
        super().check(pipeline, threat)
        reason = no_snapshot(pipeline.model, pipeline.federation)
        if reason is not None:
            raise IncompatibleAttack(f"a snapshot cannot be solved for: {reason}", fix="use 'dlg'")

    def missing(self, view: View, challenge: InversionChallenge) -> str | None:
        """The architecture, an update that contains the target, the model that it starts from, or a single record."""
        if challenge.n_records != 1:
            return f"client {challenge.target} has {challenge.n_records} records, whose snapshots mix"
        return missing_architecture(view) or missing_observation(view, challenge.target)

    def run(self, view: View, challenge: InversionChallenge) -> InversionClaim:
        """The record whose encoded state solves the rounds best."""
        seen = observe_rounds(view, challenge.target)[: self.max_rounds]
        points = snapshot_points(
            view.granted.model,
            seen,
            feature_range=challenge.feature_range,
            generator=challenge.generator("snapshot"),
            encoder=self.encoder,
        )
        return _better(view.granted.model, seen, points, challenge)


def no_snapshot(model: Model, training: FederationConfig) -> str | None:
    """Why the update of one record is not linear in an encoded state; None where it is."""
    if training.preconditioned is not None:
        return "an update is a gradient times a matrix that depends on the records"
    if training.optimizer != "sgd" or training.uses != 1 or training.keeps_state:
        return "an update is more than one plain gradient step"
    circuit = circuit_of(model)
    if isinstance(model, Hybrid) or circuit is None:
        return "the model has classical layers or shows no circuit (for one record, use 'first-layer')"
    if len(circuit.observables) > 1:
        return "a record's residual is a number for each of several measured values"
    structure = structure_of(circuit)
    if isinstance(structure, str):
        return structure
    return None if circuit.n_weights else "the circuit has no weights"


def snapshot_points(
    model: Model,
    seen: Sequence[Observation],
    *,
    feature_range: tuple[float, float],
    generator: torch.Generator,
    encoder: bool = True,
) -> Tensor:
    """Records whose encoded states solve the rounds, one for either sign of the residuals.

    Args:
        model: The model, for which :func:`no_snapshot` gives no reason.
        seen: The rounds.
        feature_range: Where features lie.
        generator: Of the search for a record of that state.
        encoder: Whether what can be an encoded state is used.

    Shapes:
        returns: ``(2, F)``, in the feature range

    Raises:
        ConfigError: There are too many unknowns.
    """
    circuit = circuit_of(model)
    assert circuit is not None  # no_snapshot() says so
    structure = structure_of(circuit)
    assert not isinstance(structure, str)
    shown = Shown.of(structure, encoder=encoder)
    if shown.unknowns > MAX_UNKNOWNS:
        raise ConfigError(
            "too many unknowns to solve for", got=shown.unknowns, expected=f"at most {MAX_UNKNOWNS}"
        )
    rows = [shown.derivatives(one.params)[:, 0] for one in seen]
    found = solve_snapshot(rows, [-one.update.double().numpy() for one in seen])
    points = invert_encoder(shown, found.direction, feature_range, generator)
    return into_range(points, feature_range, angles=model.angle_features)


def _better(
    model: Model, seen: Sequence[Observation], points: Tensor, challenge: InversionChallenge
) -> InversionClaim:
    """Of the two signs and all labels, what explains the first round best."""
    first, rate = seen[0], challenge.training.rate(seen[0].round)
    matching = Matching(
        model=model,
        params=first.params.double(),
        observed=-first.update.double() / rate,
        rule=LocalRule(learning_rate=rate),
        match="cosine",
        execution=Execution(dtype="complex128"),
    )
    labels = torch.arange(model.n_classes).repeat(len(points))[:, None]
    guesses = points.repeat_interleave(model.n_classes, dim=0)[:, None, :]
    objectives = matching.objective(guesses, labels)
    best = int(objectives.argmin())
    return InversionClaim(
        features=guesses[best].float(), labels=labels[best], objective=float(objectives[best])
    )

"""Circuits: what their gradients determine, and whether an attack of the lab rebuilds records from updates."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qflsec.audit.check import Bench, Check, NotApplicable
from qflsec.audit.classes import Classes
from qflsec.audit.outcome import Finding
from qflsec.audit.parts import CircuitModel, Data
from qflsec.base import CheckCard, Source, register

if TYPE_CHECKING:
    from qflsec.accounting.statistics import Estimate
    from qflsec.attacks import Inference
    from qflsec.federation import Pipeline
    from qflsec.models import Model

__all__ = ["GradientsDetermineRecords", "UpdatesRevealRecords", "UpdatesTellShares", "as_pipeline"]

_CLIENTS, _SEEDS = 5, 3
_TELLING = 0.2
_WORST_CONDITION = 1e6


@register("check", "gradients-determine-records")
class GradientsDetermineRecords(Check):
    """The certificate of the circuit: rank and condition of what one gradient says of a record."""

    looks_at = CircuitModel
    weight = 2.0
    card = CheckCard(
        name="gradients-determine-records",
        idea="Take the rank of the derivative of one record's gradient in its features.",
        source=Source(
            paper="Heredge et al., Prospects of privacy advantage in quantum machine learning, arXiv:2405.08801",
            year=2024,
            where="theorem 1",
        ),
        title="one exact gradient determines a record",
        severity="warning",
        proves="Every feature of a record changes its gradient, each in a way of its own.",
        cannot=(
            "That a search finds the record is another check.",
            "What one gradient does not determine, several rounds may.",
        ),
        consequence="A server that sees a single exact update of one record has enough to rebuild it.",
        remedy="Aggregate securely or use DP-SGD; shots alone make it dearer, not impossible.",
    )

    def run(self, part: CircuitModel, bench: Bench) -> Iterator[Finding]:
        """Rank and condition."""
        from qflsec.attacks.inversion.leak import certify

        low, high = _range(part.data)
        tangent = certify(part.model, seed=bench.seed, feature_range=(low, high), max_rounds=1).tangent
        bench.measured.update(
            {"rank": tangent.rank, "features": tangent.unknowns, "condition": float(tangent.condition)}
        )
        if tangent.rank == tangent.unknowns and tangent.condition < _WORST_CONDITION:
            yield Finding(
                what=f"the derivative has rank {tangent.rank} of {tangent.unknowns} and condition {tangent.condition:.3g}",
                evidence={
                    "rank": tangent.rank,
                    "features": tangent.unknowns,
                    "condition": float(tangent.condition),
                },
                reproduction="qflsec leak, with this circuit as the model of a pipeline",
            )


@register("check", "updates-reveal-records")
class UpdatesRevealRecords(Check):
    """Gradient matching against a federation of this circuit on these records, as the lab scores it."""

    looks_at = CircuitModel
    weight = 8.0
    card = CheckCard(
        name="updates-reveal-records",
        idea="Train the circuit with five clients of one record each, and rebuild a record from a client's update.",
        source=Source(
            paper="Zhu, Liu, Han, Deep leakage from gradients, arXiv:1906.08935",
            year=2019,
            where="algorithm 1",
        ),
        title="the server rebuilds records from updates",
        severity="warning",
        proves="Over three seeds the rebuilt records were nearer than guesses: the lower limit of the advantage is above 0.2.",
        cannot=(
            "Clients had one record and made one step; more of either makes it harder, not safe.",
            "An attack that fails proves nothing.",
        ),
        consequence="Whoever sees single updates, the server or an open network, reads training records.",
        remedy="Aggregate securely, so that the server sees sums of many clients, or use DP-SGD.",
    )

    def run(self, part: CircuitModel, bench: Bench) -> Iterator[Finding]:
        """The lab's advantage over the seeds."""
        from qflsec.attacks.inversion import DeepLeakage

        found = _advantage(DeepLeakage(), part, bench)
        if found.low > _TELLING:
            yield Finding(
                what=f"gradient matching reaches an advantage of {found.value:.2f} [{found.low:.2f}, {found.high:.2f}] over "
                f"{_SEEDS} seeds; 1 is every record, 0 a guess",
                evidence={"advantage": found.value, "low": found.low, "high": found.high},
                reproduction="attack 'dlg' of 'qflsec matrix run', with this circuit and these records",
            )


@register("check", "updates-tell-shares")
class UpdatesTellShares(Check):
    """The share of a class at each client, off its updates, as the lab scores it."""

    looks_at = CircuitModel
    weight = 8.0
    card = CheckCard(
        name="updates-tell-shares",
        idea="Train the circuit with ten clients of unequal classes, and read the share of class 1 off each update.",
        source=Source(
            paper="Melis et al.: Exploiting unintended feature leakage in collaborative learning, arXiv:1805.04049",
            year=2019,
            where="section V",
        ),
        title="the server reads off what share of a client's records is of a class",
        severity="warning",
        proves="Over three seeds clients with more of the class scored higher: the lower limit of the advantage is above 0.2.",
        cannot=(
            "Clients had six records on average, dealt unevenly, and made one step in each of two rounds.",
            "Other properties than the share of a class are not probed.",
        ),
        consequence="A property of a whole client, such as how often a clinic sees a disease, leaves it with every update.",
        remedy="Aggregate securely; noise for single records does not hide what a whole client has.",
    )

    def run(self, part: CircuitModel, bench: Bench) -> Iterator[Finding]:
        """The lab's advantage over the seeds."""
        from qflsec.attacks.property import LabelSkew

        found = _advantage(LabelSkew(), part, bench, _MANY)
        if found.low > _TELLING:
            yield Finding(
                what=f"the probe tells clients with more records of class 1 with an advantage of {found.value:.2f} "
                f"[{found.low:.2f}, {found.high:.2f}] over {_SEEDS} seeds; 1 is every pair, 0 a guess",
                evidence={"advantage": found.value, "low": found.low, "high": found.high},
                reproduction="attack 'label-skew' of 'qflsec matrix run', with this circuit and these records",
            )


@dataclass(frozen=True, kw_only=True)
class _Split:
    """How records are dealt to a federation that is attacked."""

    clients: int
    members: int
    auxiliary: int
    partition: str = "iid"
    min_records: int = 1


_ONE_EACH = _Split(clients=_CLIENTS, members=_CLIENTS, auxiliary=_CLIENTS)
_MANY = _Split(clients=10, members=60, auxiliary=20, partition="dirichlet", min_records=2)


def _advantage(attack: Inference, part: CircuitModel, bench: Bench, split: _Split = _ONE_EACH) -> Estimate:
    """The advantage of an attack by the server on a federation of a circuit, over the seeds; it is measured too.

    Raises:
        NotApplicable: The pipeline gives too few records, or the attack is blocked.
    """
    from qflsec.accounting.statistics import mean_over_seeds
    from qflsec.attacks import Blocked
    from qflsec.federation import RunSpec, Stack, run_batch
    from qflsec.lab.challenges import challenge_for
    from qflsec.lab.scoring import score_claim
    from qflsec.threat import honest_but_curious_server

    if part.data is None:
        raise NotApplicable("the pipeline gives no records")
    server, scores = honest_but_curious_server(), []
    with tempfile.TemporaryDirectory() as folder:
        pipeline = as_pipeline(part.model, part.data, Path(folder), split)
        seeds = range(bench.seed, bench.seed + _SEEDS)
        runs = run_batch(pipeline, Stack(name="none"), [RunSpec(seed=seed) for seed in seeds])
        for seed, run in zip(seeds, runs, strict=True):
            question, truth = challenge_for(attack, run, seed=seed, threat=server)
            claim = attack(run.view(server), question)
            if isinstance(claim, Blocked):
                raise NotApplicable(claim.reason)
            scores.append(float(score_claim(claim, truth).advantage))
    if not np.isfinite(scores).all():
        raise NotApplicable("in one of the seeds all clients have the same classes")
    found = mean_over_seeds(scores)
    bench.measured.update({"advantage": found.value, "low": found.low, "high": found.high, "seeds": _SEEDS})
    return found


def as_pipeline(model: Model, data: Data, folder: Path, split: _Split = _ONE_EACH) -> Pipeline:
    """A federation of a model on records as they are: two rounds of one plain step.

    Args:
        model: The model.
        data: The records; their values are not scaled.
        folder: Where the records are written to.
        split: How they are dealt; by default five clients of one record.

    Raises:
        NotApplicable: There are too few records.
    """
    from qflsec.data import DataSpec, PartitionSpec
    from qflsec.federation import FederationConfig, Pipeline

    features, labels = data.train
    rows = np.unique(
        np.asarray(features, dtype=np.float32).reshape(len(features), -1), axis=0, return_index=True
    )[1]
    needed = split.members + split.auxiliary + 2 * _CLIENTS
    if len(rows) < needed:
        raise NotApplicable(f"{len(rows)} different records are too few, {needed} are needed")
    flat = np.asarray(features, dtype=float).reshape(len(features), -1)[rows]
    low, high = _range(data)
    path = folder / "records.npz"
    columns = {f"feature_{index}": column for index, column in enumerate(flat.T)}
    np.savez(path, label=Classes.of(labels).numbers(labels)[rows], **columns)
    spec = DataSpec(
        name="numpy", path=str(path), label_column="label", n_features=flat.shape[1], reduction="none",
        preprocessing="fixed-range", ranges=((low, high),) * flat.shape[1], feature_range=(low, high),
        members=split.members, nonmembers=_CLIENTS, auxiliary=split.auxiliary, test=_CLIENTS,
    )  # fmt: skip
    return Pipeline(
        data=spec,
        model=model,
        partition=PartitionSpec(kind=split.partition, min_records=split.min_records),
        federation=FederationConfig(n_clients=split.clients, rounds=2, learning_rate=0.1),
    )


def _range(data: Data | None) -> tuple[float, float]:
    """Where features lie; a turn where nothing says so."""
    if data is None:
        return 0.0, float(np.pi)
    features = np.asarray(data.train[0], dtype=float)
    low, high = float(features.min()), float(features.max())
    return (low, high) if low < high else (low, low + 1.0)

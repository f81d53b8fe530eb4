"""Shadow models as a stage of the plan: trained once, stored, and shared by attacks and stacks.

A set is identified by all that it is made from: the pipeline, the defenses where the adversary knows them, the
records that it was granted, the seed and the number. A trainer finds a stored set by the digest of what it is asked
to train on, so that no attack can be handed models that were trained on what its own adversary was not granted.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from qflsec.attacks import (
    ClientMembershipChallenge,
    Inference,
    MembershipChallenge,
    ShadowRequest,
    TracingTrainer,
)
from qflsec.attacks.shadows import Question, shadow_sets
from qflsec.data import Dataset, load
from qflsec.federation import Pipeline, Stack
from qflsec.federation.round.lanes import lane_of
from qflsec.federation.shadows import ShadowTrainer
from qflsec.lab.challenges import draw_candidates
from qflsec.lab.client_challenges import draw_client_sets
from qflsec.lab.grid.estimate import duration
from qflsec.lab.grid.ids import canonical
from qflsec.lab.grid.units import Row, Unit
from qflsec.lab.worlds.federation.matrix import AttackEntry, Matrix
from qflsec.lab.worlds.federation.size import record_seconds, size_of
from qflsec.threat import Records

__all__ = [
    "PlannedShadows",
    "SharedTrainer",
    "candidates_of",
    "planned_shadows",
    "shadow_remarks",
    "stored_models",
    "train_planned",
]


@dataclass(frozen=True, kw_only=True)
class PlannedShadows(Unit):
    """A set of shadow models to be trained.

    Attributes:
        pipeline: The pipeline's name.
        stack: The name of the stack that the adversary knows; empty where it knows none.
        request: What is asked for.
        auxiliary: Whether the adversary has the auxiliary records.
        corrupted: The corrupted clients, whose records are no candidates.
    """

    stage: str = "shadows"
    pipeline: str
    stack: str
    request: ShadowRequest
    auxiliary: bool
    corrupted: tuple[int, ...]


def planned_shadows(matrix: Matrix, entry: AttackEntry, stack: str, seed: int) -> PlannedShadows | None:
    """The shadow models that an attack uses on a stack; None where it uses none, or is blocked without them."""
    request = entry.attack.shadow_request() if isinstance(entry.attack, Inference) else None
    threat = entry.threat.at(seed)
    if request is not None:
        request = replace(request, every_round=_every_round(matrix, entry.pipeline, request))
    if request is None or "architecture" not in threat.knows:
        return None
    auxiliary = "auxiliary" in threat.knows and matrix.pipelines[entry.pipeline].data.auxiliary > 0
    if not (request.online or auxiliary):
        return None
    known = stack if "defenses" in threat.knows else ""
    return PlannedShadows(
        seed=seed,
        identity={
            "shadows": asdict(request),
            "auxiliary": auxiliary,
            "corrupted": list(threat.clients),
            "trained": matrix.run_identity(entry.pipeline, known, seed, None),
        },
        pipeline=entry.pipeline,
        stack=known,
        request=request,
        auxiliary=auxiliary,
        corrupted=threat.clients,
    )


def _every_round(matrix: Matrix, pipeline: str, request: ShadowRequest) -> bool:
    """Whether any attack on the pipeline wants the models of every round of such a set: then it serves all."""
    others = [
        entry.attack.shadow_request()
        for entry in matrix.attacks
        if entry.pipeline == pipeline and isinstance(entry.attack, Inference)
    ]
    return any(
        other is not None
        and other.every_round
        and replace(other, every_round=False) == replace(request, every_round=False)
        for other in others
    )


def shadow_remarks(matrix: Matrix, sets: Iterable[PlannedShadows]) -> tuple[str, ...]:
    """What shadow models cost where each of them is trained by the user's own code, a sentence for each pipeline.

    Args:
        matrix: The matrix.
        sets: Every set of it, each once.
    """
    counts: dict[str, int] = {}
    for unit in sets:
        counts[unit.pipeline] = counts.get(unit.pipeline, 0) + unit.request.count
    found = []
    for name, count in counts.items():
        pipeline = matrix.pipelines[name]
        if record_seconds(pipeline.model) is not None:
            seconds = count * size_of(pipeline, lanes=1).cpu_seconds
            found.append(
                f"{name}: {count} shadow models are trained by the model's own code, outside the kernel: about "
                f"{duration(seconds)} of processor time by the model of its cost; fewer 'shadows' of the attacks take less"
            )
    return tuple(found)


def train_planned(matrix: Matrix, unit: PlannedShadows) -> Row:
    """Train a set and put it into a row."""
    started = time.process_time()
    pipeline = matrix.pipelines[unit.pipeline]
    dataset = load(pipeline.data, unit.seed)
    question = _question(pipeline, dataset, unit)
    own = _take(dataset, dataset.auxiliary_idx) if unit.auxiliary else None
    pool, members = shadow_sets(question, own, unit.request)
    defenses = matrix.column(unit.pipeline, unit.stack).stack if unit.stack else None
    trainer = ShadowTrainer(pipeline=pipeline, like=dataset, seed=unit.seed)
    params = (trainer.trace if unit.request.every_round else trainer)(pool, members, defenses)
    values = params.numpy().astype("<f4")
    content = {
        "asked": _digest(pool, members, defenses),
        "shape": list(values.shape),
        "params": base64.b64encode(values.tobytes()).decode(),
        "members": base64.b64encode(np.packbits(members.numpy()).tobytes()).decode(),
    }
    return unit.row("completed", content, seconds=time.process_time() - started)


def _question(pipeline: Pipeline, dataset: Dataset, unit: PlannedShadows) -> Question:
    """What every attack that uses the set will be asked."""
    if not unit.request.clients:
        candidates = candidates_of(pipeline, dataset, unit.seed, corrupted=unit.corrupted)
        return MembershipChallenge(
            seed=unit.seed, attack="", candidates=candidates, n_members=len(dataset.member_idx)
        )
    held = [one for one in _held(pipeline, dataset, unit.seed, unit.corrupted) if len(one.labels)]
    return ClientMembershipChallenge(
        seed=unit.seed,
        attack="",
        training=pipeline.federation,
        candidates=draw_client_sets(held, _take(dataset, dataset.nonmember_idx), unit.seed)[0],
        n_members=len(dataset.member_idx),
    )


def candidates_of(pipeline: Pipeline, dataset: Dataset, seed: int, *, corrupted: Collection[int]) -> Records:
    """The records that a membership attack on a run will be asked about, before there is a run.

    Args:
        pipeline: The pipeline.
        dataset: Its data, as the seed splits them.
        seed: The seed of the run.
        corrupted: The corrupted clients, whose records are no candidates.
    """
    held = _held(pipeline, dataset, seed, corrupted)
    canaries = _take(dataset, dataset.canary_idx)
    return draw_candidates(held, _take(dataset, dataset.nonmember_idx), seed, canaries=canaries)[0]


def _held(pipeline: Pipeline, dataset: Dataset, seed: int, corrupted: Collection[int]) -> list[Records]:
    """The records of each honest client."""
    clients = lane_of(pipeline, dataset, seed).clients
    return [_take(dataset, rows) for index, rows in enumerate(clients) if index not in corrupted]


def _take(dataset: Dataset, rows: torch.Tensor) -> Records:
    features, labels = dataset.take(rows)
    return Records(features=features, labels=labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedTrainer:
    """A trainer that looks up what a stage has trained already, and trains what it has not.

    Attributes:
        trainer: Who trains.
        stored: Stored models, by the digest of what they were trained on: the last, or those of every round.

    Shapes:
        stored: ``(s, P)`` or ``(s, round + 1, P)`` each
    """

    trainer: TracingTrainer
    stored: Mapping[str, torch.Tensor]

    def __call__(self, pool: Records, members: torch.Tensor, defenses: Stack | None = None) -> torch.Tensor:
        """The models that were stored for exactly this, or new ones."""
        found = self.stored.get(_digest(pool, members, defenses)) if self.stored else None
        if found is None:
            return self.trainer(pool, members, defenses)
        return (found[:, -1] if found.dim() == 3 else found).clone()

    def trace(self, pool: Records, members: torch.Tensor, defenses: Stack | None = None) -> torch.Tensor:
        """The models of every round that were stored for exactly this, or new ones."""
        found = self.stored.get(_digest(pool, members, defenses)) if self.stored else None
        return (
            self.trainer.trace(pool, members, defenses)
            if found is None or found.dim() == 2
            else found.clone()
        )


def stored_models(row: Row) -> dict[str, torch.Tensor]:
    """The models in a row, by the digest of what they were trained on; none where training failed, so that who needs them trains."""
    return {str(row.content["asked"]): _params(row)} if row.status == "completed" else {}


def _params(row: Row) -> torch.Tensor:
    values = np.frombuffer(base64.b64decode(row.content["params"]), dtype="<f4")
    return torch.from_numpy(values.reshape(row.content["shape"]).astype(np.float32))


def _digest(pool: Records, members: torch.Tensor, defenses: Stack | None) -> str:
    sha = hashlib.sha256()
    for tensor in (pool.features, pool.labels, members):
        sha.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        sha.update(np.ascontiguousarray(tensor.numpy()).tobytes())
    # a stack without layers trains as nobody's stack does
    layers = [] if defenses is None else [layer.to_config() for layer in defenses.layers]
    sha.update(canonical(layers).encode())
    return sha.hexdigest()

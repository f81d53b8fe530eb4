"""The same federation on several platforms: the first rounds of a star, from the same seed, records and circuit.

Each platform trains by plain gradient descent and weighted means, written out here, or by the run loop with one option of
its execution changed. The reference is the run loop in double precision by the torch kernel.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from qflsec.base import ConfigError
from qflsec.circuits import Circuit, NoiseModel
from qflsec.circuits.to_pennylane import to_qnode
from qflsec.federation import Pipeline, RunResult, RunSpec, Stack
from qflsec.federation.loop import run_batch
from qflsec.models import Execution, Vqc
from qflsec.models.vqc import scores_to_logits

if TYPE_CHECKING:
    from qiskit.quantum_info import SparsePauliOp

__all__ = ["PLATFORMS", "ROUNDS", "Platform", "PlatformRow", "measure_platforms"]

ROUNDS = 2
_SHOTS = 1000
_QUARTER = math.pi / 2
Scores = Callable[[Tensor, Tensor], Tensor]
"""Measured values ``(n,)`` of weights ``(P,)`` and features ``(n, F)``, differentiable in the weights."""


@dataclass(frozen=True, kw_only=True)
class Platform:
    """A way to compute the same federation.

    Attributes:
        name: Its name.
        tolerance: How far the trained parameters may lie from the reference (radians, in any coordinate), where it is
            exact; None where noise or shots move them.
        execution: What the run loop executes with; None where the loop is written out.
    """

    name: str
    tolerance: float | None
    execution: Execution | None = None


PLATFORMS = (
    Platform(name="compiled kernel", tolerance=1e-4, execution=Execution(executor="compiled")),
    Platform(name="torch kernel", tolerance=1e-4, execution=Execution(executor="torch")),
    Platform(name="PennyLane, default.qubit", tolerance=1e-4),
    Platform(name="Qiskit, Statevector", tolerance=1e-4),
    Platform(
        name="depolarised by 0.03 after every gate",
        tolerance=None,
        execution=Execution(noise=NoiseModel(kind="local-depolarizing", p=0.03, where="every-gate")),
    ),
    Platform(name=f"{_SHOTS} shots", tolerance=None, execution=Execution(shots=_SHOTS)),
)
_REFERENCE = Execution(dtype="complex128", executor="torch")


@dataclass(frozen=True, kw_only=True)
class PlatformRow:
    """One platform and one seed.

    Attributes:
        platform: The platform's name.
        seed: The seed.
        tolerance: That of the platform.
        moved: The largest difference of a trained parameter to the reference (radians).
        answers: The share of the test records that get the reference's answer.
        seconds: Processor time.
        ratio: Processor time over that of the torch kernel in single precision.
    """

    platform: str
    seed: int
    tolerance: float | None
    moved: float
    answers: float
    seconds: float
    ratio: float


def measure_platforms(pipeline: Pipeline, seeds: Sequence[int]) -> tuple[PlatformRow, ...]:
    """Train on every platform, for each seed.

    Args:
        pipeline: A star of plain clients with a variational circuit, full batches and plain SGD.
        seeds: The seeds.

    Raises:
        ConfigError: The pipeline is another.
    """
    model = pipeline.model
    config = pipeline.federation
    if not isinstance(model, Vqc) or len(model.circuit.observables) != 1 or config.local_steps != 1:
        raise ConfigError(
            "platforms are compared on one step of a variational circuit that measures one value",
            got=f"{model.name}, {config.local_steps} steps",
            fix="name a pipeline with model 'vqc' and local_steps = 1",
        )
    short = replace(pipeline, federation=replace(config, rounds=ROUNDS))
    found: list[PlatformRow] = []
    for seed in seeds:
        reference = _run(short, _REFERENCE, seed)[0]
        made = [_made(short, platform, reference, seed) for platform in PLATFORMS]
        torch_seconds = made[1][1]
        for platform, (params, seconds) in zip(PLATFORMS, made, strict=True):
            found.append(
                PlatformRow(
                    platform=platform.name,
                    seed=seed,
                    tolerance=platform.tolerance,
                    moved=float((params.double() - reference.params.double()).abs().max()),
                    answers=_same_answers(reference, params),
                    seconds=seconds,
                    ratio=seconds / torch_seconds,
                )
            )
    return tuple(found)


def _made(pipeline: Pipeline, platform: Platform, like: RunResult, seed: int) -> tuple[Tensor, float]:
    """The trained parameters and the processor time; what is compiled or loaded once is not counted."""
    if platform.execution is not None:
        once = replace(pipeline, federation=replace(pipeline.federation, rounds=1))
        _run(once, platform.execution, seed)
        run, seconds = _run(pipeline, platform.execution, seed)
        return run.params, seconds
    assert isinstance(like.pipeline.model, Vqc)
    circuit = like.pipeline.model.circuit
    scores = _pennylane(circuit) if platform.name.startswith("PennyLane") else _qiskit(circuit)
    features = like.dataset.features[like.clients[0][:1]].double()
    scores(like.initial.double(), features)
    started = time.process_time()
    params = _trained(like, scores)
    return params, time.process_time() - started


def _run(pipeline: Pipeline, execution: Execution, seed: int) -> tuple[RunResult, float]:
    started = time.process_time()
    made = run_batch(replace(pipeline, execution=execution), Stack(name="none"), [RunSpec(seed=seed)])[0]
    return made, time.process_time() - started


def _trained(like: RunResult, scores: Scores) -> Tensor:
    """Federated averaging written out: a full-batch step at each client, and the mean by numbers of records."""
    model = like.pipeline.model
    assert isinstance(model, Vqc)
    params = like.initial.double()
    counts = torch.tensor([float(len(rows)) for rows in like.clients], dtype=torch.float64)
    for _ in range(like.training.rounds):
        steps = []
        for rows in like.clients:
            features, labels = like.dataset.take(rows)
            leaf = params.clone().requires_grad_()
            logits = scores_to_logits(scores(leaf, features.double())[:, None], model.scale, model.loss)
            loss = torch.nn.functional.cross_entropy(logits, labels)
            steps.append(torch.autograd.grad(loss, leaf)[0])
        gradient = (torch.stack(steps) * counts[:, None]).sum(dim=0) / counts.sum()
        params = params - like.training.learning_rate * gradient
    return params


def _same_answers(reference: RunResult, params: Tensor) -> float:
    model, records = reference.pipeline.model, reference.records("test")
    execution = Execution(dtype="complex128")
    answers = [
        model(one.double(), records.features.double(), execution=execution).argmax(dim=-1)
        for one in (reference.params, params)
    ]
    return float((answers[0] == answers[1]).double().mean())


def _pennylane(circuit: Circuit) -> Scores:
    node = to_qnode(circuit, interface="torch", diff_method="backprop")
    shape = circuit.weight_shape or (circuit.n_weights,)

    def scores(weights: Tensor, features: Tensor) -> Tensor:
        found: Tensor = node(features, weights.reshape(shape))
        return found

    return scores


def _qiskit(circuit: Circuit) -> Scores:
    from qflsec.circuits.to_qiskit import qiskit_observables

    observable = qiskit_observables(circuit)[0]

    class Measured(torch.autograd.Function):
        """Values of state vectors, and derivatives by the parameter-shift rule."""

        @staticmethod
        def forward(ctx: Any, weights: Tensor, features: Tensor) -> Tensor:  # noqa: ANN401 - torch's own
            ctx.save_for_backward(weights, features)
            return _values(circuit, observable, weights, features)

        @staticmethod
        def backward(ctx: Any, *given: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - torch's own
            weights, features = ctx.saved_tensors
            columns = []
            for index in range(len(weights)):
                shift = torch.zeros_like(weights)
                shift[index] = _QUARTER
                up, down = (_values(circuit, observable, weights + s, features) for s in (shift, -shift))
                columns.append(((up - down) / 2 * given[0]).sum())
            return torch.stack(columns), None

    def scores(weights: Tensor, features: Tensor) -> Tensor:
        found: Tensor = Measured.apply(weights, features)  # type: ignore[no-untyped-call]  # torch's own
        return found

    return scores


def _values(circuit: Circuit, observable: SparsePauliOp, weights: Tensor, features: Tensor) -> Tensor:
    from qiskit.quantum_info import Statevector

    from qflsec.circuits.to_qiskit import to_qiskit

    with torch.no_grad():
        states = [Statevector(to_qiskit(circuit, weights, row)) for row in features]
    values = [float(state.expectation_value(observable).real) for state in states]
    return torch.tensor(values, dtype=torch.float64)

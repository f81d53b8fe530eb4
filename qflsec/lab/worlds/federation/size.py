"""What runs of a pipeline cost: memory by a model, time by the same model or by short runs.

The model counts what grows: every gate turns every amplitude of every record once forward and once back, and
every message stays in the transcript. Its constants were fitted to runs of 4 to 14 qubits on one core, and its
figures are good to a factor of three or so. What layers and attacks do beside training is not in it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from qflsec.base import ConfigError
from qflsec.federation import Pipeline, RunSpec, Stack
from qflsec.federation.loop import run_batch
from qflsec.federation.round.session import SecretsMode
from qflsec.lab.grid.estimate import machine_memory, refuse_memory, volume
from qflsec.models import Model

__all__ = ["Size", "measured_seconds", "record_seconds", "refuse_pipeline", "refuse_table", "size_of"]

MAX_GATES = 1_000_000
"""Gates of a circuit: compiling more would take minutes before the first step."""
_AMPLITUDE_BYTES = 8
_STATES = 4.0
_STATES_PER_GATE = 0.4
_GATE_BYTES = 4_000
_WORKER_BYTES = 4e8
_TURN_SECONDS = 3e-9
_GATE_SECONDS = 8e-6
_STEP_SECONDS = 2e-3
_COMPILE_SECONDS = 1.6e-4
_PENNYLANE_SECONDS = 3e-3
_SHORT_ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a batch of runs of a pipeline asks for, by the model.

    Attributes:
        memory_bytes: Memory of a worker with one batch.
        cpu_seconds: Processor time of one run.
    """

    memory_bytes: float
    cpu_seconds: float


def refuse_table(model: Mapping[str, Any]) -> None:
    """Refuse a model's table that no machine like this could build, before it is built.

    Args:
        model: The table; only whole numbers ``n_qubits`` and ``layers`` are looked at.

    Raises:
        ConfigError: A single state does not fit into the memory, or the circuit has too many gates.
    """
    qubits, layers = model.get("n_qubits"), model.get("layers", 1)
    if not isinstance(qubits, int) or not isinstance(layers, int) or qubits < 1:
        return  # the model says what is wrong
    memory = machine_memory()
    largest = int(math.log2(memory / (_STATES * _AMPLITUDE_BYTES)))
    if qubits > largest:
        state = volume(_AMPLITUDE_BYTES * 2.0**qubits) if qubits < 1000 else "more than any machine has"
        raise ConfigError(
            f"a state of {qubits} qubits does not fit into the memory of this machine",
            got=state,
            expected=f"at most {largest} qubits in {volume(memory)}",
            fix="lower 'n_qubits'",
        )
    gates = 2 * qubits * layers
    if gates > MAX_GATES:
        raise ConfigError(
            f"a circuit of {layers:,} layers is too large to be compiled",
            got=f"about {gates:,} gates",
            expected=f"at most {MAX_GATES:,}",
            fix="lower 'layers'",
        )


def refuse_pipeline(pipeline: Pipeline) -> None:
    """Refuse a pipeline of which not even one run fits, before a plan lists its parties and records.

    Raises:
        ConfigError: It does not fit.
    """
    refuse_memory(size_of(pipeline, lanes=1).memory_bytes)


def size_of(pipeline: Pipeline, *, lanes: int) -> Size:
    """The model's figures.

    Args:
        pipeline: The pipeline.
        lanes: Runs of a batch that are computed side by side.

    Raises:
        ConfigError: The circuit has too many gates.
    """
    config, data = pipeline.federation, pipeline.data
    circuit: Any = getattr(pipeline.model, "circuit", None)
    gates = 0 if circuit is None else len(circuit.gates)
    if gates > MAX_GATES:
        raise ConfigError(
            "the circuit is too large to be compiled",
            got=f"{gates:,} gates",
            expected=f"at most {MAX_GATES:,}",
        )
    executions = [pipeline.execution_of(index) for index in _clients(pipeline)]
    noisy = any(noise is not None for noise in (pipeline.model.noise, *(one.noise for one in executions)))
    amplitudes = 0.0 if circuit is None else 2.0 ** (circuit.n_qubits * (2 if noisy else 1))
    records = config.batch_size or math.ceil(data.members / config.n_clients)
    steps = config.steps(math.ceil(data.members / config.n_clients))
    rows = config.n_participants * records
    numbers = 2 * pipeline.model.n_params + pipeline.workload.beside
    messages = config.rounds * config.n_participants * numbers * 4
    states = rows * (_STATES + _STATES_PER_GATE * gates) + data.test * _STATES
    measured = record_seconds(pipeline.model)
    step = (
        rows * measured
        if measured is not None
        else rows * gates * amplitudes * _TURN_SECONDS + (_STEP_SECONDS + gates * _GATE_SECONDS) / lanes
    )
    models = pipeline.topology.nodes(config.n_clients)
    test = models * data.test * gates * amplitudes * _TURN_SECONDS / 3
    return Size(
        memory_bytes=_WORKER_BYTES
        + lanes * (states * amplitudes * _AMPLITUDE_BYTES + messages)
        + gates * _GATE_BYTES,
        cpu_seconds=config.rounds * (steps * step + test + _STEP_SECONDS) + gates * _COMPILE_SECONDS,
    )


def record_seconds(model: Model) -> float | None:
    """Processor time of a record's value and gradient, of a model that is the user's own code; None for others."""
    if model.name == "torch":
        from qflsec.models import TorchModel  # what reads users' modules is imported where there is one

        assert isinstance(model, TorchModel)
        return model.call.milliseconds / 1e3
    outside = model.name == "qnode" and getattr(model, "circuit", None) is None
    return _PENNYLANE_SECONDS if outside else None


def _clients(pipeline: Pipeline) -> set[int]:
    """One client for each way of executing."""
    usual = next((i for i in range(pipeline.federation.n_clients) if i not in pipeline.client_executions), 0)
    return {usual, *pipeline.client_executions}


def measured_seconds(
    pipeline: Pipeline, stack: Stack | None, *, seed: int, lanes: int, secrets: SecretsMode
) -> float:
    """Processor time of one run, from runs of a few rounds that share a batch.

    Args:
        pipeline: The pipeline.
        stack: The stack; None for no layers.
        seed: The first seed.
        lanes: Runs that share a batch.
        secrets: How keys are drawn.

    Units:
        seconds
    """
    stack = stack or Stack(name="none")
    rounds = min(_SHORT_ROUNDS, pipeline.federation.rounds)
    short = replace(pipeline, federation=replace(pipeline.federation, rounds=rounds))
    first = replace(pipeline, federation=replace(pipeline.federation, rounds=1))
    run_batch(first, stack, [RunSpec(seed=seed)], secrets=secrets)  # compiles and loads
    started = time.process_time()
    run_batch(short, stack, [RunSpec(seed=seed + lane) for lane in range(lanes)], secrets=secrets)
    return (time.process_time() - started) / lanes * pipeline.federation.rounds / rounds

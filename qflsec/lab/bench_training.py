"""Whole local training, compiled in one call, against the torch kernel's loop over steps."""

from __future__ import annotations

from collections.abc import Callable

import torch

from qflsec.circuits.bench import BATCH, LAYERS, bench_data, bench_weights, least_costs, one_thread
from qflsec.circuits.bench_compiled import KernelRow, kernel_row
from qflsec.circuits.executors import Executor, executor_name
from qflsec.data import DataSpec
from qflsec.defenses.privacy import DpSgd
from qflsec.federation import FederationConfig, GradientLayer, Pipeline
from qflsec.federation.round.batches import ClientData, plan_batches
from qflsec.federation.round.local import LocalTraining
from qflsec.federation.streams import RoundStreams
from qflsec.models import Execution, build_model

__all__ = ["bench_training"]

N_QUBITS, CLIENTS, LANES, STEPS = 4, 10, 16, 2


def bench_training(*, repeats: int = 12) -> tuple[KernelRow, ...]:
    """Measure a round's local training without a layer and with DP-SGD: 16 runs, 10 clients, 2 steps, 4 qubits.

    Args:
        repeats: How often each executor is measured.

    Returns:
        Two rows; none where numba is missing.
    """
    if executor_name("auto") == "torch":
        return ()
    cases: dict[str, GradientLayer | None] = {
        "local training": None,
        "local training, DP-SGD": DpSgd(noise_multiplier=1.0),
    }
    rows = []
    with one_thread():
        for name, layer in cases.items():
            steps = {"compiled": _step("compiled", layer), "torch": _step("torch", layer)}
            costs = {kernel: 1e6 * cost for kernel, cost in least_costs(steps, repeats).items()}
            rows.append(kernel_row(name, N_QUBITS, "us", costs))
    return tuple(rows)


def _step(executor: Executor, layer: GradientLayer | None) -> Callable[[], object]:
    config = FederationConfig(n_clients=CLIENTS, local_steps=STEPS, batch_size=None)
    pipeline = Pipeline(
        data=DataSpec(name="breast-cancer", n_features=N_QUBITS),
        model=build_model({"name": "vqc", "n_qubits": N_QUBITS, "layers": LAYERS, "n_features": N_QUBITS}),
        federation=config,
        execution=Execution(executor=executor),
    )
    training = LocalTraining(pipeline=pipeline, layer=layer)
    features, labels = bench_data(N_QUBITS, LANES, CLIENTS, BATCH)
    data = ClientData(features=features, labels=labels.long(), mask=torch.ones(labels.shape))
    params = bench_weights(N_QUBITS, LANES, CLIENTS).detach()
    streams = RoundStreams(list(range(LANES)), 0)
    plan = plan_batches(data, config, streams)
    return lambda: training(params, data, plan, streams, range(CLIENTS))

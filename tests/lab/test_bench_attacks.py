"""What attacks cost: that both sides of a ratio do the same work, and how it is told."""

from __future__ import annotations

import json

import pytest
import torch
from torch.nn.functional import cross_entropy
from typer.testing import CliRunner

from qflsec.cli.app import app
from qflsec.data import DataSpec
from qflsec.federation import FederationConfig, Pipeline
from qflsec.lab import bench_attacks as module
from qflsec.lab.bench_attacks import AttackCost, render_attacks
from qflsec.models import Execution, build_model

pytest.importorskip("numba")

ROWS = (
    AttackCost(name="a", baseline="b", seconds=1.0, baseline_seconds=4.0, target=1 / 3),
    AttackCost(name="c", baseline="d", seconds=3.0, baseline_seconds=2.0, target=1.0),
)


def test_the_kernel_and_pennylane_take_the_steps_of_the_federations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUNDS", 1)
    monkeypatch.setattr(module, "STEPS", 1)
    model = build_model({"name": "vqc", "n_qubits": 2, "layers": 2, "encoder": "reuploading", "scale": 6.0})
    pipeline = Pipeline(
        data=DataSpec(name="breast-cancer", n_features=2),
        model=model,
        federation=FederationConfig(n_clients=module.CLIENTS, learning_rate=module.RATE),
    )
    each = module.MEMBERS // module.CLIENTS
    generator = torch.Generator().manual_seed(1)
    weights = torch.rand(3, model.n_params, generator=generator)
    features = torch.rand(3 * each, 2, generator=generator)
    labels = torch.arange(3 * each) % 2
    own = weights.clone().requires_grad_()
    logits = model(
        own[:, None], features.reshape(3, each, 2), execution=Execution(executor="torch", dtype="complex128")
    )
    loss = cross_entropy(logits.reshape(-1, 2), labels, reduction="sum") / each
    (expected,) = torch.autograd.grad(loss, own)
    (broadcast,) = module._pennylane(pipeline, features, labels, weights)()
    torch.testing.assert_close(broadcast, expected, rtol=1e-4, atol=1e-5)
    moved = module._kernel(pipeline, features, labels, weights)()
    torch.testing.assert_close(weights - moved, module.RATE * expected, rtol=1e-4, atol=1e-5)


def test_the_table_and_the_object(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = render_attacks(ROWS).splitlines()
    assert lines[2] == "| a | b | 1/4.0 | 1/3.0 (met) | 1 | 4 |"
    assert lines[3] == "| c | d | 1.50 | 1.00 (MISSED) | 3 | 2 |"
    monkeypatch.setattr(module, "bench_attacks", lambda **_: ROWS)
    found = CliRunner().invoke(app, ["bench", "attacks", "--json"])
    document = json.loads(found.stdout)
    assert document["schema"] == "qflsec-bench-attacks/1"
    assert [row["met"] for row in document["rows"]] == [True, False]
    assert document["rows"][1]["ratio"] == 1.5

"""``qflsec bench engine``: ratios, and what it refuses."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from qflsec.base import ConfigError
from qflsec.circuits.executors import executor_name
from qflsec.cli.app import app


def test_ratios_are_printed_and_the_kernel_is_faster() -> None:
    run = CliRunner().invoke(app, ["bench", "engine", "--qubits", "4", "--repeats", "1", "--fast", "--json"])
    assert run.exit_code == 0, run.output
    document = json.loads(run.stdout)
    assert document["schema"] == "qflsec-bench-engine/4"
    assert document["first_compile"] is None  # --fast
    assert document["kernel"] == executor_name("auto")
    if document["kernel"] == "compiled":
        assert [row["name"] for row in document["kernels"]] == [
            "one model",
            "per-sample gradients",
            "forward",
            "64 models",
            "local training",
            "local training, DP-SGD",
        ]
        assert all(row["ratio"] < 0.8 for row in document["kernels"])
    assert [row["name"] for row in document["rows"]] == ["one model", "64 models", "per-sample gradients"]
    assert all(row["ratios"]["PennyLane broadcasting"] < 0.5 for row in document["rows"])
    fallbacks = {row["mode"]: row for row in document["fallback"]}
    assert list(fallbacks) == [
        "angles",
        "tapes",
        "tapes-vmap",
        "branches",
        "tapes-kept",
        "tapes-rows",
        "records",
    ]
    assert fallbacks["tapes"]["met"] == (fallbacks["tapes"]["ratio"] <= 5)


@pytest.mark.parametrize("qubits", ["four", "1", "40"])
def test_impossible_sizes_are_refused(qubits: str) -> None:
    run = CliRunner().invoke(app, ["bench", "engine", "--qubits", qubits])
    assert isinstance(run.exception, ConfigError)

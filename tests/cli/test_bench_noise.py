"""``qflsec bench noise``: ratios, stable keys, and what it refuses."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from qflsec.base import ConfigError
from qflsec.cli.app import app

KEYS = {
    "noise",
    "n_qubits",
    "models",
    "ratios",
    "microseconds_per_sample",
    "gradient_difference",
    "targets",
    "met",
}


def test_json_has_stable_keys_and_the_kernel_is_faster() -> None:
    run = CliRunner().invoke(app, ["bench", "noise", "--qubits", "2", "--repeats", "2", "--json"])
    assert run.exit_code == 0, run.output
    document = json.loads(run.stdout)
    assert document["schema"] == "qflsec-bench-noise/2"
    assert [row["models"] for row in document["rows"]] == [1, 1, 16, 16]
    for row in document["rows"]:
        assert set(row) == KEYS
        assert row["n_qubits"] == 2
        assert all(ratio < 1 for ratio in row["ratios"].values())


def test_the_table_is_printed() -> None:
    run = CliRunner().invoke(app, ["bench", "noise", "--qubits", "2", "--repeats", "1"])
    assert run.exit_code == 0, run.output
    assert run.stdout.startswith("| noise | qubits | models | speed-up over torch kernel |")


@pytest.mark.parametrize("qubits", ["four", "1", "40", ""])
def test_impossible_sizes_are_refused(qubits: str) -> None:
    run = CliRunner().invoke(app, ["bench", "noise", "--qubits", qubits])
    assert isinstance(run.exception, ConfigError)

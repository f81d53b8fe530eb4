"""The same two rounds on several platforms: exact ones agree, noise and shots move the parameters."""

from __future__ import annotations

from pathlib import Path

import pytest

from qflsec.base import ConfigError
from qflsec.lab import parse_spec
from qflsec.lab.platforms import PLATFORMS, measure_platforms
from qflsec.lab.worlds.federation.matrix import build_matrix
from qflsec.lab.worlds.federation.spec import MatrixSpec

pytest.importorskip("pennylane")
pytest.importorskip("qiskit")

SPEC = """
name = "platforms"
seeds = [0]
[pipelines.star]
data = {{ name = "breast-cancer", n_features = 2, members = 6, nonmembers = 0, auxiliary = 8, test = 20 }}
model = {{ name = "vqc", n_qubits = 2, layers = 1 }}
federation = {{ n_clients = 2, rounds = 4, learning_rate = 0.5, local_steps = {steps} }}
[stacks]
none = []
[threats.client]
kind = "corrupted-clients"
n = 1
[[attacks]]
name = "sign-flip"
pipeline = "star"
threat = "client"
"""


def test_exact_platforms_agree_and_others_are_moved() -> None:
    spec = parse_spec(SPEC.format(steps=1), base=Path())
    assert isinstance(spec, MatrixSpec)
    rows = measure_platforms(build_matrix(spec).pipelines["star"], [3])
    assert [row.platform for row in rows] == [platform.name for platform in PLATFORMS]
    exact = [row for row in rows if row.tolerance is not None]
    assert len(exact) == 4
    assert all(row.moved < 5e-6 and row.answers == 1.0 for row in exact)
    moved = [row.moved for row in rows if row.tolerance is None]
    assert len(moved) == 2
    assert min(moved) > 1e-4, "noise and shots show"


def test_another_training_is_refused() -> None:
    spec = parse_spec(SPEC.format(steps=2), base=Path())
    assert isinstance(spec, MatrixSpec)
    with pytest.raises(ConfigError, match="2 steps"):
        measure_platforms(build_matrix(spec).pipelines["star"], [0])

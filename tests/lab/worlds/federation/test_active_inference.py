"""An attack on confidentiality that deviates gets runs of its own; where a protocol stops it, the cell says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from qflsec.base import ConfigError
from qflsec.lab import parse_spec
from qflsec.lab.worlds.federation.world import FederationWorld

SPEC = """
name = "inconsistent"
seeds = [0]
secrets = "seeded"

[pipelines.main]
data = { name = "breast-cancer", n_features = 2, balanced = true, members = 6, nonmembers = 0, auxiliary = 8, test = 20 }
model = { name = "vqc", n_qubits = 2, layers = 2 }
federation = { n_clients = 3, rounds = 1, learning_rate = 0.1 }

[stacks]
none = []
masked = [{ name = "masked" }]
secagg = [{ name = "secagg" }]

[threats.malicious]
kind = "malicious-server"

[threats.server]
kind = "honest-but-curious-server"

[threats.large]
kind = "coalition"
server = true
n = 5

[[attacks]]
name = "inconsistent-models"
pipeline = "main"
threat = "THREAT"
params = { search_steps = 60, search_starts = 1, restarts = 4, screened = 16 }
"""


def test_its_cells() -> None:
    world = FederationWorld.make(parse_spec(SPEC.replace("THREAT", "malicious"), base=Path()))
    rows = {row.unit_id: row for batch in world.plan(frozenset()).batches for row in world.execute(batch, {})}
    trials = {stack: trial for (_, stack, _), trial in world.layout.trials.items()}
    found = {stack: rows[trial.unit_id] for stack, trial in trials.items()}
    assert {stack: row.status for stack, row in found.items()} == {
        "none": "ok",
        "masked": "ok",
        "secagg": "aborted",
    }
    assert "hash of the model" in found["secagg"].reason
    assert all(trial.baseline_run_id for trial in trials.values()), (
        "each has a run of its own beside the honest one"
    )
    assert {rows[run.unit_id].status for run in world.layout.honest.values()} == {"completed"}
    # the coalition of five does not exist among three clients: its ledger is empty, and no run fails of it
    for run in world.layout.honest.values():
        assert rows[run.ledger(world.matrix.threats["large"]).unit_id].content == {"rows": []}
        assert rows[run.ledger(world.matrix.threats["server"]).unit_id].content["rows"]


def test_a_passive_threat_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="passive"):
        FederationWorld.make(parse_spec(SPEC.replace("THREAT", "server"), base=Path()))

"""An attack on confidentiality that deviates gets runs of its own; where a protocol stops it, the cell says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from qflsec.base import ConfigError
from qflsec.lab import parse_spec
from qflsec.lab.worlds.federation.matrix import build_matrix
from qflsec.lab.worlds.federation.plan import make_plan
from qflsec.lab.worlds.federation.work import execute

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
    matrix = build_matrix(parse_spec(SPEC.replace("THREAT", "malicious"), base=Path()))
    plan = make_plan(matrix)
    outcomes = [execute(batch) for batch in plan.batches]
    trials = {row["trial_id"]: row for outcome in outcomes for row in outcome.trials}
    runs = {row["run_id"]: row for outcome in outcomes for row in outcome.runs}
    found = {stack: trials[trial.trial_id] for (_, stack, _), trial in plan.trials.items()}
    assert {stack: row["status"] for stack, row in found.items()} == {
        "none": "ok",
        "masked": "ok",
        "secagg": "aborted",
    }
    assert "hash of the model" in found["secagg"]["reason"]
    assert all(row["baseline_run_id"] for row in found.values()), (
        "each has a run of its own beside the honest one"
    )
    honest = [row for row in runs.values() if row["identity"].get("manipulation") is None]
    assert {row["outcome"] for row in honest} == {"completed"}
    # the coalition of five does not exist among three clients: its ledger is empty, and no run fails of it
    assert all([] in row["ledgers"].values() for row in honest)


def test_a_passive_threat_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="passive"):
        build_matrix(parse_spec(SPEC.replace("THREAT", "server"), base=Path()))

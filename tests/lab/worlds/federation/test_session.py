"""The session account of a matrix: seeds and cells over the same records, composed once."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from qflsec.accounting.session import composed
from qflsec.lab import MatrixResult, from_json, parse_spec, run, to_json
from qflsec.lab.worlds.federation.session import data_sets, runs_over, session_accounts

SPEC = """
name = "session"
seeds = [0, 1]
secrets = "seeded"
[pipelines.main]
data = { name = "breast-cancer", n_features = 2, balanced = true, members = 12, nonmembers = 8, auxiliary = 8, test = 20 }
model = { name = "vqc", n_qubits = 2, layers = 1 }
federation = { n_clients = 3, rounds = 2, learning_rate = 0.3 }
[pipelines.longer]
data = { name = "breast-cancer", n_features = 2, balanced = true, members = 12, nonmembers = 8, auxiliary = 8, test = 20 }
model = { name = "vqc", n_qubits = 2, layers = 1 }
federation = { n_clients = 3, rounds = 4, learning_rate = 0.3 }
[stacks]
none = []
dp = [{ name = "dp-sgd", noise_multiplier = 2.0 }]
[threats.server]
kind = "honest-but-curious-server"
[threats.clients]
kind = "corrupted-clients"
n = 1
[[attacks]]
name = "loss-threshold"
pipeline = "main"
threat = "server"
[[attacks]]
label = "longer"
name = "loss-threshold"
pipeline = "longer"
threat = "server"
[[attacks]]
name = "scaled-sign-flip"
pipeline = "main"
threat = "clients"
"""


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> MatrixResult:
    folder = tmp_path_factory.mktemp("session")
    found = run(parse_spec(SPEC, base=folder), folder / "s.sqlite", jobs=1)
    assert isinstance(found, MatrixResult)
    return found


def test_every_run_over_the_records_counts_once(result: MatrixResult) -> None:
    assert data_sets(result) == {"breast-cancer": False}
    # two pipelines x two stacks x two seeds, and the attacked runs of one pipeline
    assert len(runs_over(result, "breast-cancer")) == 8 + 4


def test_seeds_and_pipelines_compose(result: MatrixResult) -> None:
    """By hand from the ledger: four runs of dp-sgd over the same records, two of each length."""
    (account,) = (
        part for part in session_accounts(result) if (part.observer, part.unit) == ("server", "example")
    )
    least = {
        pipeline: min(
            row["epsilon"]
            for row in result.ledgers["dp", "server"]
            if row["pipeline"] == pipeline and row["unit"] == "example" and row["epsilon"] is not None
        )
        for pipeline in ("main", "longer")
    }
    assert account.bounded == 4
    assert account.together == composed([(least["main"], 1e-5)] * 2 + [(least["longer"], 1e-5)] * 2)
    assert account.together.epsilon > 2 * max(least.values())
    assert account.runs == 12
    assert set(account.unbounded) == {"none", "none under attack", "dp under attack"}
    assert account.epsilon == float("inf")


def test_matrices_over_the_same_data_add_up_and_shared_runs_do_not(result: MatrixResult) -> None:
    others = tuple(replace(row, run_id=f"other {row.run_id}") for row in result.runs)
    once, twice = session_accounts(result), session_accounts(result, replace(result, runs=others))
    assert session_accounts(result, result) == once
    for one, two in zip(once, twice, strict=True):
        assert (two.runs, two.bounded) == (2 * one.runs, 2 * one.bounded)


def test_it_is_in_the_document(result: MatrixResult) -> None:
    document = json.loads(to_json(result))
    assert [part["sentence"] for part in document["session"]] == [
        account.sentence for account in session_accounts(result)
    ]
    assert all(part["epsilon"] == "infinity" for part in document["session"])
    again = from_json(to_json(result))
    assert isinstance(again, MatrixResult)
    assert session_accounts(again) == session_accounts(result)

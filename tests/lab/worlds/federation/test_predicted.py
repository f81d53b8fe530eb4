"""Ceilings: computed from the ledger before anything is scored, stored with the trial, and shown beside the measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from qflsec.accounting.predictions import Prediction
from qflsec.accounting.roc import tpr_at_fpr
from qflsec.attacks import MembershipClaim
from qflsec.lab import assemble, build, parse_spec, run_matrix
from qflsec.lab.scoring import MembershipTruth, score_membership
from qflsec.lab.worlds.federation import work
from qflsec.lab.worlds.federation.document import from_document, to_document
from qflsec.lab.worlds.federation.results import MatrixResult
from qflsec.report import render_report
from qflsec.report.html import number

SPEC = """
name = "ceilings"
seeds = [0]
secrets = "seeded"
[pipelines.main]
data = { name = "breast-cancer", n_features = 2, balanced = true, members = 8, nonmembers = 8, auxiliary = 12, test = 12 }
model = { name = "vqc", n_qubits = 2, layers = 1 }
federation = { n_clients = 2, rounds = 2, learning_rate = 0.4 }
[stacks]
none = []
dp = [{ name = "dp-sgd", target_epsilon = 1.0, delta = 1e-3 }]
[threats.server]
kind = "honest-but-curious-server"
[[attacks]]
name = "loss-threshold"
pipeline = "main"
threat = "server"
[[attacks]]
name = "sum-alignment"
pipeline = "main"
threat = "server"
"""


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> MatrixResult:
    """The matrix, run; the order of what a trial does is noted and asserted here."""
    told: list[str] = []
    predicting, scoring = work.predicted, work.score_claim

    def first(rows: Any, reads: Any) -> Any:
        told.append("predicted")
        return predicting(rows, reads)

    def second(claim: Any, truth: Any) -> Any:
        told.append("scored")
        return scoring(claim, truth)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(work, "predicted", first)
        patched.setattr(work, "score_claim", second)
        store = tmp_path_factory.mktemp("ceilings") / "s.sqlite"
        world = build(parse_spec(SPEC, base=Path()))
        list(run_matrix(world, store, jobs=1))
    assert told == ["predicted", "scored"] * 4, "each trial's ceiling before its score"
    found = assemble(world, store)
    assert isinstance(found, MatrixResult)
    return found


def test_the_ceiling_is_that_of_the_ledger(result: MatrixResult) -> None:
    for attack in ("loss-threshold", "sum-alignment"):
        assert not result.cells[attack, "none"].per_seed[0].predicted
        proof = Prediction.from_dict(result.cells[attack, "dp"].per_seed[0].predicted)
        assert (proof.layer, proof.unit, proof.adjacency) == ("dp-sgd", "example", "zero-out")
        assert proof.stated == pytest.approx(1.0, abs=0.01)
        assert proof.epsilon == 2 * proof.stated
        proved = [row["epsilon"] for row in result.ledgers["dp", "server"] if row["bound"] == "upper bound"]
        assert proof.stated == min(epsilon for epsilon in proved if epsilon is not None)
        assert result.cells[attack, "dp"].records()[0]["advantage_allowed"] == proof.advantage


def test_it_is_in_the_document_and_on_the_page(result: MatrixResult) -> None:
    again = from_document(to_document(result))
    assert (
        again.cells["loss-threshold", "dp"].per_seed[0].predicted
        == result.cells["loss-threshold", "dp"].per_seed[0].predicted
    )
    page = render_report(result)
    assert "Before anything was scored: dp-sgd proves epsilon" in page
    assert "by the proof" in page
    assert "allowed by the proof" in page


def test_the_proof_of_a_rate_is_read_at_what_its_threshold_may_let_through(result: MatrixResult) -> None:
    """A threshold for one in ten lets more through as often as not; what a proof allows there is no bound for it."""
    page = render_report(result)
    row = result.cells["loss-threshold", "dp"].per_seed[0]
    proof = Prediction.from_dict(row.predicted)
    yes, no = row.raw["member_scores"], row.raw["nonmember_scores"]
    limit = tpr_at_fpr(yes, no, 0.1).fpr_upper
    assert limit > 0.1
    said, nominal = (f"at most {number(proof.tpr(rate), 3)} by the proof" for rate in (limit, 0.1))
    assert said in page
    assert nominal not in page


def test_one_in_a_thousand_is_refused_where_non_members_cannot_resolve_it() -> None:
    for n, given in ((999, False), (1000, True)):
        member = torch.arange(n + 50) < 50
        truth = MembershipTruth(member=member, train_correct=1, n_train=2, test_correct=1, n_test=2)
        found = score_membership(MembershipClaim(scores=torch.arange(n + 50.0).flip(0)), truth)
        assert ("tpr_at_0.1_percent_fpr" in found.metrics) == given
        assert found.raw["resolved_at_1_percent"] == 1.0
        assert found.metrics["tpr_at_1_percent_fpr"].value == 1.0

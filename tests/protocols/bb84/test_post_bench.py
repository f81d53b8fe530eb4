"""The benchmark of post-processing, at a size that takes a second."""

from __future__ import annotations

import json

import pytest

from qflsec.protocols.bb84.bench_post import bench_post, time_cascade


def test_the_benchmark_reports_cost_and_speed() -> None:
    told = json.loads(json.dumps(bench_post(runs=1, n=5000, largest=10**5)))
    assert {(row["schedule"], row["qber"]) for row in told["cascade"]} >= {("original", 0.01), ("yan", 0.05)}
    for row in told["cascade"]:
        assert row["f_ec_both_parties"] == pytest.approx(2 * row["f_ec"])
        assert row["f_ec"] > 1.0
        assert row["mbit_per_s"] > 0
    assert told["toeplitz"][0]["growth"] == 1.0


def test_published_values_stand_beside_the_runs_they_belong_to_only() -> None:
    assert time_cascade("yan", 0.02, n=2000, runs=1).published_f_ec is None
    assert time_cascade("original", 0.02, n=2000, runs=1).published_f_ec is None
    assert time_cascade("original", 0.02, runs=1).published_f_ec == 1.156

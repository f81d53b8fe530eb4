"""``qflsec matrix run --dry-run`` and ``--long``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]


def test_it_says_what_would_run_and_writes_nothing(tiny: Path, tmp_path: Path, qflsec: Call) -> None:
    store = tmp_path / "none.sqlite"
    text = qflsec("matrix", "run", str(tiny), "--dry-run", "--store", str(store)).out
    assert "12 trials, 0 of them stored, 4 that cannot be run; 8 runs in 2 batches are left" in text
    assert "'median' needs individual updates" in text
    assert "measured: processor time of three rounds" in text
    assert ", attacks and scoring apart; at most" in text
    document = qflsec("matrix", "run", str(tiny), "--dry-run", "--store", str(store), "--json").json()
    assert document["schema"] == "qflsec-matrix-plan/1"
    assert (document["trials_total"], document["trials_stored"]) == (12, 0)
    assert sum(document["trials_incompatible"].values()) == 4
    assert (document["runs"], document["batches"]) == (8, 2)
    assert document["parts"][0]["source"] == "measured"
    assert document["cpu_seconds"] > 0
    assert document["memory_per_worker_bytes"] > 1e8
    assert not store.exists()


def test_a_long_plan_is_to_be_confirmed(tiny: Path, tmp_path: Path, qflsec: Call) -> None:
    long = tmp_path / "long.toml"
    long.write_text(tiny.read_text().replace("rounds = 2", "rounds = 2, local_steps = 1000000000"))
    answer = qflsec("matrix", "run", str(long), "--store", str(tmp_path / "none.sqlite"))
    assert answer.code == 2
    assert "the plan is long" in answer.err
    assert "give --long" in answer.err
    text = qflsec("matrix", "run", str(long), "--dry-run").out
    assert "(model)" in text, "runs that long are not timed"
    assert "more than a day: it runs with --long alone" in text


def test_a_channel_is_counted_by_its_pulses(tmp_path: Path, qflsec: Call) -> None:
    store = str(tmp_path / "none.sqlite")
    document = qflsec("matrix", "run", "bb84", "--seeds", "0", "--dry-run", "--store", store, "--json").json()
    assert document["runs"] == document["trials_total"] > 20
    assert document["cpu_seconds"] == pytest.approx(document["runs"] * 8_000_000 * 1e-7)
    assert document["parts"][0]["basis"] == "100 ns for each pulse of a run"


def test_what_is_not_known_is_no_zero(tmp_path: Path, qflsec: Call) -> None:
    plan = (
        "matrix",
        "run",
        "blind-sessions",
        "--seeds",
        "0",
        "--dry-run",
        "--store",
        str(tmp_path / "none.sqlite"),
    )
    assert "In all an unknown time with" in qflsec(*plan).out
    document = qflsec(*plan, "--json").json()
    assert document["runs"] > 0
    assert (document["cpu_seconds"], document["memory_per_worker_bytes"]) == (None, None)


def test_seeds_beyond_number_are_refused(tiny: Path, qflsec: Call) -> None:
    answer = qflsec("matrix", "run", str(tiny), "--seeds", "0-99999999999")
    assert answer.code == 2
    assert "too many seeds" in answer.err

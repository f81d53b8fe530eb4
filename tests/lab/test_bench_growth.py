"""Growth of runs, counted: calls of functions and bytes, never time."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from qflsec.base import ConfigError
from qflsec.cli.app import app
from qflsec.lab import bench_growth
from qflsec.lab.bench_growth import GrowthRow, grown, kept_bytes, render_growth, slope
from qflsec.threat import honest_but_curious_server

SIZES = {"clients": (20, 60), "rounds": (4, 16), "records": (8, 32), "runs": (4, 16)}


def _calls(work: Callable[[], object]) -> int:
    """How many functions are called, of Python and of C."""
    count = 0

    def note(_frame: object, event: str, _function: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.fixture(scope="module")
def work() -> dict[str, list[tuple[int, int, int]]]:
    """For each axis and size: calls of the runs, calls of the server's view, bytes of the transcripts."""
    grown()()[0].view(honest_but_curious_server())  # what a process loads once
    found: dict[str, list[tuple[int, int, int]]] = {}
    for axis, sizes in SIZES.items():
        for size in sizes:
            make, made = grown(**{axis: size}), []
            runs = _calls(lambda: made.extend(make()))  # noqa: B023 - called at once
            views = _calls(lambda: made[0].view(honest_but_curious_server()))  # noqa: B023 - called at once
            kept = kept_bytes([run.transcript for run in made])
            found.setdefault(axis, []).append((runs, views, kept))
    return found


@pytest.mark.parametrize("axis", SIZES)
def test_runs_views_and_transcripts_grow_no_faster_than_their_size(
    work: dict[str, list[tuple[int, int, int]]], axis: str
) -> None:
    for small, large in zip(*work[axis], strict=True):
        assert slope(SIZES[axis], (small, large)) < 1.05


def test_records_are_no_work_of_python(work: dict[str, list[tuple[int, int, int]]]) -> None:
    """A step of more records is one call all the same."""
    for small, large in zip(*(counts[:2] for counts in work["records"]), strict=True):
        assert large < 1.05 * small


def test_a_transcript_of_1000_clients_and_100_rounds_stays_below_200_mb() -> None:
    """By three rounds and six: what is kept of a round is the same in each."""
    short, long = (kept_bytes([grown(clients=1000, rounds=n)()[0].transcript]) for n in (3, 6))
    assert short + (long - short) / 3 * 97 < 200e6


def test_bytes_are_those_of_every_object_once() -> None:
    tensor, array = torch.zeros(1000), np.zeros(500)
    shared = kept_bytes([[tensor, tensor[10:], tensor]])
    assert 4000 < shared < 4300, "views share memory"
    more = kept_bytes([[array, [array]]]) - kept_bytes([[None, [None]]])
    assert more == sys.getsizeof(array) - sys.getsizeof(None)
    assert kept_bytes([b"x" * 5000]) > 5000
    assert kept_bytes([kept_bytes, GrowthRow, sys]) == 0, "code is nobody's"


def test_quadratic_growth_is_seen() -> None:
    assert slope((10, 100), (1.0, 100.0)) == pytest.approx(2.0)
    row = GrowthRow(
        axis="clients", size=100, run=1.0, view=1.0, kept=1, slopes={"run": 1.0, "view": 2.0, "kept": 1}
    )
    assert not row.met
    assert render_growth([row]).endswith("MISSED |")


def test_the_command_prints_a_table_and_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_growth, "AXES", {"rounds": (2, 4)})
    run = CliRunner().invoke(app, ["bench", "growth", "--axes", "rounds", "--repeats", "1"])
    assert run.exit_code == 0, run.output
    assert run.stdout.startswith("| grows | size | runs | slope | view | slope | transcripts | slope |")
    run = CliRunner().invoke(app, ["bench", "growth", "--axes", "rounds", "--repeats", "1", "--json"])
    first, second = json.loads(run.stdout)["rows"]
    assert not first["slopes"]
    assert set(second["slopes"]) == {"run", "view", "kept"}
    assert 1.5 < second["transcript_bytes"] / first["transcript_bytes"] < 2.5
    run = CliRunner().invoke(app, ["bench", "growth", "--axes", "miles"])
    assert isinstance(run.exception, ConfigError)

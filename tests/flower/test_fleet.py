"""Ten nodes of which some are killed, nodes that lie, and a SuperLink that is started again: all by processes."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fleet import deployment, eventually, family_of, mean_of, running, sail, steps_of, trick

from qflsec.flower.deployment import Deployment
from qflsec.flower.processes import Processes

N, ROUNDS, PATIENCE = 10, 20, 60.0
PHASES = {"ask:advertise": 1, "ask:share": 4, "train": 7, "ask:agree": 10, "ask:reveal": 13}
TOO_MANY = 16
BEFORE_THE_VECTOR = {"ask:advertise", "ask:share", "train"}


def victims(index: int, n: int = 3) -> list[int]:
    """Others in every round."""
    return sorted((index + step) % N for step in range(n))


@pytest.mark.slow
def test_three_of_ten_killed_at_every_phase_cost_their_own_updates_at_most(tmp_path: Path) -> None:
    """20 rounds; in five of them three nodes wait in one phase and get SIGKILL there, and are started again at once.

    In a sixth it is four, which leaves fewer than the threshold of 7: the round is lost, with that reason.
    """
    doomed = {index: (step, victims(index)) for step, index in PHASES.items()}
    doomed[TOO_MANY] = ("ask:share", victims(TOO_MANY, 4))
    tricks = [trick(i, index, step, "stall") for index, (step, ids) in doomed.items() for i in ids]
    killed: dict[int, float] = {}
    took: dict[int, float] = {}

    def hook(run: Deployment, processes: Processes) -> None:
        for line in run.lines:
            if line["kind"] == "round" and line["round"] in killed:
                took.setdefault(line["round"], time.monotonic() - killed[line["round"]])
        for index, (_, ids) in doomed.items():
            if index in killed or not all((tmp_path / f"stalled-{i}-{index}").exists() for i in ids):
                continue
            for i in ids:
                processes.kill(f"supernode-{i}")
            killed[index] = time.monotonic()
            for i in ids:
                run.start_node(processes, i)

    sailed = sail(tmp_path, nodes=N, rounds=ROUNDS, tricks=tricks, hook=hook, limit=3000.0, patience=PATIENCE)
    assert sailed.finished.outcome == "completed", sailed.finished
    assert set(killed) == set(doomed)
    sailed.check_sums()
    lines = {line["round"]: line for line in sailed.finished.rounds}
    assert set(lines) == set(range(ROUNDS))
    everybody = set(range(N))
    for step, index in PHASES.items():
        gone = set(victims(index)) if step in BEFORE_THE_VECTOR else set()
        assert set(lines[index]["ids"]) == everybody - gone, lines[index]["missing"]
        assert set(lines[index]["missing"]) == set(map(str, gone))
        assert set(lines[index + 2]["ids"]) == everybody, "who was started again takes part again"
    assert "too few clients are left" in lines[TOO_MANY]["lost"]
    assert set(lines[TOO_MANY + 3]["ids"]) == everybody
    # one exchange waits for those who are gone, and the rest are answered
    assert max(took.values()) < 5 * PATIENCE


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found as Linux shows them")
def test_a_superlink_that_is_killed_and_started_again_takes_another_run(tmp_path: Path) -> None:
    """The first run's ledger ends with that reason; nodes end too, as it knows none of them, and can be started again."""
    run = deployment(tmp_path, nodes=3, rounds=2)
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    with run.started() as processes:
        run.submit(processes, {**run.config, "ledger": str(first)})
        assert eventually(lambda: len(lines(first)) == 1, 300)
        old = family_of(processes.leader("superlink"))
        assert len(old) >= 3
        os.kill(processes.leader("superlink"), signal.SIGKILL)  # it alone: its app would wait for it
        run.start_link(processes)
        nodes = {f"supernode-{i}" for i in range(3)}
        assert eventually(lambda: nodes <= set(processes.ended()) and not any(map(running, old)), 120)
        assert [line["kind"] for line in lines(first)] == ["round", "end"]
        assert lines(first)[-1]["outcome"].startswith("failed: ")
        (tmp_path / "steps.jsonl").unlink()
        for index in range(3):
            run.start_node(processes, index)
        run.submit(processes, {**run.config, "ledger": str(second)})
        assert eventually(lambda: bool(lines(second)) and lines(second)[-1]["kind"] == "end", 400)
    *rounds, end = lines(second)
    assert end["outcome"] == "completed"
    assert [line["ids"] for line in rounds] == [[0, 1, 2]] * 2
    for step in steps_of(tmp_path).values():
        np.testing.assert_allclose(step, mean_of(range(3)), atol=2e-4)


def lines(ledger: Path) -> list[dict[str, Any]]:
    """What a ledger says."""
    return [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []

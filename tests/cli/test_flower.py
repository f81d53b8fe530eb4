"""``qflsec flower``: what it writes and prints; processes are started in ``tests/flower`` alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qflsec.flower import deployment
from qflsec.flower.deployment import Deployment, Finished

LINES = [
    {"kind": "round", "round": 0, "ids": [0, 2], "missing": {"1": "it sent nothing"}, "malformed": {}, "lost": "", "seconds": 2.0},
    {"kind": "round", "round": 1, "ids": [], "missing": {}, "malformed": {}, "lost": "too few clients", "seconds": 3.0},
]  # fmt: skip


def finished(outcome: str) -> Callable[[Deployment], Finished]:
    def run(self: Deployment) -> Finished:
        assert self.config == {"num-server-rounds": 2, "local-steps": 1, "patience": 2.5}
        for line in LINES:
            if self.told is not None:
                self.told(line)
        return Finished(
            outcome=outcome,
            rounds=tuple(LINES),
            scores={"accuracy": 0.75},
            logs=self.folder / "logs",
            seconds=9.0,
        )

    return run


def test_an_app_is_written_and_its_run_is_told(
    qflsec: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "app"
    written = qflsec("flower", "new", str(folder), "--nodes", "4")
    assert written.code == 0
    assert f"next: qflsec flower run {folder} --nodes 4" in written.out
    assert "num-clients = 4" in (folder / "pyproject.toml").read_text()
    again = qflsec("flower", "new", str(folder))
    assert again.code == 2
    assert "nothing is overwritten" in again.err
    assert qflsec("flower", "new", str(tmp_path / "two"), "--nodes", "2").code == 2

    monkeypatch.setattr(deployment.Deployment, "run", finished("completed"))
    sets = ["--set", "local-steps=1", "--set", "patience=2.5"]
    told = qflsec("flower", "run", str(folder), "--nodes", "4", "--rounds", "2", *sets)
    assert told.code == 0
    assert "round 1: 2 clients count, 2 s; without client 1: it sent nothing" in told.out
    assert "round 2: lost: too few clients, 3 s" in told.out
    assert "completed after 2 rounds and 9 s, accuracy 0.750" in told.out
    monkeypatch.setattr(deployment.Deployment, "run", finished("stopped: the SuperLink ended"))
    document = qflsec("flower", "run", str(folder), "--rounds", "2", *sets, "--json")
    assert document.code == 1
    held = json.loads(document.out)
    assert held["schema"] == "qflsec-flower/1"
    assert held["outcome"] == "stopped: the SuperLink ended"
    assert held["rounds"] == LINES


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("liar", "'--set' is not understood; got liar"),
        ("=1", "'--set' is not understood"),
        ("liar=[1]", "'--set' is not understood"),
        ("liar=1\nstack='sums'", "'--set' is not understood"),
        ("ledger=other.jsonl", "that the run sets itself; got ledger"),
    ],
)
def test_a_value_that_cannot_be_set_is_refused(
    given: str, why: str, qflsec: Callable[..., Any], tmp_path: Path
) -> None:
    refused = qflsec("flower", "run", str(tmp_path), "--set", given)
    assert refused.code == 2
    assert why in refused.err


def test_a_folder_without_an_app_is_refused_before_anything_starts(
    qflsec: Callable[..., Any], tmp_path: Path
) -> None:
    refused = qflsec("flower", "run", str(tmp_path))
    assert refused.code == 2
    assert "the folder holds no Flower app" in refused.err
    (tmp_path / "pyproject.toml").write_text("[tool.flwr.app.config]\nnum-clients = 3\n")
    assert "lacks values; got ['ledger', 'server-home']" in qflsec("flower", "run", str(tmp_path)).err
    assert not (tmp_path / "runs").exists()


def test_a_value_that_the_app_does_not_have_is_refused_before_anything_is_announced(
    qflsec: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "app"
    assert qflsec("flower", "new", str(folder), "--nodes", "3").code == 0
    refused = qflsec("flower", "run", str(folder), "--set", "stak=median")
    assert (refused.code, refused.out) == (2, "")
    assert "no such values; got ['stak']" in refused.err
    assert not (folder / "runs").exists()

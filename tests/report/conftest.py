"""A small result with a cell of every state."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from qflsec.base import Score
from qflsec.lab.grid.results import CodeInfo
from qflsec.lab.worlds.federation.results import (
    AttackInfo,
    Cell,
    CellState,
    MatrixResult,
    PipelineSummary,
    RunRow,
    StackInfo,
    StackSummary,
    Strongest,
    TrialRow,
)

STACKS = ("none", "median", "masked", "broken <b>& bold</b>")
STATES: dict[tuple[str, str], CellState] = {
    ("loss", "none"): "ok",
    ("loss", "median"): "no power",
    ("loss", "masked"): "blocked",
    ("loss", "broken <b>& bold</b>"): "incompatible",
    ("flip", "none"): "ok",
    ("flip", "median"): "useless",
    ("flip", "masked"): "failed",
    ("flip", "broken <b>& bold</b>"): "aborted",
}
ADVANTAGES = {("loss", "none"): 0.8, ("loss", "median"): 0.1, ("flip", "none"): 1.4, ("flip", "median"): -0.2}


def score(value: float, name: str = "advantage") -> Score:
    return Score(name=name, value=value, low=value - 0.1, high=value + 0.1, n=3, baseline=0.0, ideal=1.0)


def make_cell(attack: str, stack: str) -> Cell:
    state = STATES[attack, stack]
    value = ADVANTAGES.get((attack, stack))
    status: Any = "ok" if value is not None else state
    raw: dict[str, Any] = {}
    if attack == "loss" and value is not None:
        raw = {"member_scores": [0.9, 0.8, 0.4], "nonmember_scores": [0.5, 0.3, 0.1]}
    if attack == "flip" and value is not None:
        raw = {"accuracy_by_round": [0.5, 0.4], "honest_accuracy_by_round": [0.6, 0.9]}
    trials = tuple(
        TrialRow(
            trial_id=f"t{attack}{stack}{seed}",
            run_id="r",
            seed=seed,
            status=status,
            advantage=value,
            metrics={"auc": score(0.9, "auc")} if value is not None else {},
            raw=raw,
            reason="" if value is not None else f"because it is {state}",
            traceback="Traceback: boom" if state == "failed" else "",
        )
        for seed in (0, 1, 2)
    )
    return Cell(
        attack=attack,
        family="membership" if attack == "loss" else "poisoning",
        stack=stack,
        pipeline="p",
        state=state,
        advantage=None if value is None else score(value),
        per_seed=trials,
        sentence=f"{attack} against {stack} is {state}.",
        threat="server",
    )


def summary(stack: str, accuracy: float) -> PipelineSummary:
    useless = stack == "median"
    worst = {
        protects: Strongest(
            attack=attack,
            advantage=score(ADVANTAGES[attack, stack]),
            unranked="useless" if useless else "",
        )
        for protects, attack in (("privacy", "loss"), ("robustness", "flip"))
        if (attack, stack) in ADVANTAGES and STATES[attack, stack] != "no power"
    }
    return PipelineSummary(
        pipeline="p",
        accuracy=score(accuracy, "accuracy"),
        loss=score(0.9 - accuracy, "loss"),
        useless=useless,
        worst=worst,
        costs={"network_bytes": score(58500.0, "network_bytes")},
    )


@pytest.fixture
def result() -> MatrixResult:
    accuracies = {"none": 0.9, "median": 0.5, "masked": 0.9}
    summaries = {
        name: StackSummary(
            stack=name,
            by_pipeline={"p": summary(name, accuracies[name])} if name in accuracies else {},
        )
        for name in STACKS
    }
    attacks = tuple(
        AttackInfo(
            label=label,
            name=label,
            family="membership" if label == "loss" else "poisoning",
            goal="confidentiality" if label == "loss" else "availability",
            idea="An idea.",
            source="A paper (2020)",
            pipeline="p",
            threat="server",
            threat_sentence="The server follows the protocol and looks.",
        )
        for label in ("loss", "flip")
    )
    row = {
        "guarantee": "differential privacy",
        "layer": "dp-sgd",
        "statement": "A statement.",
        "note": "",
        "epsilon": "infinity",
        "delta": 1e-5,
        "bound": "upper bound",
        "unit": "example",
        "adjacency": "add/remove",
        "accountant": "Opacus RDP",
        "assumption": "information-theoretic",
        "trusted": "nobody",
        "pipeline": "p",
    }
    return MatrixResult(
        name="example </script><script>alert(1)</script>",
        description="A description.",
        command="qflsec matrix run example",
        versions={"qflsec": "0.1.0"},
        created="2026-01-01T00:00:00+00:00",
        seeds=(0, 1, 2),
        attacks=attacks,
        stacks=tuple(StackInfo(name=name) for name in STACKS),
        cells={key: make_cell(*key) for key in STATES},
        summaries=summaries,
        ledgers={("none", "server"): (row,)},
        observers={"server": "The server follows the protocol and looks."},
        pipelines={"p": {"data": {"name": "breast-cancer"}}},
        utility_pipeline="p",
        runs=(
            RunRow(run_id="r", pipeline="p", stack="none", seed=0, accuracy=(0.5, 0.9)),
            RunRow(run_id="r2", pipeline="p", stack="none", seed=1, accuracy=(0.6, 0.8)),
        ),
        failures=("flip against masked, seed 0: boom",),
        code=(
            CodeInfo(
                part="attack flip", files=("flip.py", "helper"), not_covered=("helper.py, line 3: exec(x)",)
            ),
        ),
    )


def executable() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        if os.environ.get("QFLSEC_REQUIRE_BROWSER"):
            pytest.fail("Chromium is required here, but is not installed")
        pytest.skip("no Chromium: install it (Debian: apt-get install chromium) to run the browser test")
    return found


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless browser, started once for all tests that need one."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable(),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()

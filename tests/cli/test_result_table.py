"""A result on a terminal: whole numbers at every width, words for states, and few sentences."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from qflsec.base import Score
from qflsec.cli.grid_table import print_grid
from qflsec.cli.grids import federation_grid
from qflsec.cli.remarks import remarks
from qflsec.cli.render import print_result
from qflsec.lab.worlds.federation.results import (
    AttackInfo,
    Cell,
    CellState,
    MatrixResult,
    PipelineSummary,
    StackInfo,
    StackSummary,
    Strongest,
    TrialRow,
)

STACKS = ("none", "dp-sgd+clip+median+trimmed", "masked", *(f"stack-number-{i}" for i in range(9)))
ATTACKS = ("a-gradient-matching-attack-with-a-prior", "flip")
STATES: dict[tuple[str, str], CellState] = {
    ("flip", "masked"): "incompatible",
    ("flip", "stack-number-0"): "too few seeds",
    ("flip", "stack-number-1"): "failed",
    ("flip", "stack-number-2"): "pending",
    (ATTACKS[0], "stack-number-3"): "no power",
    ("flip", "stack-number-4"): "lost",
}


def score(value: float) -> Score:
    return Score(name="x", value=value, low=value - 1, high=value + 1, n=3, baseline=0.0, ideal=1.0)


def cell(attack: str, stack: str, value: float) -> Cell:
    state = STATES.get((attack, stack), "ok")
    bare = state in {"incompatible", "failed", "pending"}
    status = "ok" if state in {"no power", "too few seeds"} else state
    seeds = (0,) if state == "pending" else (0, 1, 2)
    rows = tuple(
        TrialRow(trial_id="t", run_id="r", seed=seed, status=status, reason=f"why it is {state}")  # type: ignore[arg-type]
        for seed in seeds
    )
    return Cell(
        attack=attack,
        family="f",
        stack=stack,
        pipeline="main",
        state=state,
        advantage=None if bare else score(value),
        per_seed=() if state == "pending" else rows,
        sentence=f"{attack} against {stack}.",
        threat="server",
        seeds_to_decide=17 if state == "too few seeds" else None,
    )


@pytest.fixture(scope="module")
def result() -> MatrixResult:
    """Two attacks against twelve stacks: every number is another."""
    values = {
        (attack, stack): round(0.01 + 0.03 * n - 0.5, 2)
        for n, (attack, stack) in enumerate((a, s) for a in ATTACKS for s in STACKS)
    }
    summary = {
        stack: PipelineSummary(
            pipeline="main",
            accuracy=score(0.9),
            undecided=stack == "masked",
            worst={"privacy": Strongest(attack="flip", advantage=score(1.5), unranked="failed")},
        )
        for stack in STACKS
    }
    return MatrixResult(
        name="wide",
        description="",
        command="",
        created="",
        versions={},
        seeds=(0, 1, 2),
        attacks=tuple(
            AttackInfo(
                label=label, name=label, family="f", goal="confidentiality", idea="", source="",
                pipeline="main", threat="server", threat_sentence="",
            )
            for label in ATTACKS
        ),
        stacks=tuple(StackInfo(name=name) for name in STACKS),
        cells={key: cell(*key, value) for key, value in values.items()},
        summaries={name: StackSummary(stack=name, by_pipeline={"main": part}) for name, part in summary.items()},
        ledgers={},
        observers={},
        pipelines={"main": {}},
        utility_pipeline="main",
        failures=("3 trials failed alike: Boom: no, really; in flip x stack-number-1 (3)",),
    )  # fmt: skip


def printed(result: MatrixResult, width: int, *, terminal: bool = False) -> str:
    file = io.StringIO()
    console = Console(
        file=file, width=width, force_terminal=terminal, color_system="standard" if terminal else None
    )
    print_grid(federation_grid(result), console)
    return file.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("width", [30, 80, 120, 250])
def test_every_number_is_whole_at_every_width(result: MatrixResult, width: int, terminal: bool) -> None:
    text = re.sub("\x1b\\[[0-9;]*m", "", printed(result, width, terminal=terminal))
    lines = text.splitlines()
    for key, found in result.cells.items():
        if found.advantage is not None:
            value, low, high = (
                f"{part + 0.0:.2f}"
                for part in (found.advantage.value, found.advantage.low, found.advantage.high)
            )
            assert re.search(rf"(?<![-\d]){re.escape(value)}(?!\d)", text), key
            assert f"[{low}, {high}]" in text, key
    assert "…" not in text
    widest = max(len(line.rstrip()) for line in lines)
    assert widest <= max(width, 60), "one column, where not even that fits"
    blocks = sum(line.startswith("attack ") for line in lines)
    assert blocks == {30: 12, 80: 4, 120: 3, 250: 1}[width]


def test_names_are_wrapped_where_they_may_be_broken(result: MatrixResult) -> None:
    text = printed(result, 80)
    assert "dp-sgd+clip+" in text
    assert "median+trimmed" in text
    assert "a-gradient-matching-" in text


def test_states_are_words_and_the_summary_stands_below(result: MatrixResult) -> None:
    text = printed(result, 250)
    for words in ("incompatible", "too few seeds:", "failed 3/3", "pending 0/3", "no power", "lost"):
        assert words in text, words
    below = text[text.index("worst attack on") :]
    assert "failed: not ranked" in below.replace("\n", " ") or "failed: not" in below
    assert "0.900" in below
    assert "too few seeds" in below, "whether the model is of any use"


def test_a_screen_gets_styles_and_a_file_does_not(
    result: MatrixResult, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    colour = re.compile("\x1b\\[[0-9;]*3[0-9]")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert colour.search(printed(result, 80, terminal=True))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colour.search(printed(result, 80, terminal=True))
    monkeypatch.delenv("NO_COLOR")
    print_result(result)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert all(line == line.rstrip() for line in out.splitlines())


def test_few_sentences_and_all_of_them_on_demand(
    result: MatrixResult, capsys: pytest.CaptureFixture[str]
) -> None:
    few = list(remarks(result))
    assert few == [
        "failed: 3 trials failed alike: Boom: no, really; in flip x stack-number-1 (3)",
        "pending: 3 of 72 trials have not been run.",
        "incompatible: flip x masked: why it is incompatible.",
        "lost: flip x stack-number-4: why it is lost.",
        (
            "no power: a-gradient-matching-attack-with-a-prior: shown to be no better than guessing without a "
            "defense, so its row says nothing of any defense."
        ),
        "too few seeds: 1 of 24 cells are open with 3 seeds; about 17 would decide 1.",
    ]
    print_result(result)
    assert "against none." not in capsys.readouterr().out
    print_result(result, sentences=True)
    out = capsys.readouterr().out
    assert all(f"[{found.state}] {found.sentence}" in out for found in result.cells.values())
    assert (
        "masked on main: strongest attack on privacy flip, 1.50 (95 % interval 0.50 to 2.50, 3 seeds)" in out
    )

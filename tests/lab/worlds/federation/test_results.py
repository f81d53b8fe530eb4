"""From rows to cells: states, sentences, summaries, JSON and comparisons."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from qflsec.base import Score, StoreError
from qflsec.lab import (
    MatrixResult,
    MatrixSpec,
    compare,
    from_json,
    parse_spec,
    read_result,
    run,
    to_dict,
    to_json,
)
from qflsec.lab.scoring.records import record_interval
from qflsec.lab.worlds.federation.results import (
    Cell,
    CellState,
    PipelineSummary,
    Strongest,
    TrialRow,
    TrialStatus,
)
from qflsec.lab.worlds.federation.sentences import cell_sentence, number
from qflsec.lab.worlds.federation.states import cell_state, shown, strongest


def score(value: float, half: float = 0.1, baseline: float = 0.0, n: int = 3) -> Score:
    return Score(
        name="advantage", value=value, low=value - half, high=value + half, n=n, baseline=baseline, ideal=1.0
    )


def rows(*statuses: TrialStatus) -> tuple[TrialRow, ...]:
    return tuple(
        TrialRow(
            trial_id=str(seed),
            run_id="r",
            seed=seed,
            status=status,
            advantage=0.5 if status == "ok" else None,
            reason="" if status == "ok" else f"because of {status}",
        )
        for seed, status in enumerate(statuses)
    )


STATES: list[tuple[tuple[TrialStatus, ...], Score | None, bool, CellState]] = [
    (("ok", "ok", "ok"), score(0.5), False, "ok"),
    (("ok", "ok", "ok"), None, False, "ok"),
    (("ok", "ok", "ok"), score(0.5), True, "useless"),
    (("ok", "ok", "ok"), score(0.01, half=0.05), False, "no power"),
    (("ok", "ok", "ok"), score(0.01, half=0.05), True, "no power"),
    (("ok", "ok", "ok"), score(-2.85, half=0.72), False, "no power"),
    (("ok", "ok", "ok"), score(0.05), False, "too few seeds"),
    (("ok", "ok", "ok"), score(0.05), True, "too few seeds"),
    (("ok", "ok", "ok"), score(5.0, half=28.0), False, "too few seeds"),
    (("ok", "ok", "failed"), score(0.5), False, "failed"),
    (("ok", "ok"), score(0.5), False, "pending"),
    ((), None, False, "pending"),
    (("failed",), None, False, "failed"),
    (("blocked", "blocked", "blocked"), score(0.5), False, "blocked"),
    (("blocked", "blocked", "blocked"), score(0.05), True, "blocked"),
    (("ok", "blocked", "ok"), score(0.5), False, "ok"),
    (("incompatible", "incompatible", "incompatible"), None, False, "incompatible"),
    (("aborted", "aborted", "aborted"), score(0.5), False, "aborted"),
    (("aborted", "blocked", "aborted"), score(0.5), False, "aborted"),
    (("undefined", "undefined", "undefined"), None, False, "no power"),
    (("undefined", "undefined", "undefined"), score(0.5), True, "useless"),
    (("undefined", "ok", "ok"), score(0.5), False, "ok"),
]


@pytest.mark.parametrize(("statuses", "undefended", "useless", "state"), STATES)
def test_states(
    statuses: tuple[TrialStatus, ...], undefended: Score | None, useless: bool, state: CellState
) -> None:
    found = score(0.5) if "ok" in statuses else None
    state_now = cell_state(
        rows(*statuses), n_seeds=3, advantage=found, undefended=undefended, useless=useless
    )
    assert state_now == state


def test_one_side_alone_is_power() -> None:
    """The figure of the claim that was too strong: -2.85 [-3.57, -2.13] is no power, and not open either."""
    assert shown(score(-2.85, half=0.72)) == "nothing"
    assert shown(score(0.5)) == "better"
    assert shown(score(0.05)) == "open"
    assert shown(score(0.05, half=0.04)) == "better"
    assert shown(score(0.0, half=0.0)) == "nothing"
    alone = Score(name="a", value=0.9, low=math.nan, high=math.nan, n=1, baseline=0.0, ideal=1.0)
    assert shown(alone) == "open"


@pytest.mark.parametrize(
    ("value", "half", "state"),
    [(0.5, 0.3, "ok"), (0.0, 0.09, "ok"), (0.3, 0.4, "ok"), (0.5, 0.6, "too few seeds")],
)
def test_a_defended_cell_says_something_or_that_it_does_not(
    value: float, half: float, state: CellState
) -> None:
    """It works; it does not; it does less than [0.8, 1.0] without a defense; or nobody can tell."""
    found = cell_state(rows("ok", "ok", "ok"), n_seeds=3, advantage=score(value, half), undefended=score(0.9))
    assert found == state


@pytest.mark.parametrize(("k", "words"), [(1.0, "off single updates"), (9.0, "off sums of 9 clients")])
def test_a_cell_about_clients_says_what_exact_sums_would_leave(k: float, words: str) -> None:
    told = {"sums_advantage": score(0.82), "anonymity_set": score(k)}
    text = cell_sentence(
        label="label-skew",
        stack="masked",
        state="ok",
        rows=[replace(row, metrics=told) for row in rows("ok", "ok", "ok")],
        advantage=score(0.7),
        undefended=score(0.9),
        summary=PipelineSummary(pipeline="p"),
        n_seeds=3,
    )
    assert f"; whoever read it exactly {words} would have 0.82;" in text


@pytest.mark.parametrize(("statuses", "undefended", "state"), [(s, u, state) for s, u, _, state in STATES])
def test_every_state_has_one_plain_sentence(
    statuses: tuple[TrialStatus, ...], undefended: Score | None, state: CellState
) -> None:
    trials = rows(*statuses)
    text = cell_sentence(
        label="dlg",
        stack="masked",
        state=state,
        rows=trials,
        advantage=score(0.5) if "ok" in statuses else None,
        undefended=undefended,
        summary=PipelineSummary(pipeline="p"),
        n_seeds=3,
        seeds_to_decide=7,
    )
    assert text.endswith(".")
    assert not text.endswith("..")
    assert "\n" not in text
    assert "masked" in text
    if state in {"blocked", "incompatible", "aborted", "failed"}:
        assert f"because of {state}" in text
    if state == "too few seeds":
        assert "about 7 would decide" in text
    if state == "failed" and "ok" in statuses:
        assert "1 of 3 seeds" in text
    if state == "ok" and len(set(statuses)) > 1:
        assert f"of 3 seeds 1 {next(s for s in statuses if s != 'ok')}" in text


def test_numbers_have_no_minus_zero() -> None:
    assert number(-0.001) == "0.00"
    assert number(-0.006) == "-0.01"


def cell(attack: str, state: CellState, value: float | None, half: float = 0.1) -> Cell:
    return Cell(
        attack=attack,
        family="membership",
        stack="s",
        pipeline="p",
        state=state,
        advantage=None if value is None else score(value, half),
        per_seed=(),
        sentence="",
        threat="t",
    )


def test_the_strongest_attack_leaves_out_what_was_not_scored() -> None:
    cells = [cell("blocked", "blocked", None), cell("weak", "ok", 0.2), cell("strong", "lost", 0.6)]
    assert strongest(cells, silent=()) == Strongest(attack="strong", advantage=score(0.6))
    assert strongest(cells[:1], silent=()) is None


@pytest.mark.parametrize("state", ["failed", "pending", "incompatible", "too few seeds"])
def test_what_an_attack_can_do_is_open_until_it_was_tested(state: CellState) -> None:
    cells = [cell("weak", "ok", 0.2), cell("other", state, None)]
    found = strongest(cells, silent=())
    assert found is not None
    assert (found.attack, found.unranked) == ("weak", state)


def test_a_useless_stack_is_told_and_not_ranked() -> None:
    found = strongest(
        [cell("weak", "useless", 0.2)], silent=(), use=PipelineSummary(pipeline="p", useless=True).open_use
    )
    assert found is not None
    assert found.unranked == "useless"


def test_a_stack_whose_use_is_open_is_not_ranked() -> None:
    use = PipelineSummary(pipeline="p", undecided=True).open_use
    found = strongest([cell("weak", "ok", 0.2)], silent=(), use=use)
    assert found is not None
    assert found.unranked == "too few seeds"


def test_an_attack_without_power_counts_only_where_it_has_some() -> None:
    idle, lively = cell("idle", "no power", 0.05), cell("lively", "no power", 0.4)
    silent = {"idle", "lively"}
    assert strongest([idle], silent=silent) is None
    worse = cell("worse", "no power", -2.85, half=0.72)
    assert strongest([worse], silent={"worse"}) is None
    found = strongest([idle, lively], silent=silent)
    assert found == Strongest(attack="lively", advantage=score(0.4))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MatrixResult]:
    text = (Path(__file__).parents[2] / "conftest.py").read_text().split('"""')[3]
    path = tmp_path_factory.mktemp("store") / "s.sqlite"
    return path, run(parse_spec(text, base=Path()), path, jobs=1, command="qflsec matrix run tiny")


def test_json_comes_back_as_it_was(stored: tuple[Path, MatrixResult]) -> None:
    result = stored[1]
    again = from_json(to_json(result))
    assert to_json(again) == to_json(result)
    assert again.cells.keys() == result.cells.keys()
    assert again.summaries == result.summaries
    rows, found = ([row for cell in one.cells.values() for row in cell.per_seed] for one in (result, again))
    assert [row.interval for row in found] == [row.interval for row in rows]
    for row in rows:
        scored = row.status == "ok" and row.advantage is not None
        assert row.interval == (record_interval(row.advantage, row.metrics, row.raw) if scored else None)
    assert any(row.interval for row in rows)
    document = json.loads(to_json(result))
    assert document["schema"] == "qflsec-matrix-result/5"
    assert "NaN" not in to_json(result)


@pytest.mark.parametrize(
    "text", ["", "{}", '{"schema": "other"}', '{"schema": "qflsec-matrix-result/5"}', "[1]"]
)
def test_other_documents_are_refused(text: str) -> None:
    with pytest.raises(StoreError):
        from_json(text)


def test_a_result_is_read_from_a_store_or_a_document(
    stored: tuple[Path, MatrixResult], tmp_path: Path
) -> None:
    path, result = stored
    found = read_result(path)
    assert (found.command, found.name) == ("qflsec matrix run tiny", "tiny")
    assert to_dict(found)["cells"] == to_dict(result)["cells"]  # NaN is not equal to itself
    (tmp_path / "r.json").write_text(to_json(result))
    assert read_result(tmp_path / "r.json").cells.keys() == result.cells.keys()


def test_utility_is_paired_with_the_undefended_stack(tiny_text: str, tmp_path: Path) -> None:
    text = tiny_text.replace("clip_norm = 0.5", "clip_norm = 1e-6").replace("rounds = 2", "rounds = 12")
    result = run(parse_spec(text, base=Path()), tmp_path / "s.sqlite", jobs=1)
    accuracy = {(row.stack, row.seed): row.accuracy[-1] for row in result.runs if not row.attack}
    losses = [accuracy["none", seed] - accuracy["clip", seed] for seed in (0, 1)]
    assert sum(losses) != 0.0
    loss = result.summaries["clip"].by_pipeline["main"].loss
    assert loss is not None
    assert loss.value == pytest.approx(sum(losses) / 2)
    assert loss.n == 2
    utility = result.summaries["none"].by_pipeline["main"].accuracy
    assert utility is not None
    assert utility.baseline == 0.5  # balanced test records
    assert 0.0 <= utility.low <= utility.value <= utility.high <= 1.0
    assert result.summaries["bad"].by_pipeline["main"].accuracy is None
    assert "median" in result.summaries["bad"].incompatible


def test_comparing_a_result_with_itself_finds_nothing(stored: tuple[Path, MatrixResult]) -> None:
    assert all(part.same for part in compare(stored[1], stored[1]))


def test_a_comparison_finds_a_changed_cell(
    stored: tuple[Path, MatrixResult], tiny: MatrixSpec, tmp_path: Path
) -> None:
    document = tiny.model_dump(mode="json", exclude_none=True)
    document["stacks"]["clip"][0]["clip_norm"] = 0.01
    other = run(MatrixSpec.model_validate_json(json.dumps(document)), tmp_path / "s.sqlite", jobs=1)
    differences = {(part.attack, part.column): part for part in compare(stored[1], other)}
    changed = {key for key, part in differences.items() if not part.same}
    assert changed
    assert {stack for _, stack in changed} == {"clip"}
    part = differences["loss-threshold", "clip"]
    assert part.changes["advantage"].n == 2

"""The findings: every branch by a constructed result, and no effect where there is noise alone."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from qflsec.accounting.predictions import Prediction
from qflsec.accounting.statistics import mean_over_seeds
from qflsec.base import Score
from qflsec.lab.scoring.channel import ChannelOutcome
from qflsec.lab.worlds.channel import ChannelCell, ChannelMatrixResult
from qflsec.lab.worlds.federation.results import (
    AttackInfo,
    Cell,
    MatrixResult,
    PipelineSummary,
    StackInfo,
    StackSummary,
    TrialRow,
)
from qflsec.lab.worlds.federation.states import cell_state
from qflsec.lab.worlds.pairs.cells import Trial
from qflsec.report.accounts import Bound
from qflsec.report.effects import effects, family_worst
from qflsec.report.figures import cell_figures
from qflsec.report.findings import ceiling, federation_findings
from qflsec.report.pair_findings import pair_findings

WORST, MOVED, COST, CLAIM, OPEN = range(5)
Values = Mapping[tuple[str, str], Sequence[float]]


def over_seeds(values: Sequence[float], name: str = "advantage", ideal: float = 1.0) -> Score:
    return mean_over_seeds(values).score(name=name, baseline=0.0, ideal=ideal)


def matrix(values: Values, **changed: Any) -> MatrixResult:
    """A result whose cells have these advantages by seed; attacks that begin with 'flip' are on robustness."""
    attacks = tuple(dict.fromkeys(attack for attack, _ in values))
    stacks = tuple(dict.fromkeys(stack for _, stack in values))
    seeds = tuple(range(max(map(len, values.values()))))
    cells = {}
    for (attack, stack), found in values.items():
        score = over_seeds(found) if found else None
        control = values[attack, "none"] if "none" in stacks else ()
        rows = tuple(
            TrialRow(trial_id="t", run_id="r", seed=seed, status="ok", advantage=value)
            for seed, value in enumerate(found)
        )
        state = cell_state(
            rows,
            n_seeds=len(seeds),
            advantage=score,
            undefended=over_seeds(control) if control else None,
        )
        cells[attack, stack] = Cell(
            attack=attack,
            family="family",
            stack=stack,
            pipeline="p",
            state=state,
            advantage=score,
            per_seed=rows,
            sentence="",
            threat="server",
        )
    made = MatrixResult(
        name="m",
        description="",
        command="",
        versions={},
        created="",
        seeds=seeds,
        attacks=tuple(
            AttackInfo(
                label=label,
                name=label,
                family="family",
                goal="availability" if label.startswith("flip") else "confidentiality",
                idea="",
                source="",
                pipeline="p",
                threat="server",
                threat_sentence="",
            )
            for label in attacks
        ),
        stacks=tuple(
            StackInfo(name=name, layers=() if name == "none" else ({"name": name},)) for name in stacks
        ),
        cells=cells,
        summaries={
            name: StackSummary(stack=name, by_pipeline={"p": PipelineSummary(pipeline="p")})
            for name in stacks
        },
        ledgers={},
        observers={"server": ""},
        pipelines={"p": {}},
        utility_pipeline="p",
    )
    return replace(made, **changed)


def sentence(result: MatrixResult, which: int) -> str:
    return federation_findings(result)[which].sentence


STRONG, WEAK = (0.9, 0.95, 0.92), (0.01, 0.05, 0.0)


def test_the_worst_attack_is_one_that_is_shown_to_work() -> None:
    found = matrix(
        {
            ("dlg", "none"): STRONG,
            ("dlg", "clip"): WEAK,
            ("flip", "none"): (0.4, 0.9, -0.3),
            ("flip", "clip"): (0.4, 0.9, -0.3),
        }
    )
    worst = federation_findings(found)[WORST]
    assert worst.sentence.startswith("On privacy an attack is shown to work against 1 of 2 stacks")
    assert "dlg against none, 0.92 [0.86, 0.99]" in worst.sentence
    assert "on robustness no attack is shown to work, which proves no stack safe" in worst.sentence
    assert worst.details[1] == "clip: privacy: none is shown to work; robustness: none is shown to work"
    bare = matrix({("dlg", "none"): STRONG})
    cells = {
        key: replace(cell, advantage=None, per_seed=(), state="pending") for key, cell in bare.cells.items()
    }
    assert sentence(replace(bare, cells=cells), WORST) == "No attack was scored yet."


def test_a_defense_moved_an_attack_where_the_paired_difference_excludes_zero() -> None:
    values: Values = {("dlg", "none"): STRONG, ("dlg", "clip"): WEAK, ("dlg", "mask"): (0.9, 0.94, 0.93)}
    moved = federation_findings(matrix(values))[MOVED]
    assert moved.sentence.startswith(
        "Of 2 comparisons with the stack without layers 1 shows a change: clip weakens dlg by 0.90 ["
    )
    assert len(moved.details) == 1
    assert "mask" not in moved.sentence
    stronger = matrix({("dlg", "none"): (0.2, 0.25, 0.22), ("dlg", "clip"): STRONG})
    assert "clip strengthens dlg by 0.70" in sentence(stronger, MOVED)
    same = matrix({("dlg", "none"): STRONG, ("dlg", "clip"): (0.91, 0.94, 0.93)})
    assert sentence(same, MOVED).startswith("None is shown to: of 1 comparison")


def test_seeds_that_share_their_noise_are_paired() -> None:
    """The cells' intervals overlap widely; the differences do not spread."""
    noise = np.array([-0.3, 0.0, 0.3])
    result = matrix(
        {("dlg", "none"): tuple(1.5 + noise), ("dlg", "clip"): tuple(1.2 + noise + [0.01, -0.01, 0.0])}
    )
    (effect,) = effects(result)
    assert effect.after.high > effect.before.low
    assert effect.moved
    assert effect.change.value == pytest.approx(-0.3)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({("dlg", "a"): STRONG, ("dlg", "b"): WEAK}, "Nothing can be compared: no stack is without layers."),
        ({("dlg", "none"): WEAK, ("dlg", "clip"): WEAK}, "Nothing can be compared: no attack is shown to work"),
        ({("dlg", "none"): STRONG[:1], ("dlg", "clip"): WEAK[:1]}, "Nothing can be compared: no attack is shown"),
        ({("dlg", "none"): STRONG, ("dlg", "clip"): (0.85, 0.9, 0.88)}, "None is shown to"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_said(values: Values, said: str) -> None:
    assert sentence(matrix(values), MOVED).startswith(said)


def test_seeds_that_agree_exactly_show_no_spread_and_so_no_effect() -> None:
    assert effects(matrix({("dlg", "none"): (1.0, 1.0, 1.0), ("dlg", "clip"): (0.5, 0.5, 0.5)})) == ()


def with_costs(losses: Sequence[float], n_bytes: float) -> MatrixResult:
    made = matrix({("dlg", "none"): STRONG, ("dlg", "clip"): WEAK})
    seconds = Score(name="cpu_seconds", value=0.2, low=0.2, high=0.2, n=3, baseline=0.0, ideal=0.0)
    parts = {
        "none": PipelineSummary(pipeline="p", loss=over_seeds((0.0,) * 3), costs={"network_bytes": over_seeds((100.0,) * 3), "cpu_seconds": seconds}),
        "clip": PipelineSummary(pipeline="p", loss=over_seeds(losses), costs={"network_bytes": over_seeds((n_bytes,) * 3), "cpu_seconds": seconds}),
    }  # fmt: skip
    summaries = {name: StackSummary(stack=name, by_pipeline={"p": part}) for name, part in parts.items()}
    return replace(made, summaries=summaries)


def test_what_a_defense_cost() -> None:
    dear = federation_findings(with_costs((0.1, 0.12, 0.11), 250.0))[COST]
    assert dear.sentence.startswith(
        "Clip on p loses 0.110 [0.085, 0.135] of accuracy; clip on p sends 2.50 times the bytes"
    )
    assert dear.details == ("clip on p: accuracy lost 0.110 [0.085, 0.135]; 2.50 times the bytes; 0.20 s of processor time for 0.20 s, which was measured once",)  # fmt: skip
    cheap = sentence(with_costs((-0.05, 0.05, 0.0), 100.0), COST)
    assert (
        cheap
        == "No loss of accuracy is shown for clip on p, where more than 0.124 is excluded; none of them sends more bytes."
    )
    unknown = matrix({("dlg", "none"): STRONG, ("dlg", "clip"): WEAK})
    assert sentence(unknown, COST) == "That was not measured: no honest run completed with it and without."
    nothing = matrix({("dlg", "none"): STRONG, ("dlg", "clip"): STRONG})
    assert sentence(nothing, COST) == "There is nothing to pay for: no defense is shown to weaken an attack."


def test_what_a_defense_costs_of_a_rare_class_is_said_where_the_paired_loss_excludes_0() -> None:
    def said(behind: Sequence[float]) -> tuple[str, tuple[str, ...]]:
        made, free = with_costs((0.0, 0.01, -0.01), 100.0), (0.5, 0.9, 0.7)
        lost = over_seeds([whole - left for whole, left in zip(free, behind, strict=True)])
        part = made.summaries["clip"].by_pipeline["p"]
        part = replace(part, detection={"aupr": over_seeds(behind)}, detection_lost={"aupr": lost})
        clip = replace(made.summaries["clip"], by_pipeline={"p": part})
        found = federation_findings(replace(made, summaries={**made.summaries, "clip": clip}))[COST]
        return found.sentence, found.details

    # the seeds differ by more than the stack takes of each: intervals of the two overlap, that of the loss is clear of 0
    lost, details = said((0.4, 0.79, 0.61))
    assert "of the AUPR of the class to detect clip on p loses 0.100 [0.075, 0.125]" in lost
    assert "AUPR lost 0.100 [0.075, 0.125], 0.60 [0.12, 1.08] left" in details[0]
    kept, details = said((0.6, 0.8, 0.7))
    assert "AUPR" not in kept
    assert "AUPR lost 0.000" in details[0]


def test_costs_of_many_stacks_are_named_for_the_first_ones_and_kept_in_the_details() -> None:
    stacks = ("a", "b", "c", "d", "e")
    made = matrix({("dlg", "none"): STRONG} | {("dlg", stack): WEAK for stack in stacks})
    costly = with_costs((0.0, 0.01, -0.01), 250.0).summaries
    summaries = {name: costly["none" if name == "none" else "clip"] for name in ("none", *stacks)}
    found = federation_findings(replace(made, summaries=summaries))[COST]
    assert found.sentence.startswith(
        "No loss of accuracy is shown for a on p, b on p, c on p and 2 more below"
    )
    assert found.sentence.endswith("c on p sends 2.50 times the bytes of no defense (2 more below).")
    assert [line.partition(":")[0] for line in found.details] == [f"{stack} on p" for stack in stacks]


def with_epsilon(
    advantages: Sequence[float], epsilon: float | str, bound: str = "upper bound"
) -> MatrixResult:
    made = matrix({("loss", "none"): STRONG[: len(advantages)], ("loss", "dp"): advantages})
    cells = {
        key: replace(
            cell,
            per_seed=tuple(
                replace(
                    row,
                    raw={"member_scores": [1.0], "nonmember_scores": [0.0]},
                    metrics={"advantage": over_seeds((row.advantage or 0.0,) * 2)},
                )
                for row in cell.per_seed
            ),
        )
        for key, cell in made.cells.items()
    }
    row = {"guarantee": "differential privacy", "bound": bound, "epsilon": epsilon, "delta": 0.0, "unit": "example", "adjacency": "replace-one", "pipeline": "p", "vacuous": False}  # fmt: skip
    return replace(made, cells=cells, ledgers={("dp", "server"): (row,)})


def test_a_claim_is_contradicted_only_above_its_ceiling() -> None:
    broken = federation_findings(with_epsilon((0.8, 0.82, 0.81), 1.0))[CLAIM]
    assert broken.sentence.startswith(
        "Loss against dp, 0.81 [0.79, 0.83], exceeds the 0.462 that epsilon 1 allows server"
    )
    assert broken.sentence.endswith("the proof, the code or the premise of the attack is wrong.")
    held = federation_findings(with_epsilon((0.1, 0.12, 0.11), 1.0))[CLAIM]
    assert held.sentence.startswith("None: one proof was put to the test")
    assert "stays within the 0.462" in held.details[0]
    wide = federation_findings(with_epsilon((0.1, 0.9, 0.6), 1.0))[CLAIM]
    assert wide.sentence.startswith("None")
    assert "is not shown to exceed the 0.462" in wide.details[0]
    assert wide.sentence.endswith("none is shown to be exceeded, although the mean of 1 attack lies above.")
    free = with_epsilon((0.8, 0.82, 0.81), 50.0)
    assert sentence(free, CLAIM).endswith("the one proof that a membership attack meets allows everything.")
    twice = replace(
        free,
        ledgers={key: (*rows, {**rows[0], "adjacency": "add/remove"}) for key, rows in free.ledgers.items()},
    )
    assert sentence(twice, CLAIM).endswith("all 2 proofs that membership attacks meet allow everything.")
    for untested in (with_epsilon(STRONG, "infinity"), with_epsilon(STRONG, 1.0, "approximation")):
        assert sentence(untested, CLAIM).startswith("None was put to the test")


def test_one_seed_holds_no_proof_to_anything() -> None:
    """An interval that is not there exceeds nothing: this is no test that was passed."""
    alone = federation_findings(with_epsilon((1.0,), 0.1))[CLAIM]
    assert alone.sentence == (
        "None can be told: for the one proof that a membership attack meets there is one seed, which has no interval; the "
        "value of 1 attack lies above what is allowed."
    )
    assert "cannot be held to the 0.050 that epsilon 0.1 allows server" in alone.details[0]
    assert "lies above" not in sentence(with_epsilon((0.01,), 0.1), CLAIM)


@pytest.mark.parametrize(("family", "unit", "tested"), [
    ("membership", "client", True), ("membership", "example", False), ("property", "client", False),
])  # fmt: skip
def test_record_sets_of_clients_test_a_client_s_epsilon_alone(family: str, unit: str, tested: bool) -> None:
    made = with_epsilon((0.8, 0.82, 0.81), 1.0)
    answers = {"yes_scores": [1.0], "no_scores": [0.0]}
    cells = {
        key: replace(cell, per_seed=tuple(replace(row, raw=answers) for row in cell.per_seed))
        for key, cell in made.cells.items()
    }
    rows = {key: tuple({**row, "unit": unit} for row in rows) for key, rows in made.ledgers.items()}
    attacks = tuple(replace(attack, family=family) for attack in made.attacks)
    found = sentence(replace(made, cells=cells, ledgers=rows, attacks=attacks), CLAIM)
    assert ("exceeds the 0.462" in found) == tested
    assert found.startswith("None was put to the test") != tested


def test_an_attack_that_reads_what_is_sealed_contradicts_its_secrecy() -> None:
    """Where it is blocked there is nothing to test; where it is scored, it may do no better than a guess."""
    proof = Prediction(
        epsilon=0.0, delta=2e-9, layer="link", unit="messages", adjacency="sealed", stated=1e-9
    )
    for scores, broken in (((0.8, 0.82, 0.81), True), ((-0.1, 0.12, 0.01), False)):
        made = with_epsilon(scores, 1.0, "approximation")
        cell = made.cells["loss", "dp"]
        told = replace(cell, per_seed=tuple(replace(row, predicted=proof.to_dict()) for row in cell.per_seed))
        found = federation_findings(replace(made, cells={**made.cells, ("loss", "dp"): told}))[CLAIM]
        expected = "exceeds the 2.0e−09" if broken else "is not shown to exceed the 2.0e−09"
        assert f"{expected} that the secrecy of messages under link allows server" in found.details[0]
        assert found.sentence.startswith("None") != broken


@given(st.floats(0.0, 5.0), st.floats(0.0, 1e-3))
def test_the_ceiling_of_two_steps_is_that_of_the_group(epsilon: float, delta: float) -> None:
    one = Bound(epsilon=epsilon, delta=delta, unit="example", adjacency="replace-one", pipeline="p", vacuous=False)  # fmt: skip
    two = ceiling(replace(one, adjacency="zero-out"))
    assert ceiling(one) <= two <= 1
    assert two == pytest.approx(
        min(
            1.0,
            (np.expm1(2 * epsilon) + 2 * min(1.0, (1 + np.exp(epsilon)) * delta)) / (np.exp(2 * epsilon) + 1),
        )
    )
    assert ceiling(replace(one, epsilon=400.0, adjacency="add/remove")) == 1.0


def test_answers_about_clients_have_a_roc_curve_too() -> None:
    """Three clients of whom it holds and two others: the curve ends at 1 and starts at half of what one of two is."""
    row = matrix({("loss", "none"): STRONG}).cells["loss", "none"].per_seed[0]
    cell = matrix({("loss", "none"): STRONG}).cells["loss", "none"]
    told = {"yes_scores": [3.0, 2.0, 0.5], "no_scores": [1.0, 0.0]}
    charts = cell_figures(replace(cell, per_seed=(replace(row, status="ok", raw=told),)))
    (curve,) = [chart for chart in charts if chart.title.startswith("ROC")]
    assert curve.x.log
    assert curve.y.log
    (seed,) = [series for series in curve.series if series.name.startswith("seed")]
    assert list(zip(seed.x, seed.y, strict=True)) == [
        (0.25, 0.25), (0.25, 1 / 3), (0.25, 2 / 3), (0.5, 2 / 3), (0.5, 1.0), (1.0, 1.0),
    ]  # fmt: skip


def test_what_cannot_be_told() -> None:
    decided = matrix({("dlg", "none"): STRONG, ("dlg", "clip"): WEAK})
    assert (
        sentence(decided, OPEN)
        == "Every cell is decided; what other attacks, data or seeds would show is not."
    )
    made = matrix(
        {
            ("dlg", "none"): WEAK,
            ("dlg", "clip"): WEAK,
            ("loss", "none"): STRONG,
            ("loss", "clip"): (-1.0, 1.0, 0.3),
        }
    )
    cells = {
        key: replace(cell, seeds_to_decide=9 if cell.state == "too few seeds" else None)
        for key, cell in made.cells.items()
    }
    undecided = PipelineSummary(pipeline="p", undecided=True, seeds_to_decide=7)
    found = federation_findings(
        replace(
            made,
            cells=cells,
            summaries={**made.summaries, "clip": StackSummary(stack="clip", by_pipeline={"p": undecided})},
        )
    )[OPEN]
    assert found.sentence == (
        "Of 4 cells, 2 cells say nothing of a defense, since the attack does not work without one; 1 cell has too few seeds "
        "(about 9 in place of 3 would decide); whether a stack leaves a model of use is open in 1 case."
    )
    assert "whether clip leaves a model of use on p, about 7 seeds would tell" in found.details


# --- noise ---


def pvalue(values: Any) -> float:
    """Student's test that the mean is 0, from its definition."""
    spread = np.std(values, ddof=1) / np.sqrt(len(values))
    return 0.0 if spread == 0 else float(2 * stats.t.sf(abs(np.mean(values)) / spread, len(values) - 1))


values_of = st.lists(st.floats(-2.0, 2.0), min_size=3, max_size=3).map(tuple)


@given(st.tuples(values_of, values_of, values_of))
@settings(max_examples=150, deadline=None)
def test_no_sentence_says_more_than_the_intervals(table: tuple[tuple[float, ...], ...]) -> None:
    """Student's interval by another library, and every number in the sentences is one of the result's."""
    none, first, second = table
    found = federation_findings(matrix({("dlg", "none"): none, ("dlg", "a"): first, ("dlg", "b"): second}))
    words = " ".join((found[MOVED].sentence, *found[MOVED].details))
    for name, own in (("a", first), ("b", second)):
        if re.search(rf"\b{name} (weakens|strengthens) dlg", words):
            assert pvalue(none) < 0.05
            assert np.mean(none) > 0
            assert pvalue(np.subtract(none, own)) < 0.05 + 1e-9
            assert abs(np.mean(own) - np.mean(none)) >= 0.1 - 1e-9
            assert ("strengthens" in words) or np.mean(own) < np.mean(none)
    shown = [pvalue(own) < 0.05 and np.mean(own) > 0 for own in table]
    if not any(shown):
        assert found[WORST].sentence == "On privacy no attack is shown to work, which proves no stack safe."


def test_noise_is_called_an_effect_no_more_often_than_its_intervals_err() -> None:
    """About a thousand comparisons of equal means: at most 5 % and what chance adds to that (Hoeffding at 10^-6)."""
    rng = np.random.default_rng(0)
    called = compared = 0
    for _ in range(60):
        stacks = ("none", *(f"s{index}" for index in range(20)))
        table = {("dlg", stack): tuple(0.9 + rng.normal(0.0, 0.15, 3)) for stack in stacks}
        found = effects(matrix(table))
        compared += len(found)
        called += sum(effect.moved for effect in found)
    assert compared > 300
    assert called / compared <= 0.05 + np.sqrt(np.log(1e6) / (2 * compared))


def test_the_worst_of_a_family_leaves_out_what_has_no_power() -> None:
    made = matrix(
        {
            ("dlg", "none"): STRONG,
            ("dlg", "clip"): (0.5, 0.52, 0.48),
            ("loss", "none"): (-0.5, -0.4, -0.6),
            ("loss", "clip"): (0.6, -0.9, 0.7),
        }
    )
    worst = family_worst(made, "clip", "family")
    assert worst is not None
    assert worst.attack == "dlg"
    assert family_worst(made, "clip", "another") is None


# --- channels ---


def channel(false_keys: Mapping[tuple[str, str], Sequence[bool]]) -> ChannelMatrixResult:
    rows = tuple(dict.fromkeys(row for row, _ in false_keys))
    columns = dict.fromkeys((column for _, column in false_keys), ())

    def outcome(*, false: bool) -> ChannelOutcome:
        return ChannelOutcome(attack="x", countermeasures=(), detected_by=(), n_key=1000, qber=0.01, key_length=500, eve_information=0.25, secret_bits=0.0 if false else 800.0, seeded=True)  # fmt: skip

    cells = {
        key: ChannelCell(
            attack=key[0],
            column=key[1],
            n_seeds=2,
            trials=tuple(Trial(seed=seed, outcome=outcome(false=one)) for seed, one in enumerate(found)),
        )
        for key, found in false_keys.items()
    }
    return ChannelMatrixResult(name="c", description="", command="", created="", versions={}, seeds=(0, 1), rows=rows, ideas=dict.fromkeys(rows, ""), columns=columns, cells=cells, spec={})  # fmt: skip


def test_findings_of_a_channel() -> None:
    yes, no = (True, True), (False, False)
    worst, stopped, left = pair_findings(channel({("split", "none"): yes, ("split", "decoy"): no, ("blind", "none"): yes, ("blind", "decoy"): (True, False)}))  # fmt: skip
    assert worst.sentence == "A key is claimed that the adversary knows in 3 cells, under split and blind."
    assert "split against none: false key, in 2 of 2 (at least 16 % of such runs)" in worst.details
    assert stopped.sentence == (
        "Of 2 attacks that did harm against none, 1 did none in any run against one other column or more; nothing here "
        "stopped blind."
    )
    assert (
        left.sentence
        == "What did not happen in 2 runs of a cell can still happen in up to 84 % of such runs."
    )
    calm = pair_findings(channel({("split", "none"): no, ("split", "decoy"): no}))
    assert calm[0].sentence.startswith("Nothing of what is looked for, in 2 cells")
    assert calm[1].sentence == "Nothing can be compared: no attack does harm against none."
    unfinished = pair_findings(channel({("split", "none"): ()}))
    assert unfinished[0].sentence == "No run was made yet."
    assert unfinished[2].sentence.startswith("1 cell not run to the end")


def test_effects_rest_on_the_intervals_that_the_trials_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is computed again from counts: to look at a page needs no SciPy."""
    bare = matrix({("flip", "none"): (0.9, 0.9), ("flip", "clip"): (0.1, 0.1)})
    raw = {"successes": 90, "successes_without_attack": 0, "n_triggered": 100}

    def kept(half: float) -> MatrixResult:
        cells = {
            place: replace(
                cell,
                per_seed=tuple(
                    replace(row, raw=raw, interval=(row.advantage - half, row.advantage + half))
                    for row in cell.per_seed
                    if row.advantage is not None
                ),
            )
            for place, cell in bare.cells.items()
        }
        return replace(bare, cells=cells)

    monkeypatch.setitem(sys.modules, "scipy.special", None)
    # two trials a seed, each from -half to half, over two seeds: half * sqrt(2) * sqrt(2) / 2
    for half in (0.1, 0.2):
        (effect,) = effects(kept(half))
        assert (effect.change.low, effect.change.high) == pytest.approx((-0.8 - half, -0.8 + half))


def test_a_name_keeps_its_small_letters_at_the_start_of_a_sentence() -> None:
    from qflsec.report.words import sentence

    assert sentence(["dp-sgd-8 costs much", "median little"]) == "dp-sgd-8 costs much; median little."
    assert sentence(["none, and none could be"]) == "None, and none could be."
    assert sentence([""]) == "."

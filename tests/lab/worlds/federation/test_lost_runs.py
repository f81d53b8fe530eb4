"""Runs that corrupted clients end are lost: scored as availability, ranked, and never called a failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from qflsec.base import Score
from qflsec.lab import MatrixResult, from_json, parse_spec, run, to_json
from qflsec.lab.worlds.federation.results import Abort, PipelineSummary, TrialRow
from qflsec.lab.worlds.federation.sentences import cell_sentence
from qflsec.lab.worlds.federation.states import cell_state, trial_status

HEAD = """
name = "hostile"
seeds = {seeds}
secrets = "seeded"
[pipelines.main]
data = {{ name = "breast-cancer", n_features = 2, balanced = true, members = {members}, nonmembers = 0, auxiliary = 8, test = {test} }}
model = {{ name = "vqc", n_qubits = 2, layers = 2 }}
federation = {{ n_clients = {n_clients}, rounds = {rounds}, local_steps = 2, learning_rate = 0.5, declared_corrupted = {n} }}
[threats.clients]
kind = "corrupted-clients"
n = {n}
[stacks]
"""
VALUES = {"500": "500.0", "1e30": "1e30", "nan": '"nan"', "inf": '"inf"'}
STACKS = {
    "none": "[]",
    "median": '[{ name = "median" }]',
    "norm-bound": '[{ name = "norm-bound" }]',
    "secagg": '[{ name = "secagg" }]',
    "masked": '[{ name = "masked" }]',
    "he-bfv": '[{ name = "he-bfv" }]',
    "validated": '[{ name = "validated", resolution_bits = 5 }]',
}
NOT_COUNTED = {
    **{(how, stack): "not finite" for how in ("nan", "inf") for stack in ("none", "median", "norm-bound")},
    **{(how, "validated"): "did not prove" for how in ("nan", "inf")},
    **{
        ("withhold", stack): "did not arrive"
        for stack in ("none", "median", "norm-bound", "secagg", "he-bfv", "validated")
    },
}


def document(stacks: dict[str, str], attacks: list[str], **numbers: object) -> str:
    lines = [f"{name} = {layers}" for name, layers in stacks.items()]
    return HEAD.format(**numbers) + "\n".join([*lines, *attacks])


def entry(label: str, name: str, **params: str) -> str:
    rest = "".join(f"\n{key} = {value}" for key, value in params.items())
    return f'\n[[attacks]]\nlabel = "{label}"\nname = "{name}"\npipeline = "main"\nthreat = "clients"{rest}'


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> MatrixResult:
    attacks = [entry(label, "constant", params=f"{{ value = {value} }}") for label, value in VALUES.items()]
    text = document(
        STACKS,
        [*attacks, entry("withhold", "withhold")],
        seeds=[0, 1],
        members=12,
        test=20,
        n_clients=4,
        rounds=2,
        n=1,
    )
    return run(parse_spec(text, base=Path()), tmp_path_factory.mktemp("lost") / "s.sqlite", jobs=1)


def test_every_lie_is_scored_or_lost_and_none_fails(result: MatrixResult) -> None:
    found = {key: {row.status for row in cell.per_seed} for key, cell in result.cells.items()}
    expected = {(label, stack): {"ok"} for label in (*VALUES, "withhold") for stack in STACKS}
    expected["withhold", "masked"] = {"lost"}
    assert found == expected
    assert not result.failures


def test_a_lost_run_counts_as_one_and_is_ranked(result: MatrixResult) -> None:
    cell = result.cells["withhold", "masked"]
    assert cell.state == "lost"
    assert cell.advantage is not None
    assert (cell.advantage.value, cell.advantage.n) == (1.0, 2)
    assert "client:0 sent nothing" in cell.per_seed[0].reason
    assert cell.per_seed[0].traceback == ""
    assert "counts as 1" in cell.sentence
    assert cell.aborts == {"cannot be known": 4}, "the lab knows who sent nothing; the parties do not"
    assert {row["caused_by"] for row in cell.records()} == {"cannot be known"}
    assert result.cells["withhold", "none"].aborts == {}
    runs = {row.aborts for row in result.runs if row.attack == "withhold" and row.stack == "masked"}
    assert runs == {(Abort(what="round", caused_by=None),) * 2}, "both rounds, and not the run once more"
    assert "incomplete" in cell.sentence
    worst = result.summaries["masked"].by_pipeline["main"].worst["robustness"]
    assert worst.advantage.value >= 1.0
    outcomes = {row.outcome.partition(":")[0] for row in result.runs if row.attack == "withhold"}
    assert outcomes == {"completed", "lost"}
    assert from_json(to_json(result)).cells == result.cells


def test_what_was_dropped_stands_with_the_trial(result: MatrixResult) -> None:
    for key, cell in result.cells.items():
        reasons = [reason for row in cell.per_seed for reason in row.raw.get("dropped_because", [])]
        assert bool(reasons) == (key in NOT_COUNTED), key
        lost = [row.raw.get("lost_rounds", []) for row in cell.per_seed]
        assert lost == ([[0, 1]] * 2 if key == ("withhold", "masked") else [[]] * 2), key
        told = [sentence for row in cell.per_seed for sentence in row.raw.get("faults", [])]
        if key == ("withhold", "masked"):
            assert all(sentence.endswith("who caused it cannot be known") for sentence in told)
        elif told:
            assert key[1] == "validated", "only what is signed is proved"
            assert all(sentence.endswith("caused by client:0") for sentence in told)
        if reasons:
            assert all(NOT_COUNTED[key] in reason for reason in reasons)
            assert [row.raw["dropped"] for row in cell.per_seed] == [[[0, 0], [1, 0]]] * 2
            assert "4 updates of attacked runs do not count: client:0: " in cell.sentence


@pytest.mark.parametrize(
    ("outcome", "goal", "status"),
    [
        ("completed", "availability", "completed"),
        ("lost: client:0 sent nothing; then so", "availability", "lost"),
        ("lost: client:0 sent nothing; then so", "integrity", "lost"),
        ("lost: client:0 sent nothing; then so", "confidentiality", "aborted"),
        ("aborted: so", "availability", "aborted"),
        ("failed: so", "availability", "failed"),
    ],
)
def test_the_goal_decides_what_a_lost_run_is_worth(outcome: str, goal: str, status: str) -> None:
    assert trial_status(outcome, goal) == (status, outcome.partition(": ")[2])


def test_one_lost_seed_makes_the_cell_lost_whatever_the_attack_can_do_elsewhere() -> None:
    rows = tuple(
        TrialRow(
            trial_id=status,
            run_id="r",
            seed=seed,
            status=status,  # type: ignore[arg-type]
            advantage=value,
            reason="" if status == "ok" else "client:0 sent nothing; then the round was incomplete",
        )
        for seed, (status, value) in enumerate([("ok", 0.1), ("lost", 1.0)])
    )
    nothing = Score(name="a", value=0.0, low=-0.1, high=0.1, n=2, baseline=0.0, ideal=1.0)
    assert cell_state(rows, n_seeds=2, advantage=None, undefended=nothing, useless=True) == "lost"
    sentence = cell_sentence(
        label="withhold",
        stack="masked",
        state="lost",
        rows=rows,
        advantage=Score(name="a", value=0.55, low=0.0, high=1.0, n=2, baseline=0.0, ideal=1.0),
        undefended=nothing,
        summary=PipelineSummary(pipeline="p"),
        n_seeds=2,
    )
    assert "of 2 seeds 1 lost" in sentence
    assert sentence.endswith("the round was incomplete.")


def test_below_the_cap_a_lie_is_worth_the_same_under_secure_aggregation(tmp_path: Path) -> None:
    """Five seeds; the two sums differ by the rounding of fixed point alone, 2^-16 a coordinate."""
    text = document(
        {name: STACKS[name] for name in ("none", "secagg")},
        [entry("flip", "scaled-sign-flip"), entry("constant", "constant", params="{ value = 3.0 }")],
        seeds=[0, 1, 2, 3, 4],
        members=40,
        test=60,
        n_clients=5,
        rounds=4,
        n=2,
    )
    result = run(parse_spec(text, base=Path()), tmp_path / "s.sqlite", jobs=1)
    for label in ("flip", "constant"):
        plain, sealed = (result.cells[label, stack].advantage for stack in ("none", "secagg"))
        assert plain is not None
        assert sealed is not None
        assert plain.n == sealed.n == 5
        assert plain.low > 0, "without power the comparison would say nothing"
        assert plain.low <= sealed.value <= plain.high
        assert sealed.low <= plain.value <= sealed.high
        assert abs(plain.value - sealed.value) < 0.05

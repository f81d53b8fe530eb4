"""``qflsec epsilon``: figures, witness, notes, JSON and refusals."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Call = Callable[..., Any]
DOCS = (Path(__file__).parents[2] / "docs" / "quantum_dp.md").read_text(encoding="utf-8")
ISSUE = (
    "epsilon", "--noise", "global-depolarizing:p=0.1", "--qubits", "3", "--tau", "0.1", "--adjacency", "all",
    "--measurement", "any", "--shots", "1000", "--parameters", "24", "--gradient", "parameter-shift",
    "--uses-per-round", "1", "--rounds", "20",
)  # fmt: skip


def test_one_copy_and_the_run_with_witness_and_notes(qflsec: Call) -> None:
    text = qflsec(*ISSUE).out
    for words in (
        "global-depolarizing:p=0.1", "all 3 qubits together", "p I / D", "all states within trace distance tau = 0.1",
        "measurement  any", "2.104134 nats (exact", "0.1025 against 0.0125", "980,000 = 1,000 shots x 49 circuits",
        "vacuous", "note: ", "188,491.8",
    ):  # fmt: skip
        assert words in text, words


def test_json_has_the_documented_fields_and_a_witness_to_check_by_hand(qflsec: Call) -> None:
    document = qflsec(*ISSUE, "--json").json()
    table = re.findall(r"^\| (`.*`) \| ", DOCS.partition("## The JSON document")[2], re.MULTILINE)
    assert set(document) == {name for row in table for name in re.findall(r"`(\w+)`", row)}
    for part in ("noise", "single_copy", "witness", "copies", "run", "membership_ceiling"):
        for name in document[part]:
            assert f"`{name}`" in DOCS, name
    rho, sigma, effect = (
        np.array(document["witness"][name])[..., 0] + 1j * np.array(document["witness"][name])[..., 1]
        for name in ("rho", "sigma", "effect")
    )
    assert np.abs(np.linalg.eigvalsh(rho - sigma)).sum() / 2 == pytest.approx(0.1)
    chances = [float(np.trace(effect @ (0.9 * state + 0.1 * np.eye(8) / 8)).real) for state in (rho, sigma)]
    assert math.log(chances[0] / chances[1]) == pytest.approx(document["single_copy"]["epsilon_nats"])
    assert document["run"]["epsilon_pure_nats"] == pytest.approx(980_000 * math.log(8.2))


def test_a_bare_depolarizing_is_the_documented_default(qflsec: Call) -> None:
    document = qflsec(
        "epsilon", "--noise", "depolarizing:0.1", "--tau", "0.1", "--adjacency", "pure", "--json"
    ).json()
    assert document["noise"]["kind"] == "local-depolarizing"
    assert document["noise"]["parameters"] == {"p": 0.1}
    assert document["single_copy"]["epsilon_nats"] == pytest.approx(0.410069, abs=1e-6)
    assert document["run"]["refusal"].startswith("an analytic expectation value")
    other = qflsec("epsilon", "--noise", "pennylane-depolarizing:0.1", "--shots", "1", "--json").json()
    assert other["single_copy"]["kappa"] == pytest.approx(14)


def test_the_weight_that_pennylanes_damping_counts_is_told(qflsec: Call) -> None:
    text = qflsec(
        "epsilon", "--noise", "generalized-amplitude-damping:gamma=0.3,ground=0.75", "--shots", "1"
    ).out
    assert "counts the weight of |1>: p = 1 - ground" in text
    assert "p = ground" not in text


def test_noise_without_a_floor_is_told(qflsec: Call) -> None:
    document = qflsec("epsilon", "--noise", "phase-damping:0.3", "--shots", "10", "--json").json()
    assert document["single_copy"]["epsilon_nats"] == document["run"]["epsilon_nats"] == "infinity"
    assert "shot noise alone is not differentially private" in document["run"]["refusal"]
    assert (
        "infinity: the noise leaves no floor"
        in qflsec("epsilon", "--noise", "bit-flip:0.2", "--shots", "9").out
    )


@pytest.mark.parametrize(
    "options",
    [
        ("--noise", "deplarizing:0.1"),
        ("--noise", "depolarizing:q=0.1"),
        ("--noise", "depolarizing"),
        ("--noise", "depolarizing:many"),
        ("--noise", "depolarizing:1.5"),
        ("--noise", "pennylane-depolarizing:0.8"),
        ("--noise", "depolarizing:0.1", "--tau", "0"),
        ("--noise", "depolarizing:0.1", "--qubits", "9"),
        ("--noise", "depolarizing:0.1", "--adjacency", "some"),
        ("--noise", "depolarizing:0.1", "--measurement", "x"),
        ("--noise", "depolarizing:0.1", "--gradient", "adam"),
        ("--noise", "depolarizing:0.1", "--shots", "0"),
        ("--noise", "depolarizing:0.1", "--shots", "5", "--delta", "2"),
    ],
)
def test_mistakes_are_one_line(qflsec: Call, options: tuple[str, ...]) -> None:
    answer = qflsec("epsilon", *options)
    assert answer.code == 2
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1

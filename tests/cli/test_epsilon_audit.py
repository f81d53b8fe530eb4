"""``qflsec epsilon audit``: files of scores, verdicts and exit codes, JSON, and refusals."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qflsec.accounting import audit_one_run, audit_scores
from qflsec.accounting.audited import Explicit, Grid, Ranks

Call = Callable[..., Any]
ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "epsilon_bounds.md").read_text(encoding="utf-8")


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, ...]:
    """300 scores of either side, one standard deviation and a half apart; one file has a heading and blank lines."""
    rng = np.random.default_rng(0)
    sides = {"in": rng.normal(1.5, 1, 300), "out": rng.normal(0, 1, 300)}
    for name, scores in sides.items():
        text = "score\n\n" * (name == "in") + "\n".join(map(str, scores)) + "\n"
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8")
    return ("--in", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out.csv"))


def scores(files: tuple[str, ...]) -> tuple[list[float], list[float]]:
    first, second = (
        [float(line) for line in Path(path).read_text().split() if line != "score"] for path in files[1::2]
    )
    return first, second


@pytest.mark.parametrize(
    ("options", "choice"),
    [
        ((), None),
        (("--ranks",), Ranks()),
        (("--threshold", "1"), Explicit(threshold=1.0)),
        (("--threshold", "1", "--threshold", "2"), Grid(thresholds=(1.0, 2.0))),
    ],
)
def test_bounds_are_those_of_the_functions(
    qflsec: Call, files: tuple[str, ...], options: tuple[str, ...], choice: Any
) -> None:
    document = qflsec("epsilon", "audit", *files, *options, "--json").json()
    for shown, method in zip(document["bounds"], ("clopper-pearson", "gaussian"), strict=True):
        own = audit_scores(*scores(files), delta=1e-5, choice=choice, method=method)  # type: ignore[arg-type]
        assert (shown["epsilon_lower_nats"], shown["epsilon_ceiling_nats"]) == (own.lower, own.ceiling)
        assert (shown["method"], shown["conditional"], shown["mu_lower"]) == (method, own.conditional, own.mu)
    names = set(re.findall(r"`(\w+)`", DOCS.partition("## The JSON document")[2]))
    assert {*document, *document["bounds"][0]} <= names


def test_one_run(qflsec: Call, files: tuple[str, ...]) -> None:
    options = ("--one-run", "--guesses", "50,50", "--delta", "1e-3", "--seed", "3")
    document = qflsec("epsilon", "audit", *files, *options, "--json").json()
    curve = qflsec("epsilon", "audit", *files, *options, "--curve", "--json").json()
    shown = [*document["bounds"], curve["bounds"][0]]
    for one, method in zip(shown, ("one-run", "one-run-gaussian", "one-run-f-dp"), strict=True):
        own = audit_one_run(*scores(files), delta=1e-3, guesses=[(50, 50)], method=method, seed=3)  # type: ignore[arg-type]
        assert (one["epsilon_lower_nats"], one["method"]) == (own.lower, method)


@pytest.mark.parametrize(
    ("claim", "code", "words"),
    [
        ("0.5", 1, "claim 0.5: refuted; the bound lies above it"),
        ("3", 0, "claim 3: not refuted; which does not show that it holds\nnote: it is refuted if"),
        ("9", 3, "claim 9: not tested; no result of this audit could lie above"),
    ],
)
def test_a_claim_has_a_verdict_and_an_exit_code(
    qflsec: Call, files: tuple[str, ...], claim: str, code: int, words: str
) -> None:
    answer = qflsec("epsilon", "audit", *files, "--claim", claim)
    assert answer.code == code
    assert words in answer.out
    document = qflsec("epsilon", "audit", *files, "--claim", claim, "--json")
    assert document.code == code
    assert document.json()["claim"]["epsilon_nats"] == float(claim)


def test_an_infinite_threshold_is_a_word_in_the_document(qflsec: Call, files: tuple[str, ...]) -> None:
    for given, shown in (("inf", "infinity"), ("-inf", "-infinity")):
        document = qflsec("epsilon", "audit", *files, "--threshold", given, "--json").json()
        assert document["bounds"][0]["threshold"] == shown
        assert document["bounds"][0]["epsilon_lower_nats"] == 0


def test_the_example_of_the_docs(qflsec: Call) -> None:
    """Noise of half the size that was claimed: not refuted by what is proved, and refuted if it is Gaussian."""
    command = re.search(r"^qflsec (epsilon audit .*)$", DOCS, re.MULTILINE)
    assert command is not None
    words = [str(ROOT / word) if word.endswith(".csv") else word for word in command[1].split()]
    answer = qflsec(*words, "--json")
    assert answer.code == 0
    plain, gaussian = answer.json()["bounds"]
    assert (round(plain["epsilon_lower_nats"], 2), round(plain["epsilon_ceiling_nats"], 2)) == (2.75, 4.78)
    assert round(gaussian["epsilon_lower_nats"], 2) == 7.62


def test_without_a_delta_there_is_no_gaussian_form(qflsec: Call, files: tuple[str, ...]) -> None:
    answer = qflsec("epsilon", "audit", *files, "--delta", "0")
    assert answer.code == 0
    assert "clopper-pearson" in answer.out
    assert "gaussian" not in answer.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--one-run", "--ranks"), "guesses in the place of thresholds"),
        (("--guesses", "3,3"), "for canaries of one run"),
        (("--curve",), "for canaries of one run"),
        (("--ranks", "--threshold", "1"), "two ways to choose"),
        (("--one-run", "--guesses", "3"), "--guesses is no pair"),
        (("--delta", "2"), "delta is out of range"),
        (("--claim", "nan"), "--claim is no epsilon"),
        (("--claim", "-1"), "--claim is no epsilon"),
        (("--seed", "-1"), "seed is out of range"),
        (("--one-run", "--seed", "-1"), "seed is out of range"),
        (("--in", "missing.csv"), "missing.csv cannot be read"),
    ],
)
def test_mistakes_are_one_line(
    qflsec: Call, files: tuple[str, ...], options: tuple[str, ...], words: str
) -> None:
    answer = qflsec("epsilon", "audit", *files, *options)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert words in answer.err


def test_a_line_that_is_no_score_is_named(qflsec: Call, files: tuple[str, ...]) -> None:
    path = Path(files[1])
    path.write_text("score\n1.0\n1,5\n", encoding="utf-8")
    answer = qflsec("epsilon", "audit", *files)
    assert answer.code == 2
    assert f"line 3 of {path} is no score" in answer.err


def test_options_of_a_single_figure_are_refused_before_audit(qflsec: Call) -> None:
    assert (
        "options before 'audit'" in qflsec("epsilon", "--qubits", "2", "audit", "--in", "a", "--out", "b").err
    )
    assert "--noise is missing" in qflsec("epsilon").err

"""The page on circuits names what the code knows."""

from __future__ import annotations

from pathlib import Path

from qflsec.circuits.forms import FUNCTIONS
from qflsec.circuits.roles import FEATURE_NAMES, WEIGHT_NAMES

PAGE = (Path(__file__).parents[2] / "docs" / "own_circuits.md").read_text(encoding="utf-8")


def named(line: str) -> set[str]:
    return set(line.split("`")[1::2])


def test_names_and_functions_are_the_codes() -> None:
    lines = PAGE.splitlines()
    features = next(line for line in lines if line.startswith("| features |"))
    assert named(features) == FEATURE_NAMES | {"features_argument"}
    weights = next(line for line in lines if line.startswith("| weights |"))
    assert named(weights) <= WEIGHT_NAMES
    assert named(next(line for line in lines if line.startswith("`tanh`"))) == set(FUNCTIONS)

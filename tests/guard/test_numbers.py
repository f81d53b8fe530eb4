"""The guard's own comparison: it sees one bit, a row that is gone, and what rounding cannot explain."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from guarded_lab import PRESETS
from guarded_numbers import differences, distances, packed, plain, unpacked
from regenerate import read


def rows() -> dict[str, Any]:
    run = {
        "outcome": "completed",
        "accuracy": [0.5, 0.6],
        "loss": [0.7, 0.61],
        "n_test": 100,
        "params": packed(torch.tensor([0.1, 0.2])),
        "epsilon": {"server": [["dp-sgd", "example", 5.25]]},
        "k": {"server": 1},
    }
    return {"runs": {"a": run}, "trials": {"b": {"status": "ok", "advantage": 0.5, "raw": {"scores": [1.0]}}}}


CHANGES: dict[str, tuple[tuple[str, ...], Any, bool]] = {
    "an ulp of a model": (
        ("runs", "a", "params"),
        packed(torch.nextafter(torch.tensor([0.1, 0.2]), torch.ones(2))),
        False,
    ),
    "an ulp of a loss": (("runs", "a", "loss"), [0.7, math.nextafter(0.61, 1)], False),
    "one test record": (("runs", "a", "accuracy"), [0.5, 0.61], False),
    "a raw score": (("trials", "b", "raw"), {"scores": [1.0 + 1e-9]}, False),
    "a model elsewhere": (("runs", "a", "params"), packed(torch.tensor([0.101, 0.2])), True),
    "five test records": (("runs", "a", "accuracy"), [0.5, 0.65], True),
    "another epsilon": (("runs", "a", "epsilon"), {"server": [["dp-sgd", "example", 5.26]]}, True),
    "another k": (("runs", "a", "k"), {"server": 2}, True),
    "another status": (("trials", "b", "status"), "blocked", True),
    "an integer for a float": (("trials", "b", "advantage"), 1, True),
    "no advantage": (("trials", "b", "advantage"), None, True),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_is_seen_and_rounding_is_told_apart(name: str) -> None:
    way, value, beyond_rounding = CHANGES[name]
    changed = copy.deepcopy(rows())
    here = changed
    for step in way[:-1]:
        here = here[step]
    here[way[-1]] = value
    assert list(differences(rows(), changed))
    assert bool(list(distances(rows(), changed))) is beyond_rounding


def test_what_a_last_bit_decides_is_held_to_its_guarantees_alone() -> None:
    def quantised(**change: Any) -> dict[str, Any]:
        run = rows()["runs"]["a"] | change
        return {"runs": {"few-records | update-quantization | 0": run}, "trials": {}}

    assert not list(distances(quantised(), quantised(accuracy=[0.5, 0.9], params=packed(torch.ones(2)))))
    for change in ({"epsilon": {}}, {"k": {"server": 2}}, {"outcome": "aborted"}):
        assert list(distances(quantised(), quantised(**change)))


@pytest.mark.parametrize("table", ["runs", "trials"])
def test_a_row_that_is_gone_or_new_is_seen(table: str) -> None:
    without = {**rows(), table: {}}
    for compare in (differences, distances):
        assert list(compare(rows(), without))
        assert list(compare(without, rows()))
        assert not list(compare(rows(), rows()))


def test_vectors_and_numbers_are_stored_exactly() -> None:
    vector = torch.tensor([0.1, -1e-30, 3.0], dtype=torch.float32)
    assert unpacked(packed(vector)).tobytes() == vector.numpy().tobytes()
    assert plain({"x": (math.inf, math.nan, 0.1)}) == {"x": ["inf", "nan", 0.1]}


@pytest.mark.parametrize("preset", PRESETS)
def test_no_fixture_holds_a_failure(preset: str) -> None:
    stored = read(preset)["rows"]
    assert {row["outcome"] for row in stored["runs"].values()} <= {"completed", "aborted"}
    assert {row["status"] for row in stored["trials"].values()} <= {
        "ok",
        "blocked",
        "aborted",
        "incompatible",
    }


def test_only_the_last_digits_of_an_epsilon_may_differ() -> None:
    def with_epsilon(value: float) -> dict[str, Any]:
        changed = copy.deepcopy(rows())
        changed["runs"]["a"]["epsilon"]["server"][0][2] = value
        return changed

    assert not list(differences(rows(), with_epsilon(math.nextafter(5.25, 6))))
    assert list(differences(rows(), with_epsilon(5.25 * (1 + 1e-11))))

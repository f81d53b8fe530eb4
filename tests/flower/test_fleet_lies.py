"""Nodes that lie, by processes: each is refused by name, and the sum is that of the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from fleet import sail, trick

CLAIM = "it says that it is client:0, and does not prove it"


@pytest.mark.slow
def test_lies_of_nodes_are_refused_by_name_under_secure_aggregation(tmp_path: Path) -> None:
    """Seven clients, of whom four are enough: two or three lie in each of three rounds, in their own ways."""
    tricks = [
        trick(1, -1, "hello", "claim"),
        trick(2, 0, "train", "garbage"),
        trick(3, 0, "train", "nan"),
        trick(4, 0, "train", "keep"),
        trick(4, 1, "train", "play back"),
        trick(5, 1, "train", "play back as it was"),
        trick(4, 2, "train", "keep"),
        trick(2, 2, "train", "copy"),
    ]
    sailed = sail(tmp_path, nodes=7, rounds=3, tricks=tricks, layer="secagg of 4", patience=60.0)
    assert sailed.finished.outcome == "completed", sailed.finished
    first, second, third = sailed.finished.rounds
    assert first["ids"] == [0, 4, 5, 6]
    assert second["ids"] == [0, 2, 3, 6]
    assert third["ids"] == [0, 3, 4, 5, 6]
    sailed.check_sums()
    assert list(first["refused"].values()) == [CLAIM]
    assert "no node of it is connected" in first["missing"]["1"]
    assert "malformed" in first["missing"]["2"]
    assert "did not arrive" in first["missing"]["3"]  # what is no vector of the protocol is none at all
    assert "a message of client:4 of another round; got 0; expected 1" in second["missing"]["4"]
    assert second["missing"]["5"] == "it sent a letter of round 0 in round 1"
    assert "wrong signature" in third["missing"]["2"]


@pytest.mark.slow
def test_lies_of_nodes_are_refused_by_name_without_a_protocol(tmp_path: Path) -> None:
    tricks = [
        trick(1, -1, "hello", "claim"),
        trick(2, 0, "train", "garbage"),
        trick(3, 0, "train", "nan"),
        trick(4, 0, "train", "keep"),
        trick(4, 1, "train", "play back as it was"),
    ]
    sailed = sail(tmp_path, nodes=5, rounds=2, tricks=tricks, layer="none", patience=60.0)
    assert sailed.finished.outcome == "completed", sailed.finished
    first, second = sailed.finished.rounds
    assert (first["ids"], second["ids"]) == ([0, 4], [0, 2, 3])
    sailed.check_sums(tolerance=1e-6)
    assert list(first["refused"].values()) == [CLAIM]
    assert "malformed" in first["missing"]["2"]
    assert "not finite" in first["malformed"]["3"]
    assert second["missing"]["4"] == "it sent a letter of round 0 in round 1"

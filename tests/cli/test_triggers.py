"""``qflsec triggers``: alarms as text and as a document, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]
PLANTED = """
[[attacks]]
label = "a trigger"
name = "feature-trigger"
pipeline = "{pipeline}"
threat = "planter"
params = {{ target_class = 0, features = [1], boost = 9.0 }}

[threats.planter]
kind = "corrupted-clients"
n = 1
"""


@pytest.fixture
def planted(tiny: Path) -> Path:
    text = tiny.read_text()
    name = text.split("[pipelines.", 1)[1].split("]", 1)[0].split(".")[0]
    tiny.write_text(text + PLANTED.format(pipeline=name))
    return tiny


def test_alarms_and_their_document(qflsec: Call, planted: Path) -> None:
    arguments = ("triggers", str(planted), "--runs", "2", "--clean", "6", "--rate", "0.255", "--records", "5")
    text, document = qflsec(*arguments).out, qflsec(*arguments, "--json").json()
    clean, attacked = document["rows"]
    assert document["schema"] == "qflsec-triggers/1"
    assert (clean["attack"], clean["target_class"], clean["target_suspected"]) == (None, None, None)
    assert (attacked["attack"], attacked["target_class"]) == ("a trigger", 0)
    for row in (clean, attacked):
        assert row["alarms"] == sum(map(bool, row["suspected"])) <= row["models"] == len(row["sizes"]) == 2
        assert [p <= 0.255 for p in row["least_p_value"]] == [bool(classes) for classes in row["suspected"]]
        assert row["alarms_low"] <= row["alarms"] / 2 <= row["alarms_high"]
    assert clean["sizes"] != attacked["sizes"]
    assert f"a trigger: alarms on {attacked['alarms']} of 2" in text
    assert "raised on at most 25.5% of clean models" in text


def test_refusals(qflsec: Call, planted: Path) -> None:
    given = ("triggers", str(planted))
    few = qflsec(*given, "--clean", "36").err
    assert "too few clean models" in few
    assert "got --clean 36, --rate 0.05; expected 37 models or more" in few
    assert "'rate' is a share; got 0.0" in qflsec(*given, "--rate", "0").err
    assert "no such stack; got other" in qflsec(*given, "--stack", "other").err
    assert "no such pipeline; got other" in qflsec(*given, "--pipeline", "other").err
    assert "no models that are trained" in qflsec("triggers", "bb84").err
    planted.write_text(planted.read_text().split('[[attacks]]\nlabel = "a trigger"')[0])
    assert "no backdoor of the specification is planted" in qflsec(*given).err

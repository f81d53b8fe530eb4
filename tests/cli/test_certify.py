"""``qflsec certify``: the certificate as text and as a document, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]


@pytest.fixture
def behind_crfl(tiny: Path) -> Path:
    layers = """
crfl = [{ name = "norm-bound", max_norm = 0.2 }, { name = "mean" }, { name = "crfl", max_norm = 20.0, noise_std = 0.1 }]
"""
    text = tiny.read_text()
    assert "[stacks]\n" in text
    tiny.write_text(text.replace("[stacks]\n", f"[stacks]{layers}"))
    return tiny


def test_the_certificate_and_its_document(qflsec: Call, behind_crfl: Path) -> None:
    arguments = ("certify", str(behind_crfl), "--samples", "30")
    text, document = qflsec(*arguments).out, qflsec(*arguments, "--json").json()
    standing = document["stand_by_corrupted_clients"]
    assert document["schema"] == "qflsec-certify/1"
    assert standing == sorted(standing, reverse=True)
    assert standing[0] <= document["proved"] <= document["records"] == len(document["shift_by_record"])
    assert standing[-1] == 0
    assert f"{document['proved']} of {document['records']} records have a proved answer" in text
    assert f"1 of {document['clients_in_a_round']} clients: {standing[1]} right answers stand" in text
    assert "a single trained model may give another" in text
    assert document["weight_of_a_client"] == 1 / document["clients_in_a_round"]
    assert f"weighs 1/{document['clients_in_a_round']}, whatever it states" in text


def test_the_preset_of_the_documentation_is_covered(qflsec: Call) -> None:
    assert "records have a proved answer" in qflsec("certify", "backdoors", "--samples", "2").out


def test_refusals(qflsec: Call, behind_crfl: Path) -> None:
    given = ("certify", str(behind_crfl))
    assert "no such stack; got other" in qflsec(*given, "--stack", "other").err
    assert "norm-bound with 'max_norm'" in qflsec(*given, "--stack", "none").err
    assert "not so many rounds" in qflsec(*given, "--later-rounds", "1000").err
    assert "no models that are trained" in qflsec("certify", "bb84").err
    text = behind_crfl.read_text()
    behind_crfl.write_text(text.replace('{ name = "mean" }, ', ""))
    assert 'put { name = "mean" } between' in qflsec(*given).err
    behind_crfl.write_text(text.replace("rounds = ", 'optimizer_state = "run", momentum = 0.5, rounds = '))
    assert "optimizer_state = 'round', or no later rounds" in qflsec(*given, "--later-rounds", "1").err

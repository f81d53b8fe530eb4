"""``qflsec leak``: the certificate as text and as a document, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Call = Callable[..., Any]


def test_the_certificate_of_every_pipeline(qflsec: Call, tiny: Path) -> None:
    text = qflsec("leak", str(tiny)).out
    for words in (
        "main\n",
        "4 records in a gradient",
        "algebra      dimension",
        "encoder known",
        "warning",
        "note: ",
    ):
        assert words in text, words


def test_the_document(qflsec: Call, tiny: Path) -> None:
    document = qflsec("leak", str(tiny), "--records", "1", "--json").json()
    assert document["schema"] == "qflsec-leak/1"
    found = document["pipelines"]["main"]
    assert found["records"] == 1
    assert found["tangent"]["rank"] <= found["tangent"]["unknowns"] == 2
    assert [one["encoder_known"] for one in found["circuit"]["unknowns"]] == [False, True]
    assert found["circuit"]["largest"] == 15
    assert found["warnings"]


def test_refusals(qflsec: Call, tiny: Path) -> None:
    assert (
        "no such pipeline; got other; expected main" in qflsec("leak", str(tiny), "--pipeline", "other").err
    )
    assert "no models that are trained" in qflsec("leak", "bb84").err

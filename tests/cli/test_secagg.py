"""``qflsec secagg`` and ``qflsec bench secagg``: text, JSON, aborts as results, and refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from qflsec.base import ConfigError
from qflsec.cli.app import app

DOCS = Path(__file__).parents[2] / "docs" / "secagg.md"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["secagg", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def document(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*arguments, "--json"))
    return found


def test_the_command_of_the_issue_at_a_smaller_size() -> None:
    text = run("--protocol", "secagg", "--clients", "10", "--drop", "3", "--parameters", "200")
    assert "the exact sum of what they encoded of 7 clients" in text
    assert "the server: reads no other client's vector; reads the sum of 7 clients" in text
    assert "who takes part, who drops out" in text
    for kind in ("start", "advertise", "roster", "parcels", "delivery", "update", "survivors", "reveal"):
        assert re.search(rf"^  {kind} ", text, re.MULTILINE)


def test_an_abort_is_a_result() -> None:
    found = document("--drop", "4", "--drop-stage", "share")
    assert found["outcome"]["status"] == "aborted"
    assert "too few clients" in found["outcome"]["reason"]
    assert found["outcome"]["reason"].endswith("who caused it cannot be known")
    assert found["outcome"]["caused_by"] is None
    assert found["outcome"]["exact"] is None
    assert "No sum was released" in run("--drop", "4")


def keys_of(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(keys_of, value)) if value else set()
    if not isinstance(value, dict):
        return set()
    return set(value) | set().union(
        *(keys_of(part) for key, part in value.items() if key not in {"layer", "costs"})
    )


def test_the_document_has_documented_keys() -> None:
    found = document("--protocol", "secagg", "--agreement", "bb84", "--drop", "1", "--parameters", "36")
    assert found["schema"] == "qflsec-secagg/1"
    assert found["costs"] == {"qkd_key_bits": 10 * 9 * 256}
    text = DOCS.read_text()
    missing = {key for key in keys_of(found) - {"masked"} if f"`{key}`" not in text}
    assert not missing


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--drop", "10"], "nobody is left"),
        (["--protocol", "no"], "unknown protocol"),
        (["--protocol", "masked", "--threshold", "7"], "no such option"),
        (["--drop-stage", "later"], "no stage"),
        (["--agreement", "rsa"], "unknown key agreement"),
    ],
)
def test_mistakes_are_one_sentence(arguments: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        CliRunner().invoke(app, ["secagg", *arguments], catch_exceptions=False)


def test_the_benchmark() -> None:
    result = CliRunner().invoke(
        app,
        ["bench", "secagg", "--parameters", "36", "--clients", "9", "--repeats", "1", "--json"],
        catch_exceptions=False,
    )
    found = json.loads(result.stdout)
    assert found["schema"] == "qflsec-bench-secagg/1"
    assert {row["parameters"] for row in found["rows"]} == {36}
    assert found["targets"] == []
    with pytest.raises(ConfigError, match="not a list of numbers"):
        CliRunner().invoke(app, ["bench", "secagg", "--parameters", "x"], catch_exceptions=False)

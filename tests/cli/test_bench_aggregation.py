"""``qflsec bench aggregation``: both codes agree, stable keys, and what it refuses."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from qflsec.base import ConfigError
from qflsec.cli.app import app

KEYS = {
    *("rule", "n", "d", "microseconds", "plain_microseconds", "floor_microseconds"),
    *("difference", "target", "speed_up", "met"),
}


def test_the_rules_agree_with_plain_code() -> None:
    command = ["bench", "aggregation", "--clients", "11,13", "--parameters", "20", "--repeats", "1"]
    run = CliRunner().invoke(app, [*command, "--json"])
    assert run.exit_code == 0, run.output
    document = json.loads(run.stdout)
    assert document["schema"] == "qflsec-bench-aggregation/1"
    assert {row["rule"] for row in document["rows"]} >= {
        "nnm",
        "krum",
        "geometric-median",
        "minimum-diameter",
    }
    for row in document["rows"]:
        assert set(row) == KEYS
        assert row["met"]
        assert (row["floor_microseconds"] is not None) == (row["rule"] in {"krum", "multi-krum", "nnm"})
        if row["rule"] == "minimum-diameter" and row["n"] == 13:
            assert row["plain_microseconds"] is None, "the plain search would take minutes at most sizes"
        elif row["rule"] != "bulyan":
            assert row["difference"] < 1e-5, row


@pytest.mark.parametrize(
    "options", [["--clients", "many"], ["--clients", "3"], ["--clients", "900"], ["--parameters", "0"]]
)
def test_impossible_sizes_are_refused(options: list[str]) -> None:
    run = CliRunner().invoke(app, ["bench", "aggregation", *options])
    assert isinstance(run.exception, ConfigError)

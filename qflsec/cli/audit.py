"""``qflsec audit``: verdicts on a pipeline that somebody else wrote."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qflsec.base.errors import ConfigError
from qflsec.cli.options import AsJson, Plugins, command_line
from qflsec.cli.render import print_json

if TYPE_CHECKING:
    from qflsec.audit import AuditResult

__all__ = ["audit"]

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_SHORTEST = 5.0


def audit(
    target: Annotated[
        str, typer.Argument(help="A Python file, file.py:name, or the folder of a Flower app.")
    ],
    claims: Annotated[
        Path | None, typer.Option(help="What the pipeline's author claims, a TOML file.")
    ] = None,
    budget: Annotated[str, typer.Option(help="Wall time: 90s, 5m, 1h.")] = "5m",
    seed: Annotated[int, typer.Option(min=0, help="Of the audit's own draws.")] = 0,
    check: Annotated[list[str] | None, typer.Option(help="Make this check alone; may be repeated.")] = None,
    threat: Annotated[
        list[str] | None,
        typer.Option(
            help="Whose view of a Flower app is attacked: server, client, network or public; may be repeated."
        ),
    ] = None,
    plugins: Plugins = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Run the code in its own folder in place of a copy.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Write an HTML page here.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML here.")] = None,
    sarif: Annotated[Path | None, typer.Option(help="Write SARIF here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Audit a pipeline: coverage, findings by severity, a verdict on each claim.

    Exit code 0: every claim was tested and none refuted, and no finding is an error. 1: one is. 2: the command cannot be
    used so. 3: a claim or a check was not tested to its end, or no check applies. The pipeline's code is executed.
    """
    seconds = _seconds(budget)
    from qflsec.audit import audit as run
    from qflsec.audit import find_target, read_claims
    from qflsec.audit.flower.observers import DEFAULT_PARTIES
    from qflsec.audit.outputs import print_audit, write_outputs

    result: AuditResult = run(
        find_target(target),
        None if claims is None else read_claims(claims),
        budget=seconds,
        seed=seed,
        checks=check or (),
        threats=threat or DEFAULT_PARTIES,
        plugins=plugins or (),
        in_place=in_place,
        command=command_line(),
        progress=_progress,
    )
    write_outputs(result, report=report, junit=junit, sarif=sarif)
    if as_json:
        print_json(result.to_json())
    else:
        print_audit(result)
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _seconds(text: str) -> float:
    """A wall time such as 90s, 5m or 1h.

    Raises:
        ConfigError: It is none, or too short for anything to be run.
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh]?)", text.strip())
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if seconds < _SHORTEST:
        raise ConfigError(
            "--budget is no wall time", got=repr(text), expected="at least 5s, as in 90s, 5m or 1h"
        )
    return seconds


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{line[:100]}")
        sys.stderr.flush()

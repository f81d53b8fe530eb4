"""``qflsec plugin``: what somebody who writes a plugin needs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from qflsec.cli.options import AsJson
from qflsec.cli.render import print_json

if TYPE_CHECKING:
    from qflsec.lab.conformance import Check

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Plugins of your own.")


@app.callback()
def _group() -> None:
    """Plugins of your own."""


@app.command("check")
def check(
    plugin: Annotated[str, typer.Argument(help="A file or module of yours that registers plugins.")],
    as_json: AsJson = False,
) -> None:
    """Check everything that a file registers: card, shapes, control, state, determinism, pickling."""
    from qflsec.lab.conformance import check_plugin

    found: list[Check] = []
    for one in check_plugin(plugin):
        found.append(one)
        if not as_json:
            typer.echo(
                f"{one.state:<11}  {one.kind} {one.name}: {one.check}{f': {one.why}' if one.why else ''}"
            )
    failed = [one for one in found if one.state == "failed"]
    if as_json:
        checks = [asdict(one) for one in found]
        print_json(
            {"schema": "qflsec-plugin-check/1", "plugin": plugin, "failed": len(failed), "checks": checks}
        )
    else:
        for traceback in dict.fromkeys(one.traceback for one in failed if one.traceback):
            typer.echo(traceback.rstrip())
        typer.echo(f"{len(failed)} of {len(found)} checks failed.")
    if failed:
        raise typer.Exit(1)

"""The application: its commands, and how errors are told."""

from __future__ import annotations

import atexit
import gc
import sys
import warnings
from collections.abc import Callable
from typing import Annotated

import typer

from qflsec.base.errors import QflsecError
from qflsec.base.failures import own_traceback
from qflsec.base.notices import Notice
from qflsec.cli import bb84, bench, benchmark, blind, catalog, epsilon, flower, matrix, plugin
from qflsec.cli.audit import audit
from qflsec.cli.certify import certify
from qflsec.cli.init import init
from qflsec.cli.leak import leak
from qflsec.cli.options import OWN_PROCESS
from qflsec.cli.reference import reference
from qflsec.cli.secagg import secagg
from qflsec.cli.stopping import Terminated, exit_code, terminable
from qflsec.cli.triggers import triggers
from qflsec.version import __version__

__all__ = ["app", "main"]

app = typer.Typer(
    name="qflsec",
    help="Attack-vs-defense lab for quantum federated learning.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(matrix.app, name="matrix")
app.add_typer(bb84.app, name="bb84")
app.add_typer(blind.app, name="blind")
app.add_typer(bench.app, name="bench")
app.add_typer(benchmark.app, name="benchmark")
app.add_typer(plugin.app, name="plugin")
app.add_typer(epsilon.app, name="epsilon")
app.add_typer(flower.app, name="flower")
app.command("init")(init)
app.command("list")(catalog.list_names)
app.command("show")(catalog.show)
app.command("reference")(reference)
app.command("secagg")(secagg)
app.command("leak")(leak)
app.command("certify")(certify)
app.command("triggers")(triggers)
app.command("audit")(audit)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"qflsec {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Attack-vs-defense lab for quantum federated learning."""


def _told(others: Callable[..., None]) -> Callable[..., None]:
    """Notices are a line each; warnings of other packages keep their place in the code."""

    def show(message: Warning | str, category: type[Warning], *where: object, **kept: object) -> None:
        if issubclass(category, Notice):
            sys.stderr.write(f"note: {message}\n")
        else:
            others(message, category, *where, **kept)

    return show


def main() -> int:
    """Run the command line.

    A user's mistake is one line on stderr and exit code 2; several mistakes of one file are a line each. A mistake in the user's own code is told by the frames
    of that code as well; without such frames an error that is not ours to tell is a bug, and keeps its traceback.
    """
    atexit.register(
        gc.freeze
    )  # the end of a process looks for garbage in every module: half a second of torch's
    try:
        with warnings.catch_warnings(), terminable():
            warnings.showwarning = _told(warnings.showwarning)
            app(obj=OWN_PROCESS)
    except QflsecError as error:
        told = "".join(f"error: {line}\n" for line in str(error).splitlines())
        sys.stderr.write(f"{own_traceback(error)}{told}")
        return 2
    except Terminated as stop:
        sys.stderr.write("stopped\n")
        return exit_code(stop)
    except Exception as error:
        own = own_traceback(error)
        if not own:
            raise
        sys.stderr.write(own)
        return 1
    return 0

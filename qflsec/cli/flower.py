"""``qflsec flower``: apps of Flower with the toolkit's protections, on this machine."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from qflsec.base.errors import ConfigError
from qflsec.cli.options import AsJson
from qflsec.cli.render import print_json
from qflsec.cli.stopping import Terminated, exit_code, terminable

__all__ = ["app", "need_flower"]

_SET_BY_THE_RUN = {"num-clients", "num-server-rounds", "server-home", "ledger"}

app = typer.Typer(no_args_is_help=True, help="Apps of Flower with stacks of layers in them.")


@app.callback()
def _group() -> None:
    """Apps of Flower with stacks of layers in them."""


@app.command("new")
def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; made if it does not exist.")],
    nodes: Annotated[int, typer.Option("--nodes", help="The number of clients.")] = 10,
) -> None:
    """Write an app that runs: a QNode, breast cancer, and sums that are noisy before the server reads them."""
    from qflsec.flower.project import new_project

    for path in new_project(folder, nodes=nodes):
        typer.echo(f"wrote {path}")
    typer.echo(f"next: qflsec flower run {folder} --nodes {nodes}")


@app.command("run")
def run(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of an app.")],
    nodes: Annotated[int, typer.Option("--nodes", help="How many SuperNodes are started.")] = 10,
    rounds: Annotated[
        int | None, typer.Option("--rounds", help="Rounds; the app's own number by default.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Where keys, logs and the ledger go; DIR/runs/TIME by default."),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A value of the app's run configuration; may be repeated."
        ),
    ] = None,
    limit: Annotated[float, typer.Option("--limit", help="Stop after so many seconds.")] = 3600.0,
    as_json: AsJson = False,
) -> None:
    """Start a SuperLink and SuperNodes on this machine over TLS, run an app, and stop all of them.

    Keys and certificates are made for the run. Flower starts a process for every message that a node gets, so that a
    round takes seconds for each exchange; the run's folder keeps the logs, and a line of JSON for each round.
    """
    need_flower()
    from qflsec.flower.deployment import Deployment

    place = out or folder / "runs" / time.strftime("%Y%m%d-%H%M%S")
    settings = _settings(values or [])
    if rounds is not None:
        settings["num-server-rounds"] = rounds
    deployment = Deployment(
        app=folder.resolve(),
        nodes=nodes,
        folder=place.resolve(),
        config=settings,
        limit=limit,
        told=None if as_json else _told,
    )
    deployment.check()
    if not as_json:
        typer.echo(f"a SuperLink and {nodes} SuperNodes on 127.0.0.1; logs in {place}/logs")
    try:
        with terminable():
            done = deployment.run()
    except (KeyboardInterrupt, Terminated) as stop:
        typer.echo(f"stopped: every process of the run was ended; its logs are in {place}/logs", err=True)
        raise typer.Exit(exit_code(stop)) from None
    if as_json:
        print_json(
            {
                "schema": "qflsec-flower/1",
                "outcome": done.outcome,
                "nodes": nodes,
                "rounds": list(done.rounds),
                "scores": dict(done.scores),
                "seconds": done.seconds,
                "logs": str(done.logs),
            }
        )
    else:
        said = "".join(f", {name} {value:.3f}" for name, value in done.scores.items())
        typer.echo(f"{done.outcome} after {len(done.rounds)} rounds and {done.seconds:.0f} s{said}")
    if done.outcome != "completed":
        raise typer.Exit(1)


def _settings(values: Sequence[str]) -> dict[str, str | int | float | bool]:
    """Values as the app's own file would hold them; what is no value of TOML is a string.

    Raises:
        ConfigError: One has no name, or is not a number, a truth value or a string.
    """
    found: dict[str, str | int | float | bool] = {}
    for given in values:
        name, equals, text = given.partition("=")
        try:
            value, *others = tomllib.loads(f"value = {text}").values()
        except ValueError:
            value, others = text, []
        if not name or not equals or others or not isinstance(value, str | int | float):
            raise ConfigError(
                "'--set' is not understood", got=given, expected="NAME=VALUE, such as patience=60.0"
            )
        if name in _SET_BY_THE_RUN:
            raise ConfigError(
                "'--set' names a value that the run sets itself",
                got=name,
                fix="see --nodes, --rounds and --out",
            )
        found[name] = value
    return found


def _told(line: Mapping[str, Any]) -> None:
    """A line for each round."""
    if line["kind"] != "round":
        return
    left = {**line["missing"], **line["malformed"]}
    out = "".join(f"; without client {client}: {why}" for client, why in left.items())
    what = f"lost: {line['lost']}" if line["lost"] else f"{len(line['ids'])} clients count"
    typer.echo(f"round {line['round'] + 1}: {what}, {line['seconds']:.0f} s{out}")


def need_flower() -> None:
    """Refuse to go on without Flower.

    Raises:
        ConfigError: It is not installed.
    """
    import importlib.util

    if importlib.util.find_spec("flwr") is None:
        raise ConfigError("Flower is not installed", fix="pip install 'qflsec[flower]'")

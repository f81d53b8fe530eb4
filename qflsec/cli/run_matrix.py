"""Running a matrix of any kind from the command line, to its end or until somebody stops it."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Generator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from qflsec.base.errors import ConfigError
from qflsec.cli.options import check_workers, command_line, own_process, parse_seeds
from qflsec.cli.stopping import Terminated, exit_code
from qflsec.cli.watch import Watch, served

if TYPE_CHECKING:
    from qflsec.lab import Progress, Result

__all__ = ["check_folder", "run_matrix_command", "show", "write_report_to"]


def run_matrix_command(
    spec: str,
    *,
    kind: str | None = None,
    store: Path | None,
    report: Path | None,
    jobs: int | None,
    backend: str,
    address: str | None,
    engine: str | None = None,
    seeds: str | None,
    seed: int,
    as_json: bool,
    long: bool = False,
    sentences: bool = False,
    watch: Watch | None = None,
    wait: bool = False,
) -> None:
    """Run what is left of a matrix and show its result.

    Args:
        spec: A preset or a file.
        kind: The kind that it has to be of; any by default.
        store: The result store; NAME.sqlite of the matrix by default.
        report: Where to write the HTML report; where the specification says by default.
        jobs: Worker processes.
        backend: ``"local"``, ``"loky"``, ``"dask"`` or ``"ray"``.
        address: A running Dask scheduler or Ray cluster.
        engine: What makes the runs; what the specification says by default.
        seeds: Seeds in the place of the specification's.
        seed: Added to every seed.
        as_json: Whether to print the result as a document.
        long: Whether a plan is confirmed that would take more than a day.
        sentences: Whether to say every cell as a sentence too.
        watch: Whether, and how, to serve the page while it fills.
        wait: Whether to wait where another process works on the store.
    """
    own = own_process()
    if own:
        # its copies have one thread, and what they compute must not depend on whose copies they are
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        gc.disable()  # what modules make stays: to look for garbage among it is a tenth of importing them
    from qflsec.lab import load_spec
    from qflsec.lab.specs import look, with_engine

    check_workers(jobs, backend, address)
    loaded = load_spec(spec, kind=kind)
    chosen = with_engine(loaded, engine).with_seeds(seeds=parse_seeds(seeds), offset=seed)
    report = report or (Path(loaded.report) if loaded.report else None)
    place = store if store is not None else Path(f"{chosen.name}.sqlite")
    check_folder(report)
    if not wait:
        _check_store(place)
    look(chosen)
    from qflsec.cli.progress import follow
    from qflsec.lab import assemble, build, run_matrix
    from qflsec.lab.grid.forks import copy_this_process

    command = command_line()
    world = build(chosen)
    for remark in world.remarks():
        typer.echo(f"note: {remark}", err=True)
    if own:
        gc.freeze()
        gc.enable()
    if own and backend == "local" and jobs != 1 and not world.alone:
        copy_this_process()
    on_wait = (lambda text: typer.echo(f"note: {text}", err=True)) if wait else None
    steps = run_matrix(
        world,
        place,
        jobs=jobs,
        backend=backend,
        address=address,
        command=command,
        long=long,
        on_wait=on_wait,
    )

    def found() -> Result[Any]:
        return assemble(world, place, command=command)

    def finish() -> Result[Any]:
        follow(steps)
        result = assemble(world, place, command=command, keep=True)
        show(result, report, as_json=as_json, sentences=sentences)
        return result

    with nullcontext() if watch is None else served(watch, place, found):
        result = _unless_stopped(finish, steps, place)
    if result.failures:
        typer.echo("something failed; give the same command again to repeat it.", err=True)
        raise typer.Exit(1)


def _check_store(place: Path) -> None:
    """Refuse a store that cannot be worked on, before anything heavy is imported.

    Raises:
        StoreError: It is none, or another process is at work on it.
    """
    from qflsec.lab.grid.lock import at_work
    from qflsec.lab.grid.store import Store

    with at_work(place):
        if place.exists():
            Store(place).close()


def _unless_stopped(
    finish: Callable[[], Result[Any]], steps: Generator[Progress, None, None], place: Path
) -> Result[Any]:
    """What ``finish`` gives, or the end of the command where a signal stops it; nothing stored is lost."""
    try:
        return finish()
    except (KeyboardInterrupt, Terminated) as stop:
        steps.close()
        typer.echo(
            f"stopped; every finished batch is in {place}. Give the same command again to go on.", err=True
        )
        raise typer.Exit(exit_code(stop)) from None


def show(result: Result[Any], report: Path | None, *, as_json: bool, sentences: bool = False) -> None:
    """Print a result, and write its report."""
    from qflsec.cli.render import print_json, print_result
    from qflsec.lab import to_dict

    if as_json:
        print_json(to_dict(result))
    else:
        print_result(result, sentences=sentences)
    if report is not None:
        write_report_to(result, report)


def write_report_to(result: Result[Any], path: Path) -> None:
    """Write the HTML report of a result."""
    from qflsec.report import write_report

    write_report(result, path)
    typer.echo(f"report: {path}", err=True)


def check_folder(path: Path | None) -> None:
    """Refuse an output that could not be written after all the work.

    Raises:
        ConfigError: Its folder does not exist, or it is one.
    """
    if path is not None and not path.absolute().parent.is_dir():
        raise ConfigError(
            "the folder of the output does not exist", got=path.absolute().parent, fix="make it first"
        )
    if path is not None and path.is_dir():
        raise ConfigError("the output is a folder", got=path, expected="the name of a file")

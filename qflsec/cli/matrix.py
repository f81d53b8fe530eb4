"""``qflsec matrix``: run matrices, and look at what was run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qflsec.cli.options import AsJson, SeedOffset, Seeds, Spec, StoreFile, command_line, parse_seeds
from qflsec.cli.render import print_json, print_result

if TYPE_CHECKING:
    from qflsec.lab import MatrixResult, MatrixSpec

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Attack-vs-defense matrices.")

StoreArgument = Annotated[
    Path, typer.Argument(help="A store, or a JSON document that was exported from one.")
]
SpecOption = Annotated[
    str | None,
    typer.Option("--spec", help="The matrix, where the store holds several; the last one by default."),
]


@app.command("run")
def run(
    spec: Spec,
    store: StoreFile = None,
    report: Annotated[Path | None, typer.Option("--report", help="Write the HTML report here.")] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Worker processes; one per core by default.")
    ] = None,
    backend: Annotated[str, typer.Option("--backend", help="loky, dask or ray.")] = "loky",
    address: Annotated[
        str | None, typer.Option("--address", help="A running Dask scheduler or Ray cluster.")
    ] = None,
    seeds: Seeds = None,
    seed: SeedOffset = 0,
    as_json: AsJson = False,
) -> None:
    """Run a matrix, or what is left of it: to resume or extend, give the same command again."""
    from qflsec.cli.bb84 import is_channel_matrix, run_matrix_preset
    from qflsec.cli.blind import is_session_matrix, run_session_preset

    if is_channel_matrix(spec, store=store, address=address, backend=backend):
        run_matrix_preset(spec, report=report, jobs=jobs, seeds=seeds, seed=seed, as_json=as_json)
        return
    if is_session_matrix(spec, store=store, address=address, backend=backend):
        run_session_preset(spec, report=report, jobs=jobs, seeds=seeds, seed=seed, as_json=as_json)
        return
    from qflsec.cli.progress import follow
    from qflsec.lab import Store, assemble, build_matrix, run_matrix

    chosen = _spec(spec, seeds, seed)
    place = store if store is not None else Path(f"{chosen.name}.sqlite")
    _check_folder(report)
    command = command_line()
    matrix = build_matrix(chosen)
    steps = run_matrix(matrix, place, jobs=jobs, backend=backend, address=address, command=command)
    try:
        last = follow(steps)
    except KeyboardInterrupt:
        steps.close()
        typer.echo(
            f"stopped; every finished batch is in {place}. Give the same command again to go on.", err=True
        )
        raise typer.Exit(130) from None
    assert last is not None
    with Store(place, create=False) as opened:
        result = assemble(matrix, opened, command=command)
    _show(result, report, as_json=as_json)
    if result.failures:
        typer.echo(f"{len(result.failures)} failures; give the same command again to repeat them.", err=True)
        raise typer.Exit(1)


@app.command("status")
def status(
    store: StoreArgument,
    spec: SpecOption = None,
    as_json: AsJson = False,
) -> None:
    """Say how far a matrix is."""
    result = _read(store, spec)
    done = sum(len(cell.per_seed) for cell in result.cells.values())
    total = len(result.cells) * len(result.seeds)
    failed = sum(row.status == "failed" for cell in result.cells.values() for row in cell.per_seed)
    if as_json:
        print_json(
            {
                "schema": "qflsec-matrix-status/1",
                "name": result.name,
                "command": result.command,
                "trials_done": done,
                "trials_total": total,
                "trials_failed": failed,
                "cells": [
                    {
                        "attack": cell.attack,
                        "stack": cell.stack,
                        "state": cell.state,
                        "trials_done": len(cell.per_seed),
                        "trials_total": len(result.seeds),
                    }
                    for cell in result.cells.values()
                ],
            }
        )
        return
    typer.echo(f"{result.name}: {done} of {total} trials are done, {failed} of them failed.")
    for cell in result.cells.values():
        typer.echo(f"  {cell.attack} x {cell.stack}: {cell.state}, {len(cell.per_seed)}/{len(result.seeds)}")
    if done < total:
        typer.echo(f"To go on: {result.command}")


@app.command("report")
def report(
    store: StoreArgument,
    out: Annotated[Path, typer.Option("--out", help="The HTML file.")],
    spec: SpecOption = None,
) -> None:
    """Write the HTML report of what a store holds."""
    _check_folder(out)
    _write_report(_read(store, spec), out)


@app.command("export")
def export(
    store: StoreArgument,
    out: Annotated[Path | None, typer.Option("--out", help="The file; stdout by default.")] = None,
    form: Annotated[
        str, typer.Option("--format", help="json (everything) or csv (one line per trial).")
    ] = "json",
    spec: SpecOption = None,
) -> None:
    """Write what a store holds as JSON or CSV."""
    from qflsec.base.errors import ConfigError
    from qflsec.cli.tables import trials_csv
    from qflsec.lab import to_json

    if form not in {"json", "csv"}:
        raise ConfigError("unknown format", got=repr(form), expected="json or csv")
    _check_folder(out)
    result = _read(store, spec)
    text = to_json(result) + "\n" if form == "json" else trials_csv(result)
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")


@app.command("diff")
def diff(
    first: StoreArgument,
    second: StoreArgument,
    as_json: AsJson = False,
) -> None:
    """Compare two results cell by cell; exit code 1 where they differ."""
    from qflsec.cli.tables import difference_line, differences_document
    from qflsec.lab import compare

    differences = compare(_read(first, None), _read(second, None))
    changed = [part for part in differences if not part.same]
    if as_json:
        print_json(differences_document(differences))
    else:
        for part in changed:
            typer.echo(difference_line(part))
        typer.echo(f"{len(changed)} of {len(differences)} cells differ.")
    if changed:
        raise typer.Exit(1)


def _spec(name: str, seeds: str | None, offset: int) -> MatrixSpec:
    from qflsec.lab import load_spec

    return load_spec(name).with_seeds(seeds=parse_seeds(seeds), offset=offset)


def _read(store: Path, spec: str | None) -> MatrixResult:
    from qflsec.lab import load_spec, read_result

    return read_result(store, None if spec is None else load_spec(spec))


def _check_folder(path: Path | None) -> None:
    """Refuse an output that could not be written after all the work."""
    if path is not None and not path.absolute().parent.is_dir():
        from qflsec.base.errors import ConfigError

        raise ConfigError(
            "the folder of the output does not exist", got=path.absolute().parent, fix="make it first"
        )


def _show(result: MatrixResult, report_path: Path | None, *, as_json: bool) -> None:
    if as_json:
        from qflsec.lab.worlds.federation.document import to_dict

        print_json(to_dict(result))
    else:
        print_result(result)
    if report_path is not None:
        _write_report(result, report_path)


def _write_report(result: MatrixResult, path: Path) -> None:
    from qflsec.report import write_report

    write_report(result, path)
    typer.echo(f"report: {path}", err=True)

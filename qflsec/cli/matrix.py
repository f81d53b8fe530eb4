"""``qflsec matrix``: run matrices, and look at what was run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qflsec.base.errors import ConfigError
from qflsec.cli.dry_run import dry_run_command
from qflsec.cli.options import (
    Address,
    AsJson,
    Backend,
    Engine,
    Jobs,
    Plugins,
    Report,
    SeedOffset,
    Seeds,
    Spec,
    StoreFile,
    the_only_store,
)
from qflsec.cli.render import print_json
from qflsec.cli.run_matrix import check_folder, run_matrix_command, write_report_to
from qflsec.cli.watch import Watch, served

if TYPE_CHECKING:
    from qflsec.lab import Result

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Attack-vs-defense matrices.")

Filled = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="A store, or a JSON document exported from one; the only *.sqlite of this folder by default.",
    ),
]
TwoStores = Annotated[Path, typer.Argument(help="A store, or a JSON document exported from one.")]
SpecOption = Annotated[
    str | None,
    typer.Option("--spec", help="The matrix, where the store holds several; the last one by default."),
]
Port = Annotated[
    int, typer.Option("--port", min=0, max=65535, help="The port of the live page; a free one by default.")
]


@app.command("run")
def run(
    spec: Spec,
    store: StoreFile = None,
    report: Report = None,
    jobs: Jobs = None,
    backend: Backend = "local",
    address: Address = None,
    engine: Engine = None,
    seeds: Seeds = None,
    seed: SeedOffset = 0,
    as_json: AsJson = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be run, and what it costs; run nothing.")
    ] = False,
    long: Annotated[bool, typer.Option("--long", help="Confirm a plan that takes more than a day.")] = False,
    sentences: Annotated[
        bool, typer.Option("--sentences", help="Say every cell as a sentence too, below the table.")
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Serve the page on this machine while it fills, to look at in a browser."
        ),
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="With --watch: serve it after the run too, until Ctrl-C.")
    ] = False,
    port: Port = 0,
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Where another process works on the store, wait until it has ended."),
    ] = False,
) -> None:
    """Run a matrix, or what is left of it: to resume or extend, give the same command again."""
    if (keep or port) and not watch:
        raise ConfigError("--keep and --port belong to a live page", fix="add --watch")
    if dry_run:
        dry_run_command(spec, store=store, jobs=jobs, seeds=seeds, seed=seed, as_json=as_json, engine=engine)
        return
    run_matrix_command(
        spec,
        store=store,
        report=report,
        jobs=jobs,
        backend=backend,
        address=address,
        engine=engine,
        seeds=seeds,
        seed=seed,
        as_json=as_json,
        long=long,
        sentences=sentences,
        watch=Watch(port=port, keep=keep) if watch else None,
        wait=wait,
    )


@app.command("watch")
def watch_store(store: Filled = None, spec: SpecOption = None, port: Port = 0) -> None:
    """Serve the page of a store that another process fills, on this machine alone, until Ctrl-C."""
    place = store or the_only_store()
    _read(place, spec)
    with served(Watch(port=port, keep=True), place, lambda: _read(place, spec)):
        pass


@app.command("status")
def status(
    store: Filled = None,
    spec: SpecOption = None,
    as_json: AsJson = False,
) -> None:
    """Say how far a matrix is."""
    from qflsec.cli.grid_table import print_grid
    from qflsec.cli.grids import status_grid

    result = _read(store, spec)
    cells = list(result.cells.values())
    done = sum(len(cell.statuses) for cell in cells)
    total = len(cells) * len(result.seeds)
    failed = sum(status == "failed" for cell in cells for status in cell.statuses.values())
    if as_json:
        print_json(
            {
                "schema": "qflsec-matrix-status/2",
                "kind": result.kind,
                "name": result.name,
                "command": result.command,
                "trials_done": done,
                "trials_total": total,
                "trials_failed": failed,
                "cells": [
                    {
                        "attack": cell.attack,
                        "column": cell.column,
                        "state": cell.state,
                        "trials_done": len(cell.statuses),
                        "trials_total": len(result.seeds),
                        "aborts_by_cause": dict(cell.aborts),
                    }
                    for cell in cells
                ],
            }
        )
        return
    typer.echo(f"{result.name}: {done} of {total} trials are done, {failed} of them failed.")
    print_grid(status_grid(result))
    for failure in result.failures:
        typer.echo(f"failed: {failure}")
    if done < total or failed:
        typer.echo(f"To go on: {result.command}")


@app.command("report")
def report(
    out: Annotated[Path, typer.Option("--out", help="The HTML file.")],
    store: Filled = None,
    spec: SpecOption = None,
    plugins: Plugins = None,
) -> None:
    """Write the HTML report of what a store holds; panels of your own by --plugins alone, as a store executes nothing."""
    check_folder(out)
    if plugins:
        from qflsec.lab.grid.files import load_user_plugins

        load_user_plugins(plugins)
    write_report_to(_read(store, spec), out)


@app.command("export")
def export(
    store: Filled = None,
    out: Annotated[Path | None, typer.Option("--out", help="The file; stdout by default.")] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="json (everything), csv (a line per trial), csv-cells, csv-ledger, latex (a booktabs table), markdown, or "
            "csv-pairs and markdown-pairs (attacks compared two by two on the same runs).",
        ),
    ] = "json",
    spec: SpecOption = None,
) -> None:
    """Write what a store holds as JSON, CSV, LaTeX or Markdown."""
    from qflsec.lab import attack_pairs, tables

    texts = {
        "json": _json,
        "csv": tables.trials_csv,
        "csv-cells": tables.cells_csv,
        "csv-ledger": tables.ledger_csv,
        "latex": tables.latex,
        "markdown": tables.markdown,
        "csv-pairs": attack_pairs.pairs_csv,
        "markdown-pairs": attack_pairs.pairs_markdown,
    }
    if form not in texts:
        raise ConfigError("unknown format", got=repr(form), expected=", ".join(texts))
    check_folder(out)
    text = texts[form](_read(store, spec))
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")


def _json(result: Result[Any]) -> str:
    from qflsec.lab import to_json

    return to_json(result) + "\n"


@app.command("diff")
def diff(
    first: TwoStores,
    second: TwoStores,
    out: Annotated[
        Path | None, typer.Option("--out", help="An HTML page to write, with both side by side.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two results cell by cell; exit code 1 where they differ."""
    from qflsec.cli.grid_table import print_grid
    from qflsec.cli.grids import difference_grid
    from qflsec.cli.tables import differences_document
    from qflsec.lab import compare

    check_folder(out)
    old, new = _read(first, None), _read(second, None)
    differences = compare(old, new)
    changed = [part for part in differences if not part.same]
    if as_json:
        print_json(differences_document(differences))
    else:
        if changed:
            print_grid(difference_grid(changed))
        typer.echo(f"{len(changed)} of {len(differences)} cells differ.")
    if out is not None:
        from qflsec.report.diff import write_diff

        typer.echo(f"page: {write_diff(old, new, out, names=(str(first), str(second)))}", err=True)
    if changed:
        raise typer.Exit(1)


def _read(store: Path | None, spec: str | None) -> Result[Any]:
    from qflsec.lab.reading import read_result

    place = store or the_only_store()
    if spec is None:
        return read_result(place)
    from qflsec.lab import load_spec

    return read_result(place, load_spec(spec))

"""``qflsec benchmark``: the result of a matrix as a document that ships, and the page that is made from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qflsec.base.errors import ConfigError
from qflsec.cli.run_matrix import check_folder

if TYPE_CHECKING:
    from qflsec.lab.platforms import PlatformRow

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Benchmarks: a matrix as a document that ships, and its page.")


@app.command("pack")
def pack(
    source: Annotated[Path, typer.Argument(help="A store in which a matrix has been run to its end.")],
    out: Annotated[Path, typer.Option("--out", help="The JSON document.")],
    platforms: Annotated[
        str | None,
        typer.Option(
            "--platforms",
            help="A preset or file whose utility pipeline is trained on every platform too; needs PennyLane and Qiskit.",
        ),
    ] = None,
    platform_seeds: Annotated[int, typer.Option(min=1, help="Seeds of the platforms, from 0.")] = 3,
) -> None:
    """Write the rows of a store as a versioned document, in which every cell is done."""
    from qflsec.lab import benchmark, load_spec
    from qflsec.lab.platforms import measure_platforms
    from qflsec.lab.worlds.federation.matrix import build_matrix
    from qflsec.lab.worlds.federation.spec import MatrixSpec

    check_folder(out)
    result = benchmark.read_benchmark(source).result
    benchmark.refuse_holes(result)  # before anything is measured
    rows: tuple[PlatformRow, ...] = ()
    if platforms is not None:
        spec = load_spec(platforms)
        if not isinstance(spec, MatrixSpec):
            raise ConfigError(
                "platforms run a federation", got=f"kind {spec.kind!r}", expected="'federation'"
            )
        matrix = build_matrix(spec)
        rows = measure_platforms(matrix.pipelines[matrix.utility_pipeline], range(platform_seeds))
    document = benchmark.pack(benchmark.Benchmark(result=result, platforms=rows))
    out.write_text(benchmark.to_text(document), encoding="utf-8")
    typer.echo(f"document: {out}", err=True)


@app.command("page")
def page(
    source: Annotated[Path, typer.Argument(help="The document; or a store, which has no platforms.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The Markdown file to write; stdout by default.")
    ] = None,
) -> None:
    """Write the page of a benchmark: findings, convergence, communication, every cell, and why some have no number."""
    from qflsec.lab.benchmark import read_benchmark, refuse_holes
    from qflsec.report.benchmark import benchmark_page

    check_folder(out)
    found = read_benchmark(source)
    refuse_holes(found.result)
    text = benchmark_page(found, source=source.as_posix())
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")

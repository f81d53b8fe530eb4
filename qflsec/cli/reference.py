"""``qflsec reference``: every table and key of a matrix file, and every check of an audit, from what they say themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from qflsec.cli.reference_audit import audit_reference_lines

if TYPE_CHECKING:
    from qflsec.base.parameters import Parameter

__all__ = ["reference", "reference_lines"]

_INTRO = """# Matrix files

Every table and key of a matrix file, of all three kinds. `qflsec init` writes a first one; `qflsec show NAME` prints a part of this
page, and also what plugins of yours take (`--plugins mine.py`). Names of files are relative to the matrix file.

The page is made from the classes that read the file: `qflsec reference --out docs/matrix.md`.
"""
_HEAD = ("| key | takes | default | unit | what it is |", "|---|---|---|---|---|")


def reference(
    of: Annotated[
        Literal["matrix", "audit"], typer.Option(help="Matrix files, or checks and claims of audits.")
    ] = "matrix",
    out: Annotated[
        Path | None, typer.Option("--out", help="The Markdown file to write; stdout by default.")
    ] = None,
) -> None:
    """Explain every table and key of a matrix file, or every check and claim of an audit."""
    from qflsec.cli.run_matrix import check_folder

    check_folder(out)
    text = "\n".join(reference_lines() if of == "matrix" else audit_reference_lines()) + "\n"
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")


def reference_lines() -> Iterator[str]:
    """The lines of the page."""
    yield from _INTRO.splitlines()
    yield from _federation()
    yield from _channel()
    yield from _delegation()
    yield from _plugins()


def _federation() -> Iterator[str]:
    from qflsec.data import DataSpec, PartitionSpec
    from qflsec.federation import Depths, FederationConfig, Satellites, Slimmable, Vehicles
    from qflsec.lab.worlds.federation.spec import AttackTable, MatrixSpec, PipelineTable
    from qflsec.models import Execution

    yield from ("", '## Attacks on federated learning (`kind = "federation"`, the default)')
    yield from _tables(MatrixSpec, "The file")
    yield from _tables(PipelineTable, "`[pipelines.NAME]`")
    yield from _tables(DataSpec, "`[pipelines.NAME.data]`")
    yield from ("", "`[pipelines.NAME.model]` has a `name` and the keys of that [model](#models).")
    yield from _tables(PartitionSpec, "`[pipelines.NAME.partition]`")
    yield from _tables(FederationConfig, "`[pipelines.NAME.federation]`")
    yield from _tables(
        Execution, "`[pipelines.NAME.execution]` and `[pipelines.NAME.client_executions.INDEX]`"
    )
    yield from ("", "`[pipelines.NAME.topology]` has a `name` and the keys of that [topology](#topologies).")
    yield from _tables(Depths, '`[pipelines.NAME.parts]` with `name = "depths"`')
    yield from _tables(Slimmable, '`[pipelines.NAME.parts]` with `name = "slimmable"`')
    yield from _tables(Vehicles, '`[pipelines.NAME.parts]` with `name = "vehicles"`')
    yield from _tables(Satellites, '`[pipelines.NAME.parts]` with `name = "satellites"`')
    yield from (
        "",
        '`[stacks]` gives each stack a list of layers, `NAME = [{ name = "dp-sgd", ... }, ...]`: the keys of a',
    )
    yield from ("[defense](#defenses) or [protocol](#protocols).",)
    yield from ("", "`[threats.NAME]` has a `kind` and the keys of that [threat model](#threat-models).")
    yield from _tables(AttackTable, "Tables `[[attacks]]`")
    yield from ("", "`params` holds the keys of the [attack](#attacks).")


def _channel() -> Iterator[str]:
    from qflsec.lab.scoring.channel import ChannelRules
    from qflsec.lab.worlds.channel.spec import SOURCES, ChannelMatrixSpec
    from qflsec.lab.worlds.pairs.spec import PairAttackTable
    from qflsec.protocols.bb84 import DetectorModel, FibreChannel

    yield from ("", '## Attacks on BB84 (`kind = "channel"`)')
    yield from _tables(ChannelMatrixSpec, "The file of a channel matrix", skip=PairAttackTable)
    for kind, source in SOURCES.items():
        yield from _tables(source, f'`[source]` with `kind = "{kind}"`')
    yield from _tables(FibreChannel, "`[channel]`")
    yield from _tables(DetectorModel, "`[detector]`")
    yield from _tables(ChannelRules, "`[rules]`")
    yield from _tables(PairAttackTable, "Tables `[[attacks]]` of a channel matrix")


def _delegation() -> Iterator[str]:
    from qflsec.lab.worlds.delegation.spec import ClientTable, SessionMatrixSpec
    from qflsec.lab.worlds.pairs.spec import PairAttackTable

    yield from ("", '## Attacks by a quantum server (`kind = "delegation"`)')
    yield from _tables(
        SessionMatrixSpec, "The file of a delegation matrix", skip=(PairAttackTable, ClientTable)
    )
    yield from _tables(ClientTable, "`[clients.NAME]`")
    yield from _tables(PairAttackTable, "Tables `[[attacks]]` of a delegation matrix")


def _plugins() -> Iterator[str]:
    for title, kind in (
        ("Attacks", "attack"),
        ("Defenses", "defense"),
        ("Protocols", "protocol"),
        ("Threat models", "threat"),
        ("Models", "model"),
        ("Data sets", "dataset"),
        ("Partitions", "partition"),
        ("Topologies", "topology"),
    ):
        yield from ("", f"## {title}")
        yield from _kind(kind)


def _kind(kind: str) -> Iterator[str]:
    from qflsec.cli.catalog import described_parameters, idea_of, things

    shared = kind in {"dataset", "partition"}  # they are handed the whole table, which is explained above
    for name, thing in things(kind).items():
        yield from ("", f"### `{name}`", "", idea_of(thing))
        if kind == "attack":
            yield from ("", f"In matrices of kind {', '.join(_worlds(thing))}.")
        if not shared:
            yield from _rows(described_parameters(kind, thing))


def _worlds(attack: Any) -> Iterator[str]:  # noqa: ANN401 - plugins are heterogeneous
    from qflsec.attacks import Inference
    from qflsec.federation import Adversary

    if issubclass(attack, Inference | Adversary):
        yield "federation"
    yield from {"channel": ["channel"], "server": ["delegation"]}.get(attack.card.family, [])


def _tables(thing: Callable[..., Any], title: str, skip: Any = ()) -> Iterator[str]:  # noqa: ANN401 - a class or several
    """The keys of a table, and of the tables inside it."""
    from qflsec.lab.grid.fields import nested_tables, parameters_of
    from qflsec.lab.worlds.federation.spec import AttackTable, PipelineTable

    yield from ("", f"### {title}")
    yield from _rows(parameters_of(thing))
    skipped = (*skip, AttackTable, PipelineTable) if isinstance(skip, tuple) else (skip,)
    for key, inner in nested_tables(thing).items():
        if inner not in skipped:
            yield from ("", f"`{key}` of {title}:")
            yield from _rows(parameters_of(inner))


def _rows(parameters: Iterable[Parameter]) -> Iterator[str]:
    import json

    rows = list(parameters)
    if not rows:
        return
    yield from ("", *_HEAD)
    for part in rows:
        default = (
            "*required*"
            if part.required
            else ""
            if part.default in (None, {}, [])
            else f"`{json.dumps(part.default)}`"
        )
        cells = (f"`{part.name}`", part.type, default, part.unit, part.about)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

"""Specifications of every kind, from a preset or a file; a document says which kind it is.

A mistake is told before anything heavy is imported, as far as the tables alone show it.
"""

from __future__ import annotations

from pathlib import Path

from qflsec.base import ConfigError
from qflsec.base.errors import Together
from qflsec.lab.grid.schema import at
from qflsec.lab.grid.spec import GridSpec, kind_of, parse_toml, presets, read_text

__all__ = ["KINDS", "load_spec", "look", "parse_spec", "spec_type", "with_engine"]

KINDS = ("federation", "channel", "delegation")
"""The kinds of matrix."""


def spec_type(kind: str) -> type[GridSpec]:
    """The specifications of a kind; each is imported when it is asked for."""
    if kind == "channel":
        from qflsec.lab.worlds.channel.spec import ChannelMatrixSpec

        return ChannelMatrixSpec
    if kind == "delegation":
        from qflsec.lab.worlds.delegation.spec import SessionMatrixSpec

        return SessionMatrixSpec
    from qflsec.lab.worlds.federation.spec import MatrixSpec

    return MatrixSpec


def load_spec(preset_or_file: str | Path, *, kind: str | None = None) -> GridSpec:
    """A specification by the name of a preset or the path of a file.

    Args:
        preset_or_file: Which.
        kind: The kind that it has to be of; any by default.

    Raises:
        ConfigError: There is none, or it cannot be used; the message says where and how to mend it.
    """
    path, text = read_text(preset_or_file, presets())
    with at(path.name):
        return parse_spec(text, base=path.parent, kind=kind)


def parse_spec(text: str, *, base: Path, kind: str | None = None) -> GridSpec:
    """A specification from TOML text.

    Args:
        text: The text.
        base: The folder that the names of files are relative to.
        kind: The kind that it has to be of; any by default.

    Raises:
        ConfigError: It cannot be used.
    """
    found = parse_toml(text)
    said = kind_of(found, KINDS, spec_type)
    if kind is not None and said != kind:
        raise ConfigError(
            f"not a {kind} matrix",
            got=f"kind {said!r}",
            expected=f'a file that says kind = "{kind}"',
            fix="'qflsec matrix run' takes every kind",
        )
    made = spec_type(said)
    document = made.located(found, base)
    with Together() as each:
        spec = each(made.from_document, document)
        if each.failed and said == "federation":
            from qflsec.lab.worlds.federation.first_look import look_at_rest

            each(look_at_rest, document)
    return spec


def with_engine(spec: GridSpec, engine: str | None) -> GridSpec:
    """The same matrix with its runs made by another engine.

    Args:
        spec: A specification of any kind.
        engine: The engine; None for what the specification says.

    Raises:
        ConfigError: The matrix has no such engine.
    """
    if engine is None:
        return spec
    if "engine" not in type(spec).model_fields:
        raise ConfigError(
            f"a {spec.kind} matrix has no engine to choose", got=engine, fix="leave out --engine"
        )
    return spec.from_document({**spec.model_dump(mode="json", exclude_none=True), "engine": engine})


def look(spec: GridSpec) -> None:
    """Refuse what the tables, the files and the rows of the user's data show alone, before what computes is imported.

    Args:
        spec: A specification of any kind.

    Raises:
        QflsecError: Something cannot be used.
    """
    from qflsec.lab.worlds.federation.spec import MatrixSpec

    if isinstance(spec, MatrixSpec):
        from qflsec.lab.worlds.federation.first_look import look as at_federation

        at_federation(spec)

"""Options mean the same in every command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
import typer

from qflsec.cli.app import app
from qflsec.lab import Store

Call = Callable[..., Any]


def callbacks(group: typer.Typer, name: str = "") -> Iterator[tuple[str, Any]]:
    """The functions of all commands."""
    for command in [group.registered_callback, *group.registered_commands]:
        if command is not None and command.callback is not None:
            said = getattr(command, "name", None) or ""
            yield f"{name} {said if isinstance(said, str) else ''}".strip(), command.callback
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from callbacks(inner.typer_instance, f"{name} {inner.name}")


def spelling(said: Any, parameter: str) -> str:
    """An option as it is typed; typer keeps the first of its spellings where defaults would stand."""
    spellings = (said.default, *(said.param_decls or ()))
    return next((text for text in spellings if isinstance(text, str)), parameter)


def test_files_are_named_by_one_spelling() -> None:
    """``--store`` is a result store, ``--out`` what is written; a matrix that is run writes its page beside its result."""
    files = {
        (command, spelling(hint.__metadata__[0], parameter))
        for command, function in callbacks(app)
        for parameter, hint in get_type_hints(function, include_extras=True).items()
        if get_origin(hint) is Annotated
        and {Path, list[Path]} & {hint.__origin__, *get_args(hint.__origin__)}
    }
    assert {place for place in files if place[1] not in {"--store", "--out"}} == {
        *((command, "folder") for command in ("init", "flower new", "flower run")),
        *(("audit", name) for name in ("claims", "report", "junit", "sarif")),
        ("epsilon audit", "--in"),
        ("bench matrix", "--against"),
        ("matrix run", "--report"),
        ("bb84 matrix", "--report"),
        ("blind matrix", "--report"),
        ("matrix diff", "first"),
        ("matrix diff", "second"),
        # as for 'matrix diff', a document or a store
        ("benchmark pack", "source"),
        ("benchmark page", "source"),
    }
    assert {("matrix status", "--store"), ("matrix report", "--out"), ("bb84", "--out")} <= files


def test_the_only_store_of_the_folder_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qflsec: Call
) -> None:
    monkeypatch.chdir(tmp_path)
    nothing = qflsec("matrix", "status")
    assert (nothing.code, nothing.out) == (2, "")
    assert "no *.sqlite in" in nothing.err
    assert nothing.err.endswith("--store FILE\n")
    Store("a.sqlite").close()
    assert "no matrix was run into this store; got a.sqlite" in qflsec("matrix", "status").err
    Store("b.sqlite").close()
    assert "got a.sqlite, b.sqlite" in qflsec("matrix", "export").err

"""From a folder to the parts of its pipeline: the code that is read, and the objects that are run."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from qflsec.audit.adapters.circuits import circuits_as_parts
from qflsec.audit.adapters.functions import functions_as_parts, protection_as_parts
from qflsec.audit.adapters.modules import modules_as_parts, private_as_parts
from qflsec.audit.adapters.records import data_of
from qflsec.audit.flower.app import app_of_folder, app_of_roles
from qflsec.audit.flower.run import record
from qflsec.audit.parts import Part, SourceCode, SourceFile
from qflsec.audit.roles import Roles
from qflsec.audit.target import own_files
from qflsec.base import ConfigError
from qflsec.base.sources import trace
from qflsec.base.user_code import load_file

__all__ = ["parts_of", "source_code"]


def source_code(folder: Path, file: str) -> SourceCode:
    """The pipeline's own code, read and not executed.

    Args:
        folder: The folder that is audited.
        file: The file that is run, relative to it; with what it imports it is the pipeline. Empty: every file.
    """
    files = list(own_files(folder))
    if file:
        run = folder / file
        imported = {Path(path).resolve() for path in trace(run).modules.values()}
        code = [
            run,
            *(path for path in files if path.resolve() in imported and path.resolve() != run.resolve()),
        ]
    else:
        code = [path for path in files if path.suffix == ".py"]
    return SourceCode(
        name=file or "the folder",
        folder=folder,
        files=tuple(
            SourceFile(
                path=str(path.relative_to(folder)), text=path.read_text(encoding="utf-8", errors="replace")
            )
            for path in code
        ),
        others=tuple(str(path.relative_to(folder)) for path in files if path.suffix != ".py"),
    )


def parts_of(
    folder: Path,
    file: str,
    *,
    given: Mapping[str, str],
    wanted: str,
    seconds: float = 60.0,
    seed: int = 0,
    threats: Sequence[str] = (),
) -> tuple[list[Part], list[str]]:
    """Run the user's file, or the Flower app of a folder, and recognise the parts of the pipeline.

    Args:
        folder: The folder that is audited.
        file: The file, relative to it; empty for the Flower app of the folder.
        given: Names by role, from the claims file.
        wanted: The only object that is audited; empty for all.
        seconds: How long the clients of a Flower app may train.
        seed: Of the generators that a Flower app may draw from.
        threats: The parties whose views are attacked.

    Raises:
        ConfigError: A role cannot be filled.
        Exception: Whatever the file raises.
    """
    notes: list[str] = []
    parts: list[Part]
    if not file:
        app = app_of_folder(folder)
        parts = [record(app, seconds=seconds, seed=seed, attacked=threats, notes=notes)]
        return [*parts, *_functions_of(folder, given, notes)], notes
    roles = Roles(load_file(folder / file), file, given, wanted)
    data = data_of(roles)
    parts = [] if data is None else [data]
    found = app_of_roles(roles, folder, file)
    if found is None:
        parts += functions_as_parts(roles, data, notes)
    else:  # its training is seen while it runs
        parts.append(record(found, seconds=seconds, seed=seed, attacked=threats, notes=notes))
        parts += protection_as_parts(roles, notes)
    if found is None or data is not None:
        parts += modules_as_parts(roles, data, notes)
        parts += circuits_as_parts(roles, data, notes)
    return parts, notes


def _functions_of(folder: Path, given: Mapping[str, str], notes: list[str]) -> Iterator[Part]:
    """What the modules of an app define to protect updates: noise, encryption, keys, rules, a set-up of Opacus.

    A name is looked for where it is defined, not where it is imported. What trains and where records come from is seen
    while the app runs.

    Raises:
        ConfigError: A name of the claims file is in none of the modules.
    """
    modules = [
        (str(path.relative_to(folder.resolve())), module)
        for module in list(sys.modules.values())
        if (path := _file_of(module)) is not None and path.is_relative_to(folder.resolve())
    ]
    for role, name in given.items():
        if not any(hasattr(module, name) for _, module in modules):
            raise ConfigError(
                f"no module of the app has anything of this name for the role {role!r}", got=repr(name)
            )
    for file, module in modules:
        here = {role: name for role, name in given.items() if hasattr(module, name)}
        roles = Roles(module, file, here, own=True)
        yield from protection_as_parts(roles, notes)
        yield from private_as_parts(roles, None, notes)


def _file_of(module: ModuleType) -> Path | None:
    file = vars(module).get("__file__")  # a lazy module may load on any other question
    return Path(file).resolve() if isinstance(file, str) else None

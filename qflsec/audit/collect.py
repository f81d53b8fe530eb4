"""From a folder to the parts of its pipeline: the code that is read, and the objects that are run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from qflsec.audit.adapters.circuits import circuits_as_parts
from qflsec.audit.adapters.functions import functions_as_parts
from qflsec.audit.adapters.modules import modules_as_parts
from qflsec.audit.adapters.records import data_of
from qflsec.audit.flower.app import app_of_folder, app_of_roles
from qflsec.audit.flower.run import record
from qflsec.audit.parts import Part, SourceCode, SourceFile
from qflsec.audit.roles import Roles
from qflsec.audit.target import own_files
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
    if not file:
        app = app_of_folder(folder)
        return [record(app, seconds=seconds, seed=seed, attacked=threats, notes=notes)], notes
    roles = Roles(load_file(folder / file), file, given, wanted)
    data = data_of(roles)
    parts: list[Part] = [] if data is None else [data]
    parts += functions_as_parts(roles, data, notes)
    parts += modules_as_parts(roles, data, notes)
    parts += circuits_as_parts(roles, data, notes)
    found = app_of_roles(roles, folder, file)
    if found is not None:
        parts.append(record(found, seconds=seconds, seed=seed, attacked=threats, notes=notes))
    return parts, notes

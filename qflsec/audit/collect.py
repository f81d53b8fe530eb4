"""From a folder to the parts of its pipeline: the code that is read, and the objects that are run."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from qflsec.audit.adapters.circuits import circuits_as_parts
from qflsec.audit.adapters.functions import functions_as_parts, protection_as_parts
from qflsec.audit.adapters.modules import modules_as_parts, private_as_parts
from qflsec.audit.adapters.records import data_of
from qflsec.audit.flower.app import app_of_folder, app_of_roles
from qflsec.audit.flower.run import record
from qflsec.audit.parts import Data, Part, SourceCode, SourceFile
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
    broken: list[tuple[str, BaseException]] | None = None,
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
        broken: Takes what could not be made into parts, by name, and why, so that the other parts are still found. Without
            it the first such error is raised.

    Raises:
        ConfigError: A role cannot be filled.
        Exception: Whatever the file raises.
    """
    notes: list[str] = []
    found = _Parts(broken=broken)
    if not file:
        app = app_of_folder(folder)
        found.add(app.name, lambda: [record(app, seconds=seconds, seed=seed, attacked=threats, notes=notes)])
        found.add("the app's functions", lambda: _functions_of(folder, given, notes))
        return found.parts, notes
    roles = Roles(_loaded(folder, file), file, given, wanted)
    found.add(roles.name("data"), lambda: [one for one in (data_of(roles),) if one is not None])
    data = next((one for one in found.parts if isinstance(one, Data)), None)
    own = app_of_roles(roles, folder, file)
    if own is None:
        found.add("the file's functions", lambda: functions_as_parts(roles, data, notes))
    else:  # its training is seen while it runs
        found.add(own.name, lambda: [record(own, seconds=seconds, seed=seed, attacked=threats, notes=notes)])
        found.add("the file's functions", lambda: protection_as_parts(roles, notes))
    if own is None or data is not None:
        found.add("the file's modules", lambda: modules_as_parts(roles, data, notes))
        found.add("the file's circuits", lambda: circuits_as_parts(roles, data, notes))
    return found.parts, notes


def _loaded(folder: Path, file: str) -> ModuleType:
    """The file as a module; one of a package under its name there, so that its relative imports are found.

    Raises:
        ConfigError: Another package of this name has been imported.
        Exception: Whatever the file raises.
    """
    path = (folder / file).resolve()
    if not (path.parent / "__init__.py").is_file():
        return load_file(path)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    names = Path(file).with_suffix("").parts
    module = importlib.import_module(".".join(names[:-1] if names[-1] == "__init__" else names))
    if _file_of(module) != path:
        raise ConfigError(
            "another package of this name has been imported",
            got=f"{_file_of(module)} for {names[0]}",
            fix="rename the package, or name a file outside one",
        )
    return module


@dataclass(kw_only=True)
class _Parts:
    """The parts that were found, and what could not be made into some."""

    broken: list[tuple[str, BaseException]] | None
    parts: list[Part] = field(default_factory=list)

    def add(self, name: str, made: Callable[[], Iterable[Part]]) -> None:
        """Add parts as they come; the user's code that makes them may do anything."""
        try:
            for part in made():
                self.parts.append(part)
        except BaseException as error:
            if self.broken is None:
                raise
            self.broken.append((name, error))


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

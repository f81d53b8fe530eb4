"""What is audited: a file or a folder, and a copy of it in which the user's code may do as it likes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qflsec.base import ConfigError

__all__ = ["Target", "copied", "find_target", "own_files"]

_SKIPPED = frozenset(
    {".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", ".mypy_cache", ".pytest_cache",
     ".ruff_cache", ".ipynb_checkpoints", ".tox"}
)  # fmt: skip
_MOST_FILES = 20_000
_MOST_BYTES = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is audited.

    Attributes:
        named: As the user named it.
        folder: The folder that belongs to it; files of the pipeline are told relative to it.
        file: The file that is run, relative to the folder; empty for a folder.
        wanted: The one object of the file that is audited; empty for all that are recognised.
    """

    named: str
    folder: Path
    file: str = ""
    wanted: str = ""


def find_target(named: str) -> Target:
    """What ``file.py``, ``file.py:name`` or a folder means.

    Raises:
        ConfigError: There is no such file or folder.
    """
    path, wanted = Path(named), ""
    if not path.exists() and ":" in named:
        name, _, wanted = named.rpartition(":")
        path = Path(name)
        if not wanted.isidentifier():
            raise ConfigError("no name of an object", got=repr(wanted), expected="file.py:name")
    if path.is_dir() and not wanted:
        return Target(named=named, folder=path.resolve())
    if not path.is_file():
        raise ConfigError(
            "nothing to audit there",
            got=named,
            expected="a Python file, file.py:name, or the folder of a Flower app",
        )
    if path.suffix != ".py":
        raise ConfigError("no Python file", got=named, expected="a name ending in .py")
    folder = path.resolve().parent
    while (folder / "__init__.py").is_file() and folder.parent != folder:  # the file is a part of a package
        folder = folder.parent
    return Target(named=named, folder=folder, file=str(path.resolve().relative_to(folder)), wanted=wanted)


def own_files(folder: Path) -> Iterator[Path]:
    """The files of a folder, without caches, virtual environments and version control; links are not followed.

    Raises:
        ConfigError: There are too many to belong to one pipeline.
    """
    found = 0
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if name not in _SKIPPED and not (Path(here) / name / "pyvenv.cfg").exists()
        )
        for name in sorted(files):
            path = Path(here) / name
            if path.is_symlink() or not path.is_file():
                continue
            found += 1
            if found > _MOST_FILES:
                raise ConfigError(
                    "the folder holds too much to be one pipeline",
                    got=f"more than {_MOST_FILES:,} files in {folder}",
                    fix="put the pipeline into a folder of its own",
                )
            yield path


def copied(target: Target, into: Path) -> Path:
    """A copy of the target's folder: what the pipeline writes, changes or deletes beside itself is the copy's.

    Args:
        target: The target.
        into: A folder that exists.

    Raises:
        ConfigError: It is too large to be copied.
    """
    files = list(own_files(target.folder))
    size = sum(path.stat().st_size for path in files)
    if size > _MOST_BYTES:
        raise ConfigError(
            "the folder is too large to be copied",
            got=f"{size / 2**20:.0f} MiB",
            expected=f"at most {_MOST_BYTES // 2**20} MiB",
            fix="put the pipeline into a folder of its own, or add --in-place to run it where it is",
        )
    for path in files:
        place = into / path.relative_to(target.folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place)
    return into

"""Places of data that a specification names: a file, a pattern such as ``clients/*.csv``, or a folder."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from pathlib import Path

from qflsec.base.errors import DataError
from qflsec.base.sources import content_digest

__all__ = ["files_at", "is_pattern", "natural", "place_digest"]

_LARGE = 2**20


def is_pattern(place: str) -> bool:
    """Whether a place stands for every file that matches it."""
    return any(sign in place for sign in "*?[") and not Path(place).exists()


def natural(text: str) -> tuple[tuple[int, str], ...]:
    """A key that sorts ``site2`` before ``site10``."""
    return tuple((int(part or 0), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", text))


def files_at(place: str) -> tuple[Path, ...]:
    """The files that a place names, in the natural order of their names; those below a folder, hidden ones left out.

    Raises:
        DataError: There is none.
    """
    root = Path(place)
    if is_pattern(place):
        fixed = _fixed_part(place)
        found = [*fixed.glob(Path(place).relative_to(fixed).as_posix())]
        what = "no data file matches the pattern"
    elif root.is_dir():
        below = ((path, path.relative_to(root).parts) for path in root.rglob("*"))
        found = [path for path, parts in below if not any(part.startswith(".") for part in parts)]
        what = "the data folder is empty"
    else:
        found, what = [root], "there is no such data file"
    files = sorted((path for path in found if path.is_file()), key=lambda path: natural(path.as_posix()))
    if not files:
        raise DataError(what, got=place, fix="check path")
    return tuple(files)


def _fixed_part(pattern: str) -> Path:
    """The folder that all files of a pattern are below."""
    return Path(re.split(r"[*?\[]", pattern)[0] + "x").parent


def place_digest(place: str) -> str:
    """SHA-256 of the files that a place names; of their names too where they are several.

    Raises:
        QflsecError: There is none, or one cannot be read.
    """
    root = Path(place)
    if not is_pattern(place) and not root.is_dir():
        return _file_digest(root)
    files = files_at(place)
    # where the files are is no part of what they are
    fixed = root if root.is_dir() else _fixed_part(place)
    parts = [[path.relative_to(fixed).as_posix(), _file_digest(path)] for path in files]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    if not path.is_file() or path.stat().st_size < _LARGE:
        return content_digest(path)
    found = path.stat()
    return _large_digest(str(path), found.st_mtime_ns, found.st_size, found.st_ino)


# A plan asks for the digest once for every run. Writing a large file takes longer than the file system's clock ticks.
@functools.lru_cache(maxsize=64)
def _large_digest(path: str, _modified: int, _size: int, _inode: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""An index of what plugins say of themselves, kept between commands: to read it imports none of them.

It is made by importing all, and holds as long as not one byte of the package's sources has changed and nothing was
installed or removed: its digest is over the sources themselves, not over their times. Plugins of others are not ours
to follow, so that nothing is kept where some are installed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from qflsec.base.installation import PACKAGE, cache_folder, installation_digest
from qflsec.base.registry import third_parties

__all__ = ["Index", "indexed"]

Index = dict[str, dict[str, dict[str, Any]]]


def indexed(make: Callable[[], Index]) -> Index:
    """The index by kind and name, from the cache where that holds.

    Args:
        make: Makes it anew.
    """
    digest, path = installation_digest(), _path()
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["digest"] == digest:
            found: Index = kept["index"]
            return found
    except (OSError, ValueError, KeyError, TypeError):  # there is none, or it was cut short: it is made again
        pass
    index = make()
    if not third_parties():
        _keep(path, {"digest": digest, "index": index})
    return index


def _keep(path: Path, content: dict[str, Any]) -> None:
    """Replace the file at once, so that nobody reads a half; where it cannot be written, every command is slow."""
    part = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(content), encoding="utf-8")
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink()


def _path() -> Path:
    """One file for each place where the package is installed."""
    place = hashlib.sha256(str(PACKAGE).encode()).hexdigest()[:16]
    return cache_folder() / f"catalogue-{place}.json"

"""What is installed, as one digest: whatever was kept under the same one would come out the same today."""

from __future__ import annotations

import hashlib
import os
import sys
from functools import cache
from pathlib import Path

__all__ = ["PACKAGE", "cache_folder", "installation_digest"]

PACKAGE = Path(__file__).parent.parent
"""Where the package is."""


@cache  # what a process runs is what was there when it began
def installation_digest() -> str:
    """The package's sources byte by byte, the interpreter, and when something was last installed where it looks."""
    # the folder of the script or of the work, which Python also looks into, differs from call to call
    places = [Path(place) for place in sys.path if place.endswith("-packages")]
    changed = [(str(place), place.stat().st_mtime_ns) for place in places if place.is_dir()]
    found = hashlib.sha256(repr((sys.version, changed)).encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        content = path.read_bytes()
        found.update(f"{path.relative_to(PACKAGE)} {len(content)}\n".encode() + content)
    return found.hexdigest()


def cache_folder() -> Path:
    """Where the user's machine keeps what can be made again; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "qflsec"

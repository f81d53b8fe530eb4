"""What numba compiles is kept on disk, in a folder of the user's that is named after all sources of the kernel.

numba itself looks at the age of the file that a function stands in, and not at those of the functions that it calls.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from numba import config, njit

from qflsec.circuits.compiled.passes import JIT

__all__ = ["kept"]


def kept(function: Callable[..., Any]) -> Any:  # noqa: ANN401 - numba's dispatchers have no type
    """Compile a function at its first call, or load what an earlier process compiled."""
    before, config.CACHE_DIR = config.CACHE_DIR, str(_folder())
    try:
        return njit(**JIT, cache=True)(function)
    finally:
        config.CACHE_DIR = before


@lru_cache(maxsize=1)
def _folder() -> Path:
    """Where it is kept: below NUMBA_CACHE_DIR, or in the user's caches; else for this process alone.

    What is loaded is code, so no folder serves that others can write to.
    """
    sources = sorted(Path(__file__).parent.glob("*.py"))
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    base = Path(config.CACHE_DIR) if config.CACHE_DIR else _caches() / "qflsec"
    folder = base / f"kernel-{digest}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.mkdtemp(prefix="qflsec-kernel-"))


def _caches() -> Path:
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")

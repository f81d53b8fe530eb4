"""What numba compiles is kept on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from numba import config, njit

from qflsec.circuits.compiled.passes import JIT
from qflsec.circuits.kept import kernel_folder

__all__ = ["kept"]


def kept(function: Callable[..., Any]) -> Any:  # noqa: ANN401 - numba's dispatchers have no type
    """Compile a function at its first call, or load what an earlier process compiled."""
    before, config.CACHE_DIR = config.CACHE_DIR, str(_folder())
    try:
        return njit(**JIT, cache=True, no_cfunc_wrapper=True)(function)
    finally:
        config.CACHE_DIR = before


@lru_cache(maxsize=1)
def _folder() -> Path:
    """The folder, which is the user's alone as what is loaded is code; one for this process where there can be none."""
    folder = kernel_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.mkdtemp(prefix="qflsec-kernel-"))

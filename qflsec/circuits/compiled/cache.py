"""What numba compiles is kept on disk."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from numba import config, njit

from qflsec.circuits.compiled.passes import JIT
from qflsec.circuits.kept import kernel_folder

__all__ = ["COMPILING", "compiled_elsewhere", "kept"]

COMPILING = "QFLSEC_COMPILING"
"""Set in the environment of a process that compiles for others."""


def kept(function: Callable[..., Any]) -> Any:  # noqa: ANN401 - numba's dispatchers have no type
    """Compile a function at its first call, or load what an earlier process compiled."""
    before, config.CACHE_DIR = config.CACHE_DIR, str(_folder())
    try:
        return njit(**JIT, cache=True)(function)
    finally:
        config.CACHE_DIR = before


@lru_cache(maxsize=8)
def compiled_elsewhere(program: str) -> None:
    """Have a process of its own compile what this one is about to call, where nobody has, so that this one loads it.

    A process that compiled a kernel may round otherwise than those that load it (seen on an AMD processor): probably as
    helpers are weak symbols, compiled alone first and once more with the kernel, and other copies are linked. The
    first process of a user would have other last bits than all that follow, among them its own workers. Where there can be
    no such process or no folder, it is compiled here.

    Args:
        program: Python that compiles it.
    """
    folder = kernel_folder()
    done = folder / f"{hashlib.sha256(program.encode()).hexdigest()[:16]}.done"
    if COMPILING in os.environ or _folder() != folder or done.exists():
        return
    environment = {**os.environ, COMPILING: "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        found = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-c", program],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if not found.returncode:
            done.touch()
    except OSError:
        return


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

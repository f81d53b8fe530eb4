"""Where what numba compiles is kept: a folder of the user's that is named after all sources of the kernels.

numba itself looks at the age of the file that a function stands in, and not at those of the functions that it calls.
"""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from qflsec.base.installation import PACKAGE, cache_folder

__all__ = ["is_kept", "kernel_folder"]


@lru_cache(maxsize=1)
def kernel_folder() -> Path:
    """Below NUMBA_CACHE_DIR where that is set, else in the user's caches; it need not exist."""
    sources = sorted((PACKAGE / "circuits" / "compiled").rglob("*.py"))
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    return (Path(chosen) if chosen else cache_folder()) / f"kernel-{digest}"


def is_kept() -> bool:
    """Whether an earlier process has compiled the kernel that takes no noise."""
    return any(kernel_folder().glob("*/kernel.run-*.nbc"))

"""The kernels' last bits are those of their source, whatever a compiler makes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from kernel_bits import kernel_bits
from numba.core.registry import cpu_target

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    "compiler",
    [
        pytest.param({"NUMBA_OPT": "0"}, id="no-optimisation"),
        pytest.param(
            {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"},
            id="shorter-vectors",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_bits_do_not_depend_on_the_compiler(compiler: dict[str, str], tmp_path: Path) -> None:
    """A process that compiled a kernel, one that loads it, and two kernels of one source round alike only then."""
    if "+fma" not in cpu_target.target_context.codegen().magic_tuple()[-1].split(",") and len(compiler) > 1:
        pytest.skip("this processor does not round a product and a sum at once")
    found = subprocess.run(
        [sys.executable, "-W", "ignore", HERE / "kernel_bits.py"],
        env={**os.environ, **compiler, "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(found.stdout) == kernel_bits()

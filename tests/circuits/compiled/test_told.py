"""What stays the same between calls: addresses in the order in which the compiled kernel reads them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba")

from numba import njit
from numba.core.errors import TypingError

from qflsec.circuits import build_circuit
from qflsec.circuits.compiled.pointers import pointer
from qflsec.circuits.compiled.program import compile_program
from qflsec.circuits.compiled.simd import BYTES
from qflsec.circuits.compiled.tables import Tables, Work
from qflsec.circuits.compiled.told import tell


@given(n=st.integers(1, 6), layers=st.integers(1, 4), double=st.booleans())
def test_buffers_are_large_enough_and_apart(*, n: int, layers: int, double: bool) -> None:
    circuit = build_circuit(n_qubits=n, layers=layers)
    program, dtype = compile_program(circuit), np.dtype(np.float64 if double else np.float32)
    told, held = tell(program, dtype, circuit.n_weights, circuit.n_features)
    names = [name for name in Tables._fields if name != "one"] + list(Work._fields)
    assert len(told) == len(names)
    found = dict(zip(names, told.tolist(), strict=True))
    assert [found[name] for name in ("size", "width", "n_weights")] == [
        2**n,
        BYTES // dtype.itemsize,
        circuit.n_weights,
    ]
    size, width = found["size"], found["width"]
    angles, rows = found["n_angles"], max(size, 8)
    least = {
        **dict.fromkeys(("psi", "lam", "moved_psi", "moved_lam"), 2 * size * width),
        **dict.fromkeys(("c", "s"), angles * width),
        # of a row's angles, in eights; of all diagonals of a row, and behind them one that differs between lanes
        **dict.fromkeys(
            ("pc", "ps"), max(-(-angles // 8) * 8, -(-found["n_ops"] * rows // 16) * 16 + size * width)
        ),
        **dict.fromkeys(("overlaps", "by_start", "moved_angles"), size * width),
        **dict.fromkeys(("values", "seeds"), found["n_outputs"] * width),
        "by_weight": circuit.n_weights * width,
        "by_feature": circuit.n_features * width,
        "gradient": circuit.n_weights,
        "angles": max(size * width, -(-angles // 8) * 8, rows),
        "norms": 2 * width,
        "support": size,
        **dict.fromkeys(("at_weights", "at_features", "at_direction", "at_samples"), width),
    }
    assert set(least) == set(Work._fields)
    bytes_of = {name: 8 if name in Work._fields[16:] else dtype.itemsize for name in least}
    spans = sorted((found[name], found[name] + count * bytes_of[name]) for name, count in least.items())
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    assert all(start % BYTES == 0 for start, _ in spans)
    inside = [(array.ctypes.data, array.ctypes.data + array.nbytes) for array in held]
    assert all(any(low <= start and end <= high for low, high in inside) for start, end in spans)


def test_pointers_of_rows_that_do_not_follow_each_other_are_refused() -> None:
    @njit
    def first(array):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        return pointer(array)[0]

    numbers = np.arange(12.0).reshape(3, 4)
    assert first(numbers[1:]) == 4
    with pytest.raises(TypingError, match="C-contiguous"):
        first(numbers[:, 1:])
    with pytest.raises(TypingError, match="C-contiguous"):
        first(numbers.T)

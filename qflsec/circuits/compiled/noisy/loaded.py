"""A noisy program in one dtype, with the buffers that its runs take."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from qflsec.circuits.circuit import Circuit
from qflsec.circuits.compiled.layout import Layout
from qflsec.circuits.compiled.loaded import NOTHING, Gradient
from qflsec.circuits.compiled.noisy.kernel import run_noisy
from qflsec.circuits.compiled.noisy.program import compile_noisy_program
from qflsec.circuits.compiled.simd import BYTES
from qflsec.circuits.compiled.told import aligned
from qflsec.circuits.placed_noise import Noise

__all__ = ["NoisyLoaded", "load_noisy"]

Numbers = npt.NDArray[Any]
_SCRATCH = threading.local()


class NoisyLoaded:
    """A program's arrays in the dtype of its states.

    Args:
        circuit: A circuit without derived inputs.
        noise: The noise.
        dtype: float32 or float64.

    Raises:
        CircuitError: An amplitude embedding.
    """

    def __init__(self, circuit: Circuit, noise: Noise | None, dtype: np.dtype[Any]) -> None:
        program = compile_noisy_program(circuit, noise)
        self.circuit, self.noise, self.program, self.dtype = circuit, noise, program, dtype
        self.width = BYTES // dtype.itemsize
        self.n_outputs = len(circuit.observables)
        self._arrays = (
            program.ops, program.elements, program.constants.astype(dtype), program.sources, program.index,
            program.factor, program.offset, program.factor.astype(dtype), program.inputs, program.scales.astype(dtype),
            program.outputs, program.sizes, program.words, program.coefficients.astype(dtype),
        )  # fmt: skip
        # a gradient needs all states, values only two: even ones in one place, odd ones in the other
        self._largest, rows = int(program.sizes.max()), len(program.sizes)
        self._all = np.cumsum([0, *program.sizes[:-1]]) * self.width
        self._two = np.arange(rows) % 2 * self._largest * self.width
        self._local = threading.local()

    def _buffers(self, *, gradient: bool) -> tuple[Numbers, Numbers, Numbers, Numbers]:
        """The buffers of this thread; that of the states is shared by all programs."""
        program, width = self.program, self.width
        if not hasattr(self._local, "buffers"):
            n_angles, n_elements = len(program.sources), len(program.elements)
            rows = 12 * (n_elements + 2) + 2 * (n_angles + self.n_outputs)
            rows += self.circuit.n_weights + self.circuit.n_features
            numbers = aligned(rows * width + 2 * (n_angles + 16), self.dtype)
            angles = aligned(n_angles + 2 * width, np.dtype(np.float64))
            self._local.buffers = numbers, angles, np.empty(2 * width, np.int64)
        count = 2 * self._largest + (int(program.sizes.sum()) if gradient else 2 * self._largest)
        scratch: dict[str, Numbers] = _SCRATCH.__dict__
        if self.dtype.name not in scratch or scratch[self.dtype.name].size < count * width:
            scratch[self.dtype.name] = aligned(count * width, self.dtype)
        return scratch[self.dtype.name], *self._local.buffers

    def evaluate(
        self,
        layout: Layout,
        weights: Numbers,
        features: Numbers,
        *,
        wanted: Sequence[bool] = (False, False),
        seeds: Numbers | None = None,
    ) -> tuple[Numbers, Gradient | None]:
        """Values of all samples, and their derivatives in weights and features where wanted.

        Args:
            layout: The samples.
            weights: Distinct rows of weights.
            features: Features.
            wanted: Which derivatives.
            seeds: The factor of each output's derivative; 1 by default.

        Shapes:
            weights: ``(D, P)``; features: ``(S, F)``; seeds: ``(samples, K)``; returns: ``(samples, K)``
        """
        program = self.program
        values = np.empty((layout.n_rows * layout.n_samples, self.n_outputs), self.dtype)
        stop, gradient, parts = len(program.ops) + 1, None, [aligned(0, self.dtype)] * 2
        if any(wanted):
            blocks = layout.n_blocks(self.width) * self.width
            counts = (self.circuit.n_weights, self.circuit.n_features)
            parts = [aligned(blocks * n * want, self.dtype) for n, want in zip(counts, wanted, strict=True)]
            gradient = Gradient(layout, self.width, parts[0], parts[1], parts[0][:0])
            first = (program.first_weight, program.first_feature)
            stop = min(place for place, want in zip(first, wanted, strict=True) if want)
        run_noisy(
            *self._arrays, self._two if gradient is None else self._all, weights, features, layout.distinct,
            layout.n_rows, layout.n_samples, layout.shared, layout.own_features, self.width,
            *self._buffers(gradient=gradient is not None), values, NOTHING[self.dtype] if seeds is None else seeds,
            stop, *parts,
        )  # fmt: skip
        return values, gradient


@lru_cache(maxsize=64)
def load_noisy(circuit: Circuit, noise: Noise | None, dtype: np.dtype[Any]) -> NoisyLoaded:
    """The program of a circuit without derived inputs under noise, ready to run."""
    return NoisyLoaded(circuit, noise, dtype)

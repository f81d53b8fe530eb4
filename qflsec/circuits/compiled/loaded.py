"""A program in one dtype, with the buffers that its runs take."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from qflsec.circuits.circuit import Circuit
from qflsec.circuits.compiled.kernel import contract, run, scatter
from qflsec.circuits.compiled.layout import Layout
from qflsec.circuits.compiled.products import products
from qflsec.circuits.compiled.program import compile_program
from qflsec.circuits.compiled.simd import BYTES
from qflsec.circuits.compiled.told import Told, aligned, tell
from qflsec.circuits.compiled.training import train

__all__ = ["Gradient", "Loaded", "Optimiser", "Plan", "Records", "Rule", "load_circuit"]

Numbers = npt.NDArray[Any]
_KINDS = (np.dtype(np.float32), np.dtype(np.float64))
NOTHING = {kind: np.empty((0, 0), kind) for kind in _KINDS}
_FLAT = {kind: np.empty(0, kind) for kind in _KINDS}


class Rule(NamedTuple):
    """What training minimises.

    Attributes:
        loss: Its code in :mod:`.training`.
        low: The target of other classes.
        scale: What expectation values are multiplied by.
        clip: The largest norm of a record's gradient; 0 for the gradient of the mean loss.
    """

    loss: int
    low: float
    scale: float
    clip: float


class Records(NamedTuple):
    """The records of all models.

    Shapes:
        features: ``(models * records, F)``; start: ``(models * records, 2**n)``, or nothing; labels:
        ``(models * records,)``
    """

    features: Numbers
    start: Numbers
    labels: Numbers


class Plan(NamedTuple):
    """What each step takes.

    Attributes:
        picks: Which records; nothing for all in order.
        used: 1 for a record that counts.
        noise: What is added to a sum of clipped gradients; nothing for none.
        expected: What that sum is divided by; 0 where a model makes no step.

    Shapes:
        picks, used: ``(steps, models, B)``; noise: ``(steps, models, P)``; expected: ``(steps, models)``
    """

    picks: Numbers
    used: Numbers
    noise: Numbers
    expected: Numbers


class Optimiser(NamedTuple):
    """An optimiser and its state.

    Attributes:
        kind: 0 for SGD, 1 for Adam.
        rate: The learning rate.
        momentum: Of SGD.
        betas: Of Adam.
        epsilon: Of Adam.
        pull: What FedProx multiplies the way from the first parameters by; nothing for none.
        steps: The steps that each model has made.
        moments: Its running means.

    Shapes:
        pull: ``(P,)``; steps: ``(models,)``; moments: ``(0, 1 or 2, models, P)``
    """

    kind: int
    rate: float
    momentum: float
    betas: tuple[float, float]
    epsilon: float
    pull: Numbers
    steps: Numbers
    moments: Numbers


class Gradient:
    """Derivatives of single samples, in blocks of lanes.

    Attributes:
        by_weight, by_feature, by_start: ``(blocks, entries, lanes)``, flat; of no size where not wanted.
    """

    def __init__(
        self, layout: Layout, width: int, by_weight: Numbers, by_feature: Numbers, by_start: Numbers
    ) -> None:
        self._layout, self._width = layout, width
        self.by_weight, self.by_feature, self.by_start = by_weight, by_feature, by_start

    def rows(self, count: int, factors: Numbers) -> Numbers:
        """The weights' derivatives summed over each row's samples, each times its factor: ``(rows, P)``."""
        layout = self._layout
        out = np.empty((layout.n_rows, count), self.by_weight.dtype)
        buffer = aligned(self._width, out.dtype)
        contract(self.by_weight, factors, layout.n_samples, count, self._width, buffer, out)
        return out

    def samples(self, found: Numbers, count: int, factors: Numbers) -> Numbers:
        """The derivatives of each sample, times its factor: ``(samples, entries)``."""
        layout = self._layout
        total = layout.n_rows * layout.n_samples
        out = np.empty((total, count), found.dtype)
        rows, each = (layout.n_rows, layout.n_samples) if layout.shared else (1, total)
        scatter(found, factors, rows, each, count, self._width, out)
        return out


class Loaded:
    """A program's arrays in the dtype of its states.

    Args:
        circuit: A circuit without derived inputs.
        dtype: float32 or float64.
    """

    def __init__(self, circuit: Circuit, dtype: np.dtype[Any]) -> None:
        program = compile_program(circuit)
        self.circuit, self.program, self.dtype = circuit, program, dtype
        self.width = BYTES // dtype.itemsize
        self.n_outputs = len(circuit.observables)
        self._size = 2**program.n_qubits
        self._local = threading.local()

    def _told(self) -> Numbers:
        """The program and the buffers of this thread."""
        if not hasattr(self._local, "told"):
            circuit = self.circuit
            self._local.told = tell(self.program, self.dtype, circuit.n_weights, circuit.n_features)
        found: Told = self._local.told
        return found.told

    def evaluate(
        self,
        layout: Layout,
        weights: Numbers,
        features: Numbers,
        start: Numbers,
        *,
        wanted: Sequence[bool] = (False, False, False),
        seeds: Numbers | None = None,
    ) -> tuple[Numbers, Gradient | None]:
        """Values of all samples, and their derivatives in weights, features and first states where wanted.

        Args:
            layout: The samples.
            weights: Distinct rows of weights.
            features: Features.
            start: First states; nothing for |0...0>.
            wanted: Which derivatives.
            seeds: The factor of each output's derivative; 1 by default.

        Shapes:
            weights: ``(D, P)``; features: ``(S, F)``; start: ``(S, 2**n)``; seeds: ``(samples, K)``; returns:
            ``(samples, K)``
        """
        program, empty = self.program, NOTHING[self.dtype]
        values = np.empty((layout.n_rows * layout.n_samples, self.n_outputs), self.dtype)
        stop, gradient = len(program.ops) + 1, None
        if any(wanted):
            gradient = self._gradient(layout, wanted)
            first = (program.first_weight, program.first_feature, 0)
            stop = min(place for place, want in zip(first, wanted, strict=True) if want)
        kept = (_FLAT[self.dtype],) * 3 if gradient is None else _parts(gradient)
        run(
            self._told(), weights, features, start, layout.distinct, layout.n_rows, layout.n_samples, layout.shared,
            layout.own_features, values, empty if seeds is None else seeds, stop, *kept,
        )  # fmt: skip
        return values, gradient

    def products(
        self,
        layout: Layout,
        weights: Numbers,
        features: Numbers,
        start: Numbers,
        seeds: Numbers,
        along: tuple[Numbers, Numbers, Numbers],
        *,
        wanted: Sequence[bool],
    ) -> tuple[Numbers, Gradient]:
        """How values and gradients move along a direction.

        Args:
            layout: The samples.
            weights: Distinct rows of weights.
            features: Features.
            start: First states.
            seeds: The factor of each output.
            along: The direction in weights, of rows or of samples where weights are apart, in features and in first
                states.
            wanted: Of which derivatives.

        Shapes:
            as in :meth:`evaluate`; along: ``(rows or samples, P)``, ``(samples, F)`` and ``(samples, 2**n)``
        """
        values = np.empty((layout.n_rows * layout.n_samples, self.n_outputs), self.dtype)
        gradient = self._gradient(layout, wanted)
        products(
            self._told(), weights, features, start, layout.distinct, layout.n_rows, layout.n_samples, layout.shared,
            layout.own_features, values, seeds, *along, layout.apart, *_parts(gradient),
        )  # fmt: skip
        return values, gradient

    def train(
        self, rule: Rule, records: Records, plan: Plan, optimiser: Optimiser, params: Numbers
    ) -> Numbers:
        """Train models in place, each on its own records; the mean loss of each model's first step.

        Args:
            rule: What is minimised.
            records: The records of all models.
            plan: The records and the noise of each step.
            optimiser: The optimiser, whose state moves.
            params: ``(models, P)``.

        Shapes:
            params: ``(models, P)``; returns: ``(models,)``
        """
        first = np.empty(len(params), self.dtype)
        received = params.copy()
        train(
            self._told(), self.program.first_weight, *rule, *records, *plan, optimiser.kind, optimiser.rate,
            optimiser.momentum, optimiser.pull, *optimiser.betas, optimiser.epsilon, params, received, optimiser.steps,
            optimiser.moments, np.empty(plan.used.shape[-1], np.int64), first,
        )  # fmt: skip
        return first

    def _gradient(self, layout: Layout, wanted: Sequence[bool]) -> Gradient:
        blocks = layout.n_blocks(self.width) * self.width
        counts = (self.circuit.n_weights, self.circuit.n_features, self._size)
        parts = [
            aligned(blocks * n, self.dtype) if want else _FLAT[self.dtype]
            for n, want in zip(counts, wanted, strict=True)
        ]
        return Gradient(layout, self.width, *parts)


def _parts(gradient: Gradient) -> tuple[Numbers, Numbers, Numbers]:
    return gradient.by_weight, gradient.by_feature, gradient.by_start


@lru_cache(maxsize=256)
def load_circuit(circuit: Circuit, dtype: np.dtype[Any]) -> Loaded:
    """The program of a circuit without derived inputs, ready to run."""
    return Loaded(circuit, dtype)

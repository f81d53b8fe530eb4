"""The noisy kernel: a density operator as the real vector of its Pauli expectation values.

A circuit and its noise are compiled once (:mod:`qflsec.circuits.noisy_plan`), so that channels cost next to
nothing. Axes are those of :mod:`qflsec.circuits.kernel`: a state has the shape ``(rows, 4**n, samples)``.
Only real products, sums, gathers and batched matrix products touch the batch, so that a row's result does
not depend on the other rows, bit for bit. Memory is 4**n numbers for each row and sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, reduce
from itertools import groupby, product

import numpy as np
import torch
from torch import Tensor

from qflsec.circuits.admit import admit
from qflsec.circuits.batch import Batch, fold
from qflsec.circuits.circuit import Angle, Circuit
from qflsec.circuits.noisy_plan import NoisyBlock, NoisyTurn, Slots, compile_noisy
from qflsec.circuits.permute import permute
from qflsec.circuits.placed_noise import Noise
from qflsec.circuits.transfer import WeightedPermutation, word_number

__all__ = ["noisy_expectations", "noisy_probabilities"]


def noisy_expectations(
    circuit: Circuit,
    weights: Tensor,
    features: Tensor,
    *,
    noise: Noise | None,
    dtype: torch.dtype = torch.complex64,
) -> Tensor:
    """Exact expectation values under noise, differentiable in weights and features.

    Shapes:
        weights ``(..., P)``, features ``(..., F)`` -> ``(..., K)``, real.

    Raises:
        CircuitError: A wrong shape or dtype, an empty batch, or an amplitude embedding.
    """
    batch, program, vector = _run(circuit, weights, features, (noise, len(circuit.gates)), dtype)
    parts = [vector[:, place : place + 1] * factors for place, factors in program.words]
    return batch.unfold(reduce(torch.add, parts))


def noisy_probabilities(
    circuit: Circuit,
    weights: Tensor,
    features: Tensor,
    *,
    noise: Noise | None,
    dtype: torch.dtype = torch.complex64,
    noisy_gates: int | None = None,
) -> Tensor:
    """The probabilities of all bit strings under noise, wire 0 being the most significant bit.

    Args:
        circuit: The circuit.
        weights: Weights.
        features: Features.
        noise: The noise; None for none.
        dtype: As in :func:`noisy_expectations`.
        noisy_gates: The gates in front that the noise model sees; the others, such as a turn into the
            basis of measurement, come after all noise. None: all.

    Shapes:
        weights ``(..., P)``, features ``(..., F)`` -> ``(..., 2**n)``, real.

    Raises:
        CircuitError: As in :func:`noisy_expectations`.
    """
    count = len(circuit.gates) if noisy_gates is None else noisy_gates
    batch, program, vector = _run(circuit, weights, features, (noise, count), dtype)
    table = program.diagonal_words(vector)
    rows, size, samples = table.shape
    for _ in range(circuit.n_qubits):  # the word's letter I or Z in front becomes the bit behind
        one, z = table.reshape(rows, 2, -1, samples).unbind(1)
        table = torch.stack([(one + z) / 2, (one - z) / 2], dim=2).reshape(rows, size, samples)
    return batch.unfold(table)


def _run(
    circuit: Circuit,
    weights: Tensor,
    features: Tensor,
    noise: tuple[Noise | None, int],
    dtype: torch.dtype,
) -> tuple[Batch, _Program, Tensor]:
    """The final rows, in the program's last order."""
    circuit, weights, features = admit(circuit, weights, features, dtype)
    batch, weights, features = fold(weights, features)
    program = _load(circuit, *noise, weights.dtype, weights.device)
    return batch, program, program.run(weights, features, batch)


@lru_cache(maxsize=64)
def _load(
    circuit: Circuit, noise: Noise | None, count: int, dtype: torch.dtype, device: torch.device
) -> _Program:
    # In a thread of its own for the reason given in qflsec.circuits.program.load_program.
    with ThreadPoolExecutor(max_workers=1) as fresh:
        like = torch.empty(0, dtype=dtype, device=device)
        return fresh.submit(_Program, circuit, noise, count, like).result()


class _Gather:
    """A weighted permutation of the rows of a state."""

    def __init__(self, permutation: WeightedPermutation, like: Tensor) -> None:
        self._moves, self._scales = permutation.moves, permutation.scales
        self._index = torch.from_numpy(permutation.index).to(like.device)
        self._inverse = torch.from_numpy(np.argsort(permutation.index)).to(like.device)
        self._weight = torch.from_numpy(permutation.weight).to(like)[:, None]

    def __call__(self, vector: Tensor) -> Tensor:
        if self._moves:
            vector = permute(vector, self._index, self._inverse)
        return vector * self._weight if self._scales else vector


class _Angles:
    """The numbers 1, cos a and sin a of affine angles: ``(rows, entries, samples)`` -> ``(rows, angles, 3, samples)``.

    All are sines, of pi / 2, of the angle plus pi / 2 and of the angle, so that they are one operation.
    Angles that do not depend on the source have one row and one sample.
    """

    def __init__(self, angles: Sequence[Angle], like: Tensor) -> None:
        scale = [0.0 if angle.kind == "constant" else angle.scale for angle in angles]
        self._index = torch.tensor([angle.index for angle in angles], dtype=torch.int64, device=like.device)
        self._scale = like.new_tensor([[0.0, s, s] for s in scale])[..., None]
        right = math.pi / 2
        self._offset = like.new_tensor([[right, a.offset + right, a.offset] for a in angles])[..., None]
        self._constant = None if any(scale) else self._offset[None].sin()

    def __call__(self, source: Tensor) -> Tensor:
        if self._constant is not None:
            return self._constant
        return torch.addcmul(self._offset, source.index_select(1, self._index)[:, :, None], self._scale).sin()


class _Family:
    """Blocks of one size: Kronecker products of their slots' matrices."""

    def __init__(self, slots: Slots, like: Tensor) -> None:
        self.n_wires, self.n_angles, self.n_slots = slots.n_wires, slots.n_angles, len(slots.forms)
        runs = [list(run) for _, run in groupby(range(self.n_slots), key=lambda k: slots.forms[k].tobytes())]
        self._forms = [
            (run[0], run[-1] + 1, torch.from_numpy(slots.forms[run[0]]).to(like)[None]) for run in runs
        ]
        self._one = like.new_ones(1, self.n_slots, 1)

    def build(self, parts: Tensor) -> Tensor:
        """The matrices ``(rows, blocks, 4**k, 4**k)`` from (1, cos, sin) of each angle ``(rows, angles, 3)``."""
        products = self._one
        if self.n_angles:
            first, *others = parts.reshape(-1, self.n_slots, self.n_angles, 3).unbind(2)
            products = reduce(lambda a, b: (a[..., None] * b[:, :, None]).flatten(2), others, first)
        rows = products.size(0)
        tables = [torch.bmm(products[:, a:b], form.expand(rows, -1, -1)) for a, b, form in self._forms]
        matrices = torch.cat(tables, dim=1) if len(tables) > 1 else tables[0]
        wires = matrices.view(rows, -1, self.n_wires, 4, 4).unbind(2)
        return reduce(_kron, wires)


def _kron(a: Tensor, b: Tensor) -> Tensor:
    joined = a[:, :, :, None, :, None] * b[:, :, None, :, None, :]
    return joined.reshape(*a.shape[:2], a.size(2) * b.size(2), -1)


class _Program:
    """A plan's tensors.

    Attributes:
        words: The row of each word that is measured, and its coefficients in the observables ``(1, K, 1)``.
    """

    def __init__(self, circuit: Circuit, noise: Noise | None, count: int, like: Tensor) -> None:
        plan = compile_noisy(circuit, noise, count)
        turns = [stage for stage in plan.stages if isinstance(stage, NoisyTurn)]
        self._families = {key: _Family(slots, like) for key, slots in plan.families.items()}
        weight = [stage.angle for stage in turns if stage.angle.kind != "feature"]
        self._split = [len(weight), *(len(slots.angles) for slots in plan.families.values())]
        weight += [angle for slots in plan.families.values() for angle in slots.angles]
        feature = [angle or Angle.constant(0.0) for angle in plan.encoding]
        feature += [stage.angle for stage in turns if stage.angle.kind == "feature"]
        self._weight, self._feature = _Angles(weight, like), _Angles(feature, like)
        starts = [np.pad(start, ((0, 0), (0, 3 - start.shape[1]))) for start in plan.starts]
        self._starts = torch.from_numpy(np.stack(starts)).to(like)[None, ..., None]
        self._stages = [(stage, _Gather(stage.gather, like)) for stage in plan.stages]
        self._turns = {
            k: (torch.from_numpy(stage.turns).to(like)[:, None], _Gather(stage.sine, like))
            for k, stage in enumerate(plan.stages)
            if isinstance(stage, NoisyTurn)
        }
        index, factor = plan.frame.index, plan.frame.weight
        tables: dict[int, list[float]] = {}
        for k, observable in enumerate(circuit.observables):
            for coefficient, word in observable.terms:
                table = tables.setdefault(word_number(word), [0.0] * len(circuit.observables))
                table[k] += coefficient
        self.words = [
            (int(index[k]), like.new_tensor(table)[None, :, None] * float(factor[k]))
            for k, table in tables.items()
        ]
        words = np.array([word_number("".join(w)) for w in product("IZ", repeat=circuit.n_qubits)])
        self._diagonal = torch.from_numpy(index[words]).to(like.device)
        self._factors = torch.from_numpy(factor[words]).to(like)[:, None]

    def run(self, weights: Tensor, features: Tensor, batch: Batch) -> Tensor:
        """The final rows.

        Shapes:
            weights ``(distinct rows, P, 1)``, features ``(rows or 1, F, samples)`` ->
            ``(rows or 1, 4**n, samples or 1)``.
        """
        by_weight, by_feature = self._weight(weights), self._feature(features)
        wires = self._starts.size(1)
        turns, *slots = by_weight.split_with_sizes(self._split, 1)
        of_weight = iter(batch.spread(turns).unbind(1)) if self._split[0] else iter(())
        of_feature = iter(by_feature[:, wires:].unbind(1))
        blocks = {
            key: batch.spread(family.build(own[..., 0])).unbind(1)
            for (key, family), own in zip(self._families.items(), slots, strict=True)
        }
        vector = self._start(by_feature[:, :wires])
        for k, (stage, gather) in enumerate(self._stages):
            vector = gather(vector)
            if isinstance(stage, NoisyBlock):
                vector = _apply(blocks[stage.family][stage.position], vector)
            else:
                turning, sine = self._turns[k]
                parts = next(of_feature if stage.angle.kind == "feature" else of_weight)
                _, c, s = parts.split_with_sizes((1, 1, 1), 1)
                vector = vector * (1 - turning) + (vector * turning) * c + sine(vector) * s
        return vector

    def diagonal_words(self, vector: Tensor) -> Tensor:
        """The expectation values of the words of I and Z, in their order."""
        return vector.index_select(1, self._diagonal) * self._factors

    def _start(self, parts: Tensor) -> Tensor:
        """The product of the wires' vectors."""
        constant, cosine, sine = self._starts.unbind(3)
        wires = (constant + cosine * parts[:, :, 1:2] + sine * parts[:, :, 2:3]).unbind(1)
        return reduce(lambda a, b: (a[:, :, None] * b[:, None]).flatten(1, 2), wires)


def _apply(matrix: Tensor, vector: Tensor) -> Tensor:
    """A matrix on the first wires, the others riding along."""
    samples, size = vector.size(2), matrix.size(1)
    columns = vector.reshape(vector.size(0), size, -1)
    rows = max(matrix.size(0), columns.size(0))
    return torch.bmm(matrix.expand(rows, -1, -1), columns.expand(rows, -1, -1)).view(rows, -1, samples)

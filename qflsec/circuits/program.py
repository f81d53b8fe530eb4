"""A compiled plan as tensors of one dtype on one device, and the tensor operations on them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from qflsec.circuits.circuit import Angle, Circuit
from qflsec.circuits.frames import SignedPermutation, pauli_word
from qflsec.circuits.plan import Block, Family, Plan, Rotate, compile_circuit

__all__ = ["AngleTable", "BlockFamily", "Gather", "Program", "load_program", "matmul"]


class AngleTable:
    """Affine forms of one source, evaluated together: ``(rows, entries, samples)`` -> ``(rows, angles, samples)``."""

    def __init__(self, angles: Sequence[Angle], size: int, factor: float, like: Tensor) -> None:
        index = [angle.index for angle in angles]
        scale = [factor * (0.0 if angle.kind == "constant" else angle.scale) for angle in angles]
        offset = [factor * angle.offset for angle in angles]
        self._index = None if index == list(range(size)) else torch.tensor(index, device=like.device)
        self._scale = None if set(scale) == {1.0} else like.new_tensor(scale)[:, None]
        self._offset = like.new_tensor(offset)[:, None] if any(offset) else None

    def __call__(self, source: Tensor) -> Tensor:
        """The angles times the table's factor."""
        if self._index is not None:
            source = source.index_select(1, self._index)
        if self._scale is not None:
            source = source * self._scale
        return source if self._offset is None else source + self._offset


class _Permute(torch.autograd.Function):
    """Reorders dimension 1; the backward is the inverse order, which is much faster than a scatter."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        return x.index_select(1, index)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:  # noqa: ANN401
        ctx.save_for_backward(inputs[1], inputs[2])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        index, inverse = ctx.saved_tensors
        return _Permute.apply(gradient, inverse, index), None, None


class Gather:
    """A signed permutation of the rows of a state ``(rows, 2 * 2**n, samples)``."""

    def __init__(self, permutation: SignedPermutation, like: Tensor) -> None:
        self._index = self._inverse = self._sign = None
        if permutation.moves:
            self._index = torch.from_numpy(permutation.index).to(like.device)
            self._inverse = torch.from_numpy(permutation.inverse().index).to(like.device)
        if permutation.flips:
            self._sign = torch.from_numpy(permutation.sign).to(like)[:, None]

    @staticmethod
    def unless_identity(permutation: SignedPermutation, like: Tensor) -> Gather | None:
        """The gather, or None where there is nothing to do."""
        return Gather(permutation, like) if permutation.moves or permutation.flips else None

    def __call__(self, psi: Tensor) -> Tensor:
        """The rows in their new order."""
        if self._index is not None:
            psi = _Permute.apply(psi, self._index, self._inverse)
        return psi if self._sign is None else psi * self._sign


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Batched matrix product in which either batch may be 1; ``a`` is (rows, m, k), b any (rows, k * x, samples).

    Shapes:
        -> ``(rows, m * x, samples)``.
    """
    samples = b.shape[-1]
    b = b.reshape(b.shape[0], a.shape[-1], -1)
    if a.shape[0] != b.shape[0]:
        rows = max(a.shape[0], b.shape[0])
        a, b = a.expand(rows, -1, -1), b.expand(rows, -1, -1)
    return torch.bmm(a, b).reshape(b.shape[0], -1, samples)


class BlockFamily:
    """The unitaries of all blocks of one size, as real matrices on (real, imaginary) rows."""

    def __init__(self, family: Family, n_weights: int, like: Tensor) -> None:
        self._wires, self._angles = family.n_wires, family.n_angles
        self._forms = torch.from_numpy(family.forms()).to(like)
        self._table = AngleTable(family.angles(), n_weights, 0.5, like)
        self._constant = None if self._angles else self._join(self._forms[None, :, 0])

    def __call__(self, weights: Tensor) -> tuple[Tensor, ...]:
        """One ``(rows, 2 * 2**k, 2 * 2**k)`` for each block, from weights ``(rows, P, 1)``."""
        if self._constant is not None:
            return self._constant
        half = self._table(weights)
        pairs = torch.cat([half.cos(), half.sin()], dim=-1).unflatten(1, (-1, self._angles)).unbind(2)
        products = pairs[0]
        for pair in pairs[1:]:
            products = (products[..., None] * pair[:, :, None, :]).flatten(2)
        return self._join((products[..., None] * self._forms).sum(2))

    def _join(self, slots: Tensor) -> tuple[Tensor, ...]:
        """The Kronecker products of the slots' matrices, from ``(rows, slots, 16)``."""
        rows, k = slots.shape[0], self._wires
        blocks = slots.shape[1] // k
        joined = _kron(slots.reshape(rows * blocks, k, 16))
        order = [0, 2 * k + 2, *range(2, 2 * k + 2, 2), 1, *range(3, 2 * k + 2, 2)]
        matrices = joined.reshape(rows * blocks, *[2] * (2 * k + 2)).permute(order)
        size = 2 ** (k + 1)
        return matrices.reshape(rows, blocks, size, size).unbind(1)


def _kron(tables: Tensor) -> Tensor:
    """Kronecker products along dimension 1 of tables [c, entries, d], by pairs.

    Entry e of a table stands for i**c e with parts d; contracting d of one table with c of the next
    multiplies the complex numbers.
    """
    count = tables.shape[1]
    if count == 1:
        return tables[:, 0]
    if count % 2:
        return _product(_kron(tables[:, :-1]), tables[:, -1])
    pairs = tables.reshape(-1, 2, tables.shape[-1])
    return _kron(_product(pairs[:, 0], pairs[:, 1]).reshape(tables.shape[0], count // 2, -1))


def _product(a: Tensor, b: Tensor) -> Tensor:
    return torch.bmm(a.reshape(a.shape[0], -1, 2), b.reshape(b.shape[0], 2, -1)).flatten(1)


class Program:
    """A plan's tensors.

    Attributes:
        families: The blocks' unitaries, by (wires, angles).
        stages: Each stage with its gather, None where there is nothing to move.
        frame: From the final order of rows to the standard one; None where they are the same.
        words: Gathers and coefficient rows ``(1, K, rows)``, such that observable k is the sum over all
            pairs of coefficients times psi times gather(psi).
    """

    def __init__(self, circuit: Circuit, plan: Plan, like: Tensor) -> None:
        n = circuit.n_qubits
        self.families = {k: BlockFamily(f, circuit.n_weights, like) for k, f in plan.families.items()}
        self.stages = [(stage, Gather.unless_identity(stage.gather, like)) for stage in plan.stages]
        self.frame = Gather.unless_identity(plan.frame, like)
        self.words = _words(circuit, plan, like)
        turns = [stage.angle for stage in plan.stages if isinstance(stage, Rotate)]
        by_weight = [angle for angle in turns if angle.kind != "feature"]
        by_feature = [angle for angle in turns if angle.kind == "feature"]
        self._by_weight = AngleTable(by_weight, circuit.n_weights, 0.5, like) if by_weight else None
        self._by_feature = AngleTable(by_feature, circuit.n_features, 0.5, like) if by_feature else None
        self._amplitudes = self._encoding = None
        self._size = 2**n
        self._start = pad(like.new_ones(1, 1, 1), (0, 0, 0, self._size - 1))
        if plan.amplitudes is not None:
            self._amplitudes = AngleTable(plan.amplitudes, circuit.n_features, 1.0, like)
        elif any(plan.encoding):
            encoding = [angle or Angle.constant(0.0) for angle in plan.encoding]
            self._encoding = AngleTable(encoding, circuit.n_features, 0.5, like)

    def turns(self, weights: Tensor, features: Tensor) -> tuple[list[tuple[Tensor, Tensor]], ...]:
        """Cosines and sines of the rotations' half angles, each ``(rows, 1, samples)``."""
        pairs = []
        for table, source in ((self._by_weight, weights), (self._by_feature, features)):
            half = None if table is None else table(source)
            pairs.append(
                [] if half is None else list(zip(half.cos().split(1, 1), half.sin().split(1, 1), strict=True))
            )
        return tuple(pairs)

    def initial(self, features: Tensor) -> Tensor:
        """The encoded state, which is real: ``(rows, F, samples)`` -> ``(rows, 2**n, samples)``."""
        if self._amplitudes is not None:
            return self._normalised(self._amplitudes(features))
        if self._encoding is None:
            return self._start
        half = self._encoding(features)
        wires = torch.stack([half.cos(), half.sin()], dim=2).unbind(1)
        return _product_state(wires)

    def _normalised(self, values: Tensor) -> Tensor:
        """Zero-padded and of norm 1; the zero vector becomes |0...0>, so that padding rows stay finite."""
        values = pad(values, (0, 0, 0, self._size - values.shape[1]))
        squares = values.square().sum(1, keepdim=True)
        empty = squares == 0
        norm = torch.where(empty, torch.ones_like(squares), squares).sqrt()
        return torch.where(empty, self._start, values / norm)


def _product_state(wires: Sequence[Tensor]) -> Tensor:
    """The product of the wires' vectors ``(rows, 2, samples)``."""
    if len(wires) == 1:
        return wires[0]
    half = len(wires) // 2
    left, right = _product_state(wires[:half]), _product_state(wires[half:])
    return (left[:, :, None] * right[:, None]).flatten(1, 2)


def _words(circuit: Circuit, plan: Plan, like: Tensor) -> list[tuple[Gather | None, Tensor]]:
    """The observables as quadratic forms of the final rows, grouped by how their words move them."""
    undo = plan.frame.inverse()
    groups: dict[bytes, tuple[SignedPermutation, np.ndarray[Any, np.dtype[np.float64]]]] = {}
    for k, observable in enumerate(circuit.observables):
        for coefficient, word in observable.terms:
            letters = {wire: letter for wire, letter in enumerate(word) if letter != "I"}
            form = undo.after(pauli_word(letters, circuit.n_qubits).after(plan.frame))
            empty = np.zeros((len(circuit.observables), len(form.index)))
            _, table = groups.setdefault(form.index.tobytes(), (form, empty))
            table[k] += coefficient * form.sign
    return [
        (
            Gather(SignedPermutation(form.index, np.ones_like(form.sign)), like) if form.moves else None,
            torch.from_numpy(table).to(like)[None],
        )
        for form, table in groups.values()
    ]


@lru_cache(maxsize=256)
def load_program(circuit: Circuit, group_size: int, dtype: torch.dtype, device: torch.device) -> Program:
    """The program of a circuit with blocks of at most ``group_size`` wires, for one real dtype and device."""
    plan = compile_circuit(circuit, group_size)
    return Program(circuit, plan, torch.empty(0, dtype=dtype, device=device))

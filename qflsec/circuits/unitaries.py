"""Cosines and sines of half angles, and from them the unitaries of a plan's blocks.

Each step has its adjoint beside it: a plain sequence of tensor operations that is itself differentiable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from qflsec.circuits.circuit import Angle
from qflsec.circuits.permute import permute
from qflsec.circuits.plan import Family

__all__ = ["AngleTable", "BlockFamily", "Built"]

Ints = npt.NDArray[np.int64]


class AngleTable:
    """Affine forms of one source's entries, evaluated together."""

    def __init__(self, angles: Sequence[Angle], size: int, like: Tensor) -> None:
        index = [angle.index for angle in angles]
        scale = [0.0 if angle.kind == "constant" else angle.scale for angle in angles]
        self._index = (
            None if index == list(range(size)) else torch.tensor(index, dtype=torch.int64, device=like.device)
        )
        self._scale = like.new_tensor(scale)[:, None]
        self._offset = like.new_tensor([angle.offset for angle in angles])[:, None]
        self._half_scale = (self._scale / 2)[..., None]
        self._half_offset = (self._offset / 2)[..., None] + like.new_tensor([math.pi / 2, 0.0])[:, None]
        self._constant = None if any(scale) else self._half_offset[None].sin()

    @property
    def varies(self) -> bool:
        """Whether any angle depends on the source."""
        return self._constant is None

    def values(self, source: Tensor) -> Tensor:
        """The angles: ``(rows, entries, samples)`` -> ``(rows, angles, samples)``."""
        return torch.addcmul(self._offset, self._pick(source), self._scale)

    def cos_sin(self, source: Tensor) -> Tensor:
        """Cosines and sines of half the angles: ``(rows, entries, samples)`` -> ``(rows, angles, 2, samples)``.

        Both are sines, of half the angle plus pi / 2 and of half the angle, so that they are one operation.
        Angles that do not depend on the source have one row and one sample.
        """
        if self._constant is not None:
            return self._constant
        return torch.addcmul(self._half_offset, self._pick(source)[:, :, None], self._half_scale).sin()

    def _pick(self, source: Tensor) -> Tensor:
        return source if self._index is None else source.index_select(1, self._index)


@dataclass(frozen=True)
class Built:
    """A family's unitaries and the steps towards them.

    Attributes:
        pairs: Cosine and sine ``(rows, slots, 2)`` of each angle of all slots.
        products: The first pair, the products of the first two, and so on: ``(rows, slots, 2**m)``.
        tables: The slots' matrices ``(rows * blocks, wires, 16)``.
        matrices: The unitaries ``(rows, blocks, 2 * 2**k, 2 * 2**k)``.
    """

    pairs: tuple[Tensor, ...]
    products: tuple[Tensor, ...]
    tables: Tensor
    matrices: Tensor


class BlockFamily:
    """Blocks of one size as real matrices that act on (real, imaginary) rows.

    A slot's matrix is linear in the 2**m products of its half angles' cosines and sines; slots of the same
    form share one matrix product. The blocks are Kronecker products of their slots.
    """

    def __init__(self, family: Family, like: Tensor) -> None:
        self._wires, self._angles, self._slots = family.n_wires, family.n_angles, len(family.slots)
        self._forms = [
            (first, last, torch.from_numpy(form).to(like)[None])
            for first, last, form in _runs(family.forms())
        ]
        order = _matrix_order(family.n_wires)
        self._order = torch.from_numpy(order).to(like.device)
        self._inverse = torch.from_numpy(np.argsort(order)).to(like.device)
        self._one = like.new_ones(1, self._slots, 1)

    @property
    def n_angles(self) -> int:
        """Angles of each slot."""
        return self._angles

    def build(self, cos_sin: Tensor) -> Built:
        """The unitaries from cosines and sines ``(rows, slots * m, 2)``."""
        pairs: tuple[Tensor, ...] = (self._one,)
        if self._angles:
            pairs = cos_sin.reshape(-1, self._slots, self._angles, 2).unbind(2)
        products = [pairs[0]]
        for pair in pairs[1:]:
            products.append((products[-1][..., None] * pair[:, :, None]).flatten(2))
        rows, size = pairs[0].shape[0], 2 ** (self._wires + 1)
        parts = [
            torch.bmm(_part(products[-1], first, last), form.expand(rows, -1, -1))
            for first, last, form in self._forms
        ]
        tables = (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)).view(-1, self._wires, 16)
        matrices = permute(_kron(tables), self._order, self._inverse).view(rows, -1, size, size)
        return Built(pairs, tuple(products), tables, matrices)

    def adjoint(self, built: Built, gradient: Tensor) -> Tensor:
        """The gradient of the cosines and sines from that of the unitaries."""
        tables = built.tables
        joined = permute(gradient.reshape(tables.shape[0], -1), self._inverse, self._order)
        slots = _kron_adjoint(tables, joined).reshape(-1, self._slots, 16)
        parts = [
            torch.bmm(_part(slots, first, last), form.transpose(1, 2).expand(slots.shape[0], -1, -1))
            for first, last, form in self._forms
        ]
        after = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        gradients: list[Tensor] = []
        for pair, before in zip(built.pairs[:0:-1], built.products[-2::-1], strict=True):
            after = after.view(*before.shape, 2)
            gradients.append((after * before[..., None]).sum(2))
            after = (after * pair[:, :, None]).sum(3)
        return torch.stack([after, *gradients[::-1]], dim=2).flatten(1, 2)


def _part(slots: Tensor, first: int, last: int) -> Tensor:
    return slots if last - first == slots.shape[1] else slots[:, first:last]


def _runs(forms: npt.NDArray[np.float64]) -> list[tuple[int, int, npt.NDArray[np.float64]]]:
    """Neighbouring slots of the same form: first, one past the last, the form."""
    starts = [k for k in range(len(forms)) if k == 0 or not np.array_equal(forms[k], forms[k - 1])]
    return [(a, b, forms[a]) for a, b in zip(starts, [*starts[1:], len(forms)], strict=True)]


def _matrix_order(wires: int) -> Ints:
    """From the joined table [c, i0, j0, i1, j1, ..., d] to the matrix [d, i0, i1, ..., c, j0, j1, ...]."""
    bits = 2 * wires + 2
    axes = [bits - 1, *range(1, bits - 1, 2), 0, *range(2, bits - 1, 2)]
    return np.arange(2**bits).reshape([2] * bits).transpose(axes).ravel()


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
    return _kron(_halve(tables))


def _halve(tables: Tensor) -> Tensor:
    """The products of neighbours along dimension 1."""
    pairs = tables.reshape(-1, 2, tables.shape[-1])
    return _product(pairs[:, 0], pairs[:, 1]).view(tables.shape[0], tables.shape[1] // 2, -1)


def _product(a: Tensor, b: Tensor) -> Tensor:
    count = a.shape[0]
    return torch.bmm(a.reshape(count, -1, 2), b.reshape(count, 2, -1)).view(count, -1)


def _kron_adjoint(tables: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of :func:`_kron`'s tables."""
    count = tables.shape[1]
    if count == 1:
        return gradient[:, None]
    if count % 2:
        head, last = _product_adjoint(_kron(tables[:, :-1]), tables[:, -1], gradient)
        return torch.cat([_kron_adjoint(tables[:, :-1], head), last[:, None]], dim=1)
    pairs = tables.reshape(-1, 2, tables.shape[-1])
    joined = _kron_adjoint(_halve(tables), gradient) if count > 2 else gradient
    both = _product_adjoint(pairs[:, 0], pairs[:, 1], joined.reshape(pairs.shape[0], -1))
    return torch.stack(both, dim=1).view(tables.shape)


def _product_adjoint(a: Tensor, b: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    count = a.shape[0]
    left, right = a.reshape(count, -1, 2), b.reshape(count, 2, -1)
    gradient = gradient.view(count, left.shape[1], -1)
    of_a = torch.bmm(gradient, right.transpose(1, 2)).view(count, -1)
    return of_a, torch.bmm(left.transpose(1, 2), gradient).view(count, -1)

"""Cosines and sines of half angles, and from them the unitaries of a plan's blocks.

Each step has its adjoint beside it: a plain sequence of tensor operations that is itself differentiable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from qflsec.circuits.circuit import Angle
from qflsec.circuits.permute import permute
from qflsec.circuits.plan import Family

__all__ = ["AngleTable", "BlockFamily"]

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


class BlockFamily:
    """Blocks of one size as real matrices that act on (real, imaginary) rows.

    A slot's matrix is linear in the 2**m products of its half angles' cosines and sines; slots of the same
    form share one matrix product. The blocks are Kronecker products of their slots.
    """

    def __init__(self, family: Family, like: Tensor) -> None:
        self._wires, self._angles = family.n_wires, family.n_angles
        self._blocks = len(family.slots) // family.n_wires
        self._forms = [
            (first, last, torch.from_numpy(form).to(like)[None])
            for first, last, form in _runs(family.forms())
        ]
        order = _matrix_order(family.n_wires)
        self._order = torch.from_numpy(order).to(like.device)
        self._inverse = torch.from_numpy(np.argsort(order)).to(like.device)
        self._none = like.new_ones(1, len(family.slots), 1)

    def build(self, cos_sin: Tensor) -> Tensor:
        """The matrices ``(rows, blocks, 2 * 2**k, 2 * 2**k)``, from ``(rows, slots * m, 2)``."""
        return self._join(self._slots(self._products(self._pairs(cos_sin))[-1]))

    def adjoint(self, cos_sin: Tensor, gradient: Tensor) -> Tensor:
        """The gradient of ``cos_sin`` from that of the matrices."""
        pairs = self._pairs(cos_sin)
        products = self._products(pairs)
        rows = len(gradient)
        tables = self._slots(products[-1]).reshape(-1, self._wires, 16)
        joined = permute(gradient.reshape(rows * self._blocks, -1), self._inverse, self._order)
        slots = _kron_adjoint(tables, joined).view(rows, -1, 16)
        parts = [
            torch.bmm(slots[:, first:last], form.transpose(1, 2).expand(rows, -1, -1))
            for first, last, form in self._forms
        ]
        after = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        gradients: list[Tensor] = []
        for pair, before in zip(pairs[:0:-1], products[-2::-1], strict=True):
            after = after.unflatten(2, (-1, 2))  # type: ignore[no-untyped-call]
            gradients.insert(0, (after * before[..., None]).sum(2))
            after = (after * pair[:, :, None, :]).sum(3)
        return torch.stack([after, *gradients], dim=2).flatten(1, 2)

    def _pairs(self, cos_sin: Tensor) -> tuple[Tensor, ...]:
        """The cosine and sine of each angle of all slots."""
        if not self._angles:
            return (self._none,)
        return cos_sin.reshape(len(cos_sin), -1, self._angles, 2).unbind(2)

    @staticmethod
    def _products(pairs: Sequence[Tensor]) -> list[Tensor]:
        """The products of the first pair, the first two, and so on."""
        products = [pairs[0]]
        for pair in pairs[1:]:
            products.append((products[-1][..., None] * pair[:, :, None, :]).flatten(2))
        return products

    def _slots(self, products: Tensor) -> Tensor:
        rows = len(products)
        parts = [torch.bmm(products[:, a:b], form.expand(rows, -1, -1)) for a, b, form in self._forms]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _join(self, slots: Tensor) -> Tensor:
        rows, size = len(slots), 2 ** (self._wires + 1)
        joined = _kron(slots.reshape(rows * self._blocks, self._wires, 16))
        return permute(joined, self._order, self._inverse).view(rows, self._blocks, size, size)


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
    return _product(pairs[:, 0], pairs[:, 1]).view(len(tables), tables.shape[1] // 2, -1)


def _product(a: Tensor, b: Tensor) -> Tensor:
    return torch.bmm(a.reshape(len(a), -1, 2), b.reshape(len(b), 2, -1)).flatten(1)


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
    both = _product_adjoint(pairs[:, 0], pairs[:, 1], joined.reshape(len(pairs), -1))
    return torch.stack(both, dim=1).view(tables.shape)


def _product_adjoint(a: Tensor, b: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    left, right = a.reshape(len(a), -1, 2), b.reshape(len(b), 2, -1)
    gradient = gradient.reshape(len(a), left.shape[1], right.shape[2])
    of_a = torch.bmm(gradient, right.transpose(1, 2)).flatten(1)
    return of_a, torch.bmm(left.transpose(1, 2), gradient).flatten(1)

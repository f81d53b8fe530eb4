"""A permutation of dimension 1 whose backward is the inverse permutation."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from qflsec.circuits.frames import SignedPermutation

__all__ = ["Gather", "permute"]


class _Permute(torch.autograd.Function):
    """Autograd would scatter with accumulation, which is many times slower."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, index: Tensor, inverse: Tensor) -> Tensor:  # noqa: ARG004 - kept for the backward
        return x.index_select(1, index)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:  # noqa: ANN401, ARG004
        ctx.save_for_backward(inputs[1], inputs[2])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        index, inverse = ctx.saved_tensors
        return permute(gradient, inverse, index), None, None


def permute(x: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
    """``x[:, index]`` for a permutation and its inverse."""
    if torch.is_grad_enabled():
        return _Permute.apply(x, index, inverse)  # type: ignore[no-untyped-call, no-any-return]
    return x.index_select(1, index)


class Gather:
    """A signed permutation of the rows of a state ``(rows, 2 * 2**n, samples)``."""

    def __init__(self, permutation: SignedPermutation, like: Tensor) -> None:
        self._moves, self._flips = permutation.moves, permutation.flips
        self._index = torch.from_numpy(permutation.index).to(like.device)
        self._inverse = torch.from_numpy(permutation.inverse().index).to(like.device)
        self._sign = torch.from_numpy(permutation.sign).to(like)[:, None]

    @property
    def idle(self) -> bool:
        """Whether nothing changes."""
        return not (self._moves or self._flips)

    def __call__(self, psi: Tensor) -> Tensor:
        """The rows in their new order, with their new signs."""
        if self._moves:
            psi = permute(psi, self._index, self._inverse)
        return psi * self._sign if self._flips else psi

    def back(self, psi: Tensor) -> Tensor:
        """The inverse, which is also the transpose."""
        if self._flips:
            psi = psi * self._sign
        return permute(psi, self._inverse, self._index) if self._moves else psi


# torch inspects this signature at every call; a signature that is attached is found at once.
_Permute.forward.__signature__ = inspect.signature(_Permute.forward)  # type: ignore[attr-defined]

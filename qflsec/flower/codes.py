"""Coded updates: what a compressing layer leaves of an update, in as few bytes as its code takes."""

from __future__ import annotations

import struct

import torch

from qflsec.base import ProtocolAbort, QflsecError
from qflsec.federation import Stack
from qflsec.federation.compression import CompressionLayer
from qflsec.threat import Payload

__all__ = ["coder_of", "from_code", "to_code"]

_COUNT = struct.Struct("<d")


def coder_of(stack: Stack) -> CompressionLayer | None:
    """The layer whose code an update can travel in: the last thing that clients do to it, where nothing seals it."""
    last = stack.shapes[-1] if stack.shapes else None
    return last if isinstance(last, CompressionLayer) and stack.aggregation is None else None


def to_code(coder: CompressionLayer, update: torch.Tensor, count: float) -> bytes:
    """The number of examples, and the code of an update.

    Shapes:
        update: ``(P,)``
    """
    return _COUNT.pack(count) + coder.encode(update)


def from_code(coder: CompressionLayer, payload: Payload, n_params: int, like: torch.Tensor) -> torch.Tensor:
    """The update and the number of examples.

    Args:
        coder: The layer.
        payload: What arrived.
        n_params: The number of parameters.
        like: A model, whose type the numbers get.

    Shapes:
        returns: ``(P + 1,)``

    Raises:
        ProtocolAbort: It is no such code.
    """
    size = _COUNT.size + -(-coder.coded_bits(n_params) // 8)
    if not isinstance(payload, bytes) or len(payload) != size:
        raise ProtocolAbort("something else than the code of an update")
    try:
        update = coder.decode(payload[_COUNT.size :], n_params)
    except (ValueError, IndexError, OverflowError, struct.error, QflsecError) as error:
        raise ProtocolAbort("something else than the code of an update", got=error) from None
    (count,) = _COUNT.unpack(payload[: _COUNT.size])
    return torch.cat([update.to(like), like.new_tensor([count])])

"""Tapes of QNodes that are no circuit of ours: PennyLane builds them, the batch is executed here.

A user's function is run for many rows of weights and features at once, by broadcasting or under
``torch.func.vmap``, or row by row; what it says becomes one batch of equal tapes, or a few where it branches on a
value. PennyLane decomposes them and gives the matrices of its gates; states and measured values are computed by the
kernel's own stages, differentiably.
"""

from __future__ import annotations

from qflsec.circuits.tapes.run import Building, tape_values

__all__ = ["Building", "tape_values"]

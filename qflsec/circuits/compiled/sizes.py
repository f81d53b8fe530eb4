"""Sizes of the buffers of a block, for Python and for what numba compiles."""

from __future__ import annotations

__all__ = ["phases_size", "whole"]


def whole(count: int) -> int:
    """At least so many numbers, in whole cache lines of either precision."""
    return -(-count // 16) * 16


def phases_size(size: int, width: int, n_ops: int, n_angles: int) -> int:
    """Numbers for the diagonals of shared weights and one that differs between lanes, or for all angles of a row."""
    rows = -(-n_ops * max(size, 8) // 16) * 16
    return max(rows + size * width, -(-n_angles // 16) * 16)

"""Rows of updates: NumPy or torch in, the same kind and precision out, and what is not finite left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch

from qflsec.base import ConfigError, UpdateError

__all__ = ["Array", "Rows", "Updates", "like", "norms_of", "unit_rows"]

Array = npt.NDArray[np.float64]
Updates = TypeVar("Updates", bound="npt.NDArray[Any] | torch.Tensor")
"""Updates as an array of NumPy or a tensor of torch, float32 or float64; a rule gives back the same kind."""
_WHOLE = (int, np.integer)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The finite rows of a rule's updates.

    Attributes:
        values: These rows in their own precision. It may share memory with the caller's rows: never write to it.
        f: The declared number of corrupted rows, less those that were dropped; at least 0.
        kept: The positions of these rows among the caller's.
        squares: Their squared lengths, off by no more than the digits of a sum in their own precision; None where they were not
            needed or overflow.

    Shapes:
        values: ``(n, d)``; kept: ``(n,)``; squares: ``(n,)``
    """

    values: npt.NDArray[Any]
    f: int
    kept: npt.NDArray[np.int64]
    squares: npt.NDArray[Any] | None = None

    @classmethod
    def of(cls, updates: npt.NDArray[Any] | torch.Tensor, f: int = 0) -> Rows:
        """Read a rule's updates.

        A row with NaN or infinity cannot come from an honest client whose training went well: it is dropped, and
        counts as one of the ``f``.

        Args:
            updates: A row for each client.
            f: The declared number of corrupted rows.

        Shapes:
            updates: ``(n, d)``

        Raises:
            UpdateError: There is no finite row, the shape is not ``(n, d)``, or the numbers are neither float32 nor
                float64.
            ConfigError: ``f`` is no whole number of 0 or more.
        """
        given = cls.unchecked(updates, f)
        values = given.values
        with np.errstate(over="ignore", invalid="ignore"):  # squares of finite numbers may overflow
            squares = np.vecdot(values, values)
        if np.isfinite(squares).all():  # one pass, which most rows pass
            return replace(given, squares=squares)
        finite = np.isfinite(values).all(axis=1)
        dropped = len(values) - int(finite.sum())
        if dropped == len(values):
            raise UpdateError(
                "no update is finite",
                got=f"NaN or infinity in all {dropped}",
                expected="one finite row at least",
            )
        return cls(
            values=values[finite] if dropped else values,
            f=max(0, given.f - dropped),
            kept=np.flatnonzero(finite),
        )

    @classmethod
    def unchecked(cls, updates: npt.NDArray[Any] | torch.Tensor, f: int) -> Rows:
        """All rows of a rule's updates, for a rule that finds out itself whether they are finite.

        Args:
            updates: A row for each client.
            f: The declared number of corrupted rows.

        Shapes:
            updates: ``(n, d)``

        Raises:
            UpdateError: The shape is not ``(n, d)``, or the numbers are neither float32 nor float64.
            ConfigError: ``f`` is no whole number of 0 or more.
        """
        values = _values(updates)
        if isinstance(f, bool) or not isinstance(f, _WHOLE) or f < 0:
            raise ConfigError(
                "'f' is no number of clients", got=repr(f), expected="a whole number, 0 or more"
            )
        return cls(values=values, f=int(f), kept=_all_of(len(values)))

    @property
    def n(self) -> int:
        """The number of finite rows."""
        return len(self.values)

    @property
    def wide(self) -> Array:
        """The rows in double precision; a copy only where they are in single."""
        return self.values.astype(np.float64, copy=False)

    def need(self, rule: str, most: int, condition: str) -> None:
        """Refuse an ``f`` for which a rule is not defined.

        Args:
            rule: The rule's name.
            most: The largest ``f`` for this number of rows.
            condition: The rule's condition, in words.

        Raises:
            ConfigError: ``f`` is larger.
        """
        if self.f > most:
            raise ConfigError(
                f"{rule!r} is not defined for so many corrupted updates",
                got=f"n = {self.n} finite updates, f = {self.f}",
                expected=condition,
                fix="lower 'f' ('declared_corrupted' in a matrix), or ask more clients",
            )


@lru_cache(maxsize=16)
def _all_of(n: int) -> npt.NDArray[np.int64]:
    """The places 0 to n - 1, which nobody can write to."""
    places = np.arange(n)
    places.setflags(write=False)
    return places


def _values(updates: npt.NDArray[Any] | torch.Tensor) -> npt.NDArray[Any]:
    values = updates.numpy(force=True) if isinstance(updates, torch.Tensor) else updates
    given: object = values  # a caller need not be typed
    if not isinstance(given, np.ndarray) or given.dtype not in (np.float32, np.float64):
        kind = given.dtype if isinstance(given, np.ndarray) else type(given).__name__
        raise UpdateError(
            "updates are numbers of another kind",
            got=kind,
            expected="a NumPy array or a torch tensor of float32 or float64",
        )
    if values.ndim != 2 or 0 in values.shape:
        raise UpdateError(
            "a rule needs updates as rows",
            got=f"shape {values.shape}",
            expected="(n, d) with n and d at least 1",
        )
    return values


def like(updates: Updates, values: npt.NDArray[Any]) -> Updates:
    """Values as the same kind of array as ``updates``: library, precision and device.

    Args:
        updates: What the caller gave.
        values: The result.
    """
    if isinstance(updates, torch.Tensor):
        # a copy, unless the memory is the values' own: they may be a part of what the caller gave
        kind = np.float32 if updates.dtype == torch.float32 else np.float64
        own = values.astype(kind, copy=not values.flags.owndata)
        found = torch.from_numpy(own)
        return cast("Updates", found if updates.is_cpu else found.to(updates.device))
    return cast("Updates", values.astype(updates.dtype))


def norms_of(values: npt.NDArray[Any]) -> Array:
    """The L2 norm of each row in double precision, without overflow on the way.

    Shapes:
        values: ``(n, d)``; returns: ``(n,)``
    """
    with np.errstate(over="ignore"):
        found: Array = np.sqrt(np.einsum("ij,ij->i", values, values, dtype=np.float64, casting="safe"))
    for row in np.flatnonzero(~np.isfinite(found) | (found < 1e-150)):
        largest = float(np.abs(values[row]).max())
        if largest > 0:
            found[row] = largest * float(np.linalg.norm(values[row].astype(np.float64) / largest))
    return found


def unit_rows(values: npt.NDArray[Any]) -> Array:
    """The rows at length 1 in double precision; rows of zeros stay as they are.

    Shapes:
        values: ``(n, d)``; returns the same
    """
    wide = values.astype(np.float64)
    largest = np.abs(wide).max(axis=1, keepdims=True)
    wide /= np.where(largest > 0, largest, 1.0)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    wide /= np.where(lengths > 0, lengths, 1.0)
    return wide

"""The arrays of a Flower model as one flat vector, and back: names, shapes and types stay as they are."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from flwr.app import Array, ArrayRecord

from qflsec.base import ProtocolAbort, UpdateError

__all__ = ["ArrayLayout"]

_TYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, kw_only=True)
class ArrayLayout:
    """Names, shapes and types of the arrays of a model, in their order.

    Attributes:
        names: Of the arrays.
        shapes: Their shapes.
        dtypes: Their types, ``"float32"`` or ``"float64"``.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]

    @classmethod
    def of(cls, record: ArrayRecord) -> Self:
        """The layout of a record.

        Raises:
            UpdateError: It has no numbers that an update could be added to, or none at all.
        """
        arrays = {name: _read(array, name) for name, array in record.items()}
        if not sum(array.size for array in arrays.values()):
            raise UpdateError(
                "a model without numbers cannot be trained", got=f"{len(arrays)} arrays and no number"
            )
        for name, array in arrays.items():
            if array.dtype.name not in _TYPES:
                raise UpdateError(
                    f"the array {name!r} holds no numbers that an update could be added to",
                    got=array.dtype.name,
                    expected=" or ".join(_TYPES),
                    fix="convert it, or keep it out of the record that clients train",
                )
        return cls(
            names=tuple(arrays),
            shapes=tuple(array.shape for array in arrays.values()),
            dtypes=tuple(array.dtype.name for array in arrays.values()),
        )

    @property
    def n_params(self) -> int:
        """The length of the vector, P."""
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def dtype(self) -> torch.dtype:
        """The type of the vector: double precision where any array has it, so that nothing is rounded."""
        return torch.float64 if "float64" in self.dtypes else torch.float32

    def vector(self, record: ArrayRecord) -> torch.Tensor:
        """All numbers of a record, in the layout's order.

        Shapes:
            returns: ``(P,)``

        Raises:
            UpdateError: Its names, shapes or types are not those of the layout.
        """
        if tuple(record) != self.names:
            raise UpdateError(
                "the arrays are not those of the model", got=list(record), expected=list(self.names)
            )
        parts = []
        for name, shape, dtype in zip(self.names, self.shapes, self.dtypes, strict=True):
            array = _read(record[name], name)
            if array.shape != shape or array.dtype.name != dtype:
                raise UpdateError(
                    f"the array {name!r} is not that of the model",
                    got=f"{array.dtype.name} of shape {array.shape}",
                    expected=f"{dtype} of shape {shape}",
                )
            parts.append(torch.from_numpy(np.array(array).reshape(-1)).to(self.dtype))
        return torch.cat(parts)

    def record(self, vector: torch.Tensor) -> ArrayRecord:
        """The record of a vector.

        Shapes:
            vector: ``(P,)``
        """
        sizes = [math.prod(shape) for shape in self.shapes]
        parts = torch.split(vector.detach().cpu(), sizes)
        return ArrayRecord(
            {
                name: Array(part.to(_TYPES[dtype]).reshape(shape).numpy())
                for name, shape, dtype, part in zip(self.names, self.shapes, self.dtypes, parts, strict=True)
            }
        )

    def to_bytes(self) -> bytes:
        """The layout as a message carries it."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, body: bytes) -> Self:
        """What :meth:`to_bytes` wrote.

        Raises:
            ProtocolAbort: The bytes are no layout.
        """
        try:
            held: dict[str, Any] = json.loads(body)
            layout = cls(
                names=tuple(map(str, held["names"])),
                shapes=tuple(tuple(int(n) for n in shape) for shape in held["shapes"]),
                dtypes=tuple(held["dtypes"]),
            )
        except (ValueError, TypeError, KeyError):
            raise ProtocolAbort("a message holds no layout of arrays") from None
        same_length = len(layout.names) == len(layout.shapes) == len(layout.dtypes)
        if (
            not same_length
            or not set(layout.dtypes) <= set(_TYPES)
            or any(n < 0 for s in layout.shapes for n in s)
        ):
            raise ProtocolAbort("a message holds no layout of arrays")
        return layout


def _read(array: Array, name: str) -> npt.NDArray[Any]:
    """One array.

    Raises:
        UpdateError: Its bytes are none.
    """
    try:
        return array.numpy()
    except (ValueError, TypeError, EOFError, OSError) as error:
        raise UpdateError(f"the array {name!r} cannot be read", got=error) from None

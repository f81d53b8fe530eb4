"""Walking a view: all bytes that can be reached from it, and vectors that equal an update."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from qflsec.threat import View


def blobs(thing: Any, seen: dict[int, Any] | None = None) -> Iterator[bytes]:
    """The bytes of everything that can be reached from an object, whole storages of tensors included."""
    seen = {} if seen is None else seen
    if id(thing) in seen or thing is None or isinstance(thing, (type, int, float, bool)):
        return
    seen[id(thing)] = thing  # kept alive, so that no other object gets its id
    if isinstance(thing, bytes):
        yield thing
    elif isinstance(thing, str):
        yield thing.encode()
    elif isinstance(thing, torch.Tensor):
        yield bytes(thing.untyped_storage())
    elif isinstance(thing, np.ndarray):
        base = thing.base if isinstance(thing.base, np.ndarray) else thing
        yield base.tobytes()
    elif isinstance(thing, dict):
        for pair in thing.items():
            yield from blobs(pair, seen)
    elif isinstance(thing, (list, tuple, set, frozenset)):
        for part in thing:
            yield from blobs(part, seen)
    else:
        if dataclasses.is_dataclass(thing):
            for field in dataclasses.fields(thing):
                yield from blobs(getattr(thing, field.name, None), seen)
        yield from blobs(getattr(thing, "__dict__", None), seen)
        for slot in getattr(type(thing), "__slots__", ()):
            yield from blobs(getattr(thing, slot, None), seen)
        closure = getattr(thing, "__closure__", None) or ()
        yield from blobs([cell.cell_contents for cell in closure], seen)


def head(values: torch.Tensor | np.ndarray[Any, Any]) -> bytes:
    """The first 16 bytes: enough to recognise, and found in any storage that holds the vector."""
    array = values.detach().numpy() if isinstance(values, torch.Tensor) else values
    return np.ascontiguousarray(array).tobytes()[:16]


def held(view: View) -> bytes:
    return b"\x00".join(blobs(view))


def near(view: View, update: torch.Tensor) -> bool:
    """Whether some readable vector equals this update up to rounding."""
    vectors = [item.value for item in view.items if item.form == "plain"]
    return any(
        isinstance(vector, torch.Tensor)
        and vector.shape == update.shape
        and bool(torch.linalg.norm(vector - update) < 1e-3 * torch.linalg.norm(update))
        for vector in vectors
    )

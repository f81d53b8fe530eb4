"""Boxes: where a client keeps its keys and states from one message to the next.

Flower starts a new process for every message that a node gets, and may start two at once. A state that is copied and
used twice gives away what it protects: two vectors under one mask differ by what was masked, and shares for two lists of
survivors open a client. So a box is locked while a message is answered, and written before the answer leaves: a message
that comes again finds its stage spent.
"""

from __future__ import annotations

import fcntl
import io
import os
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from qflsec.base import StoreError

__all__ = ["Boxes", "FolderBoxes", "MemoryBoxes"]

Box = dict[str, Any]
_KEYS: tuple[tuple[type, Callable[[bytes], object]], ...] = (
    (X25519PrivateKey, X25519PrivateKey.from_private_bytes),
    (MLKEM768PrivateKey, MLKEM768PrivateKey.from_seed_bytes),
    (MLDSA65PrivateKey, MLDSA65PrivateKey.from_seed_bytes),
)


class Boxes(ABC):
    """The boxes of one node, or of all nodes of a process."""

    @abstractmethod
    def open(self, run: int, node: int) -> AbstractContextManager[Box]:
        """The box of a node in a run: nobody else has it open, and what is put in stays also after an error.

        Args:
            run: The run.
            node: The node.
        """


class MemoryBoxes(Boxes):
    """Boxes in this process: for runs whose nodes do not outlive it."""

    def __init__(self) -> None:
        self._boxes: dict[tuple[int, int], Box] = {}
        self._locks: dict[tuple[int, int], Lock] = {}
        self._lock = Lock()

    @contextmanager
    def open(self, run: int, node: int) -> Iterator[Box]:
        """The box of a node in a run."""
        with self._lock:
            lock = self._locks.setdefault((run, node), Lock())
        with lock:
            yield self._boxes.setdefault((run, node), {})


class FolderBoxes(Boxes):
    """Boxes as files of a folder that belongs to one node alone.

    Args:
        folder: The folder; it is made where it is missing, readable by its owner alone.

    Raises:
        StoreError: Others may write into it, so that its files cannot be trusted.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            raise StoreError(
                f"the folder of a node's keys is open to others: {folder}",
                got=oct(folder.stat().st_mode & 0o777),
                expected="0o700",
                fix=f"chmod 700 {folder}",
            )
        self._folder = folder

    @contextmanager
    def open(self, run: int, node: int) -> Iterator[Box]:
        """The box of a run; the folder is of one node, whatever number it has just now.

        Raises:
            StoreError: Its file cannot be read.
        """
        path = self._folder / f"run-{run}.box"
        with self._locked(path.with_suffix(".lock")):
            box = _load(path)
            try:
                yield box
            finally:
                _save(path, box)

    @staticmethod
    @contextmanager
    def _locked(path: Path) -> Iterator[None]:
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


class _Pickler(pickle.Pickler):
    """Private keys as the bytes that they are made from, and homomorphic contexts as their library writes them."""

    def reducer_override(self, thing: Any) -> Any:  # noqa: ANN401 - anything is pickled
        for kind, make in _KEYS:
            if isinstance(thing, kind):
                return make, (thing.private_bytes_raw(),)  # type: ignore[attr-defined]
        if type(thing).__module__.startswith("tenseal."):
            from qflsec.protocols.secagg.he.state import load_context, public_part, secret_part

            return load_context, ((secret_part if thing.has_secret_key() else public_part)(thing),)
        return NotImplemented


def _load(path: Path) -> Box:
    try:
        held: Box = pickle.loads(path.read_bytes())  # noqa: S301 - the node's own file, closed to others
    except FileNotFoundError:
        return {}
    except (OSError, pickle.UnpicklingError, EOFError) as error:
        raise StoreError(f"the states of a run cannot be read: {path}", got=error) from None
    return held


def _save(path: Path, box: Box) -> None:
    body = io.BytesIO()
    _Pickler(body, protocol=pickle.HIGHEST_PROTOCOL).dump(box)
    new = path.with_suffix(".new")
    handle = os.open(new, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(body.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)

"""The parts of a pipeline that checks look at; an adapter makes them of what the user wrote.

Each part is handed to the checks that name its class. A part holds the user's own objects, so it never leaves the
process that runs the user's code.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from qflsec.audit.outcome import Place

if TYPE_CHECKING:
    from qflsec.models import Model

__all__ = [
    "Aggregation",
    "Cipher",
    "CircuitModel",
    "Data",
    "KeyExchange",
    "Opacus",
    "Part",
    "Prediction",
    "Release",
    "Server",
    "SourceCode",
    "SourceFile",
    "TorchModel",
    "Training",
]

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a pipeline.

    Attributes:
        name: Its name in the user's code.
        place: Where it is defined; None where that is not known.
    """

    name: str
    place: Place | None = None


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One file of the pipeline's own code; nothing of it is executed.

    Attributes:
        path: Relative to the folder that is audited.
        text: Its content.
    """

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree.

        Raises:
            SyntaxError: It is no Python.
        """
        return ast.parse(self.text, filename=self.path)

    def at(self, node: ast.AST) -> Place:
        """The place of a node of the tree."""
        return Place(file=self.path, line=getattr(node, "lineno", 0))


@dataclass(frozen=True, kw_only=True)
class SourceCode(Part):
    """The pipeline's own files: what it runs, read and not executed.

    Attributes:
        folder: The folder that is audited.
        files: Its Python files.
        others: The other files of the folder, relative to it.
    """

    folder: Path
    files: tuple[SourceFile, ...]
    others: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Data(Part):
    """Records.

    Attributes:
        clients: Features and labels of each client's training records; one client where nothing says otherwise.
        test: Features and labels that the model is evaluated on; None where there are none.

    Shapes:
        features ``(n, ...)``, labels as the user writes them: ``(n,)``, ``(n, 1)`` or one-hot ``(n, K)``.
    """

    clients: tuple[tuple[Array, Array], ...]
    test: tuple[Array, Array] | None = None

    @property
    def train(self) -> tuple[Array, Array]:
        """All training records in one; a client without records may give them in any shape."""
        features, labels = zip(
            *([one for one in self.clients if len(one[0])] or self.clients[:1]), strict=True
        )
        return np.concatenate(features), np.concatenate(labels)


Prediction = Callable[[Array], Array]
"""Outputs for features: a column for each class ``(n, K)``, the probability or score of the larger label, or labels."""


@dataclass(frozen=True, kw_only=True)
class Training(Part):
    """A function that trains a model.

    Attributes:
        train: ``train((features, labels), seed) -> predict``.
        data: The records.
    """

    train: Callable[[tuple[Array, Array], int], Prediction]
    data: Data


@dataclass(frozen=True, kw_only=True)
class TorchModel(Part):
    """A torch module with some records and a loss.

    Attributes:
        make: Makes the module, new each time.
        loss: A torch criterion.
        data: The records.
    """

    make: Callable[[], Any]
    loss: Any
    data: Data


@dataclass(frozen=True, kw_only=True)
class CircuitModel(Part):
    """A circuit as a model of records, read or run by its own library.

    Attributes:
        model: The model.
        data: The records; None where the pipeline gives none.
    """

    model: Model
    data: Data | None


@dataclass(frozen=True, kw_only=True)
class Opacus(Part):
    """A training under Opacus, before its first step.

    Attributes:
        make: Makes module, optimiser and data loader, new each time.
        loss: A torch criterion.
        data: The records of the pipeline; None where it names none.
        anew: The same after the pipeline's own files have been executed once more, as another process would make it;
            None where there is no file.
    """

    make: Callable[[], tuple[Any, Any, Any]]
    loss: Any
    data: Data | None = None
    anew: Callable[[], tuple[Any, Any, Any]] | None = None


@dataclass(frozen=True, kw_only=True)
class Release(Part):
    """What a client does to its update for differential privacy: clip, and add noise.

    Attributes:
        privatise: ``privatise(vector) -> vector``.
    """

    privatise: Callable[[Array], Array]


@dataclass(frozen=True, kw_only=True)
class Aggregation(Part):
    """The server's rule.

    Attributes:
        aggregate: ``aggregate(updates, counts) -> update``; updates ``(n, d)``.
    """

    aggregate: Callable[[Array, Sequence[int]], Array]


@dataclass(frozen=True, kw_only=True)
class Cipher(Part):
    """What a client does to its update before it is sent, and what undoes it.

    Attributes:
        encrypt: ``encrypt(vector) -> message``.
        decrypt: ``decrypt(message) -> vector``; None where there is none.
        add: Adds two messages; None where they have no ``+``.
    """

    encrypt: Callable[[Array], Any]
    decrypt: Callable[[Any], Array] | None
    add: Callable[[Any, Any], Any] | None = None


@dataclass(frozen=True, kw_only=True)
class KeyExchange(Part):
    """Something that makes a key.

    Attributes:
        exchange: Makes one: what both ends hold, and what is said of it.
    """

    exchange: Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class Server(Part):
    """Objects that the server holds.

    Attributes:
        holds: The objects, by name.
    """

    holds: Mapping[str, Any]

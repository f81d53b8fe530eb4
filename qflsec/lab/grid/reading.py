"""How the results of one kind of matrix are read: from a frame and the rows of a store, or from a document.

A frame is all that a result says of its matrix beside the rows, in JSON types. It is stored with the matrix when that
is run, so that reading needs none of the objects, plugins and data that the matrix was made of, and says what was
run although they have changed since.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from qflsec.lab.grid.results import Result
from qflsec.lab.grid.units import Row

__all__ = ["Reading"]

R = TypeVar("R", bound=Result[Any])


class Reading(ABC, Generic[R]):
    """Reads the results of one kind.

    Attributes:
        schema: What a document of its results says of itself.
    """

    schema: ClassVar[str]

    @classmethod
    @abstractmethod
    def assemble(cls, frame: Mapping[str, Any], rows: Mapping[str, Row], *, command: str = "") -> R:
        """What a store knows of a matrix.

        Args:
            frame: The matrix's frame.
            rows: The rows that count, by unit id.
            command: The command that made it.
        """

    @classmethod
    @abstractmethod
    def document(cls, result: R) -> dict[str, Any]:
        """A result as a document of JSON types; numbers that are not finite are null."""

    @classmethod
    @abstractmethod
    def read(cls, document: Mapping[str, Any]) -> R:
        """The result of a document.

        Raises:
            KeyError: A field is missing.
            TypeError: A field is another's.
        """

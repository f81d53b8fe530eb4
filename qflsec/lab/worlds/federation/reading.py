"""How the results of federation matrices are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from qflsec.lab.grid.reading import Reading
from qflsec.lab.grid.units import Row
from qflsec.lab.worlds.federation.document import SCHEMA, from_document, to_document
from qflsec.lab.worlds.federation.results import MatrixResult

__all__ = ["FederationReading"]


class FederationReading(Reading[MatrixResult]):
    """Reads them."""

    schema: ClassVar[str] = SCHEMA

    @classmethod
    def assemble(
        cls, frame: Mapping[str, Any], rows: Mapping[str, Row], *, command: str = ""
    ) -> MatrixResult:
        """What a store knows of a matrix."""
        from qflsec.lab.worlds.federation.assemble import assemble
        from qflsec.lab.worlds.federation.frame import Frame

        return assemble(Frame.from_dict(frame), rows, command=command)

    @classmethod
    def document(cls, result: MatrixResult) -> dict[str, Any]:
        """A result as a document of JSON types."""
        return to_document(result)

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> MatrixResult:
        """The result of a document."""
        return from_document(document)

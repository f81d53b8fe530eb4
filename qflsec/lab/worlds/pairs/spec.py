"""Specifications of matrices whose trials stand alone."""

from __future__ import annotations

from pydantic import BaseModel, Field

from qflsec.lab.grid.spec import STRICT, GridSpec, Name, Table

__all__ = ["HONEST", "PairAttackTable", "PairSpec"]

HONEST = "honest"
"""The label of the row without an attack, which is the first of every such matrix."""


class PairAttackTable(BaseModel):
    """A table ``[[attacks]]``.

    Attributes:
        name: The attack's registry name.
        label: Its name in the matrix; the registry name by default.
        params: The attack's own parameters.
    """

    model_config = STRICT
    name: str
    label: Name | None = None
    params: Table = Field(default_factory=dict)


class PairSpec(GridSpec):
    """A specification.

    Attributes:
        attacks: The rows below the honest one.
    """

    attacks: tuple[PairAttackTable, ...] = Field(min_length=1)

"""Specifications of session matrices: the quantum server's attacks against clients."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from qflsec.lab.grid.schema import at
from qflsec.lab.grid.spec import STRICT, Name
from qflsec.lab.worlds.delegation.clients import PadSet
from qflsec.lab.worlds.delegation.session import Device
from qflsec.lab.worlds.pairs.spec import PairSpec
from qflsec.protocols.blind import AngleGrid, BlindConfig, Line, PulsedSource, RoundCounts
from qflsec.protocols.blind.compiler import Embedding

__all__ = ["ClientTable", "SessionMatrixSpec"]


class ClientTable(BaseModel):
    """A table ``[clients.NAME]``.

    Attributes:
        embedding: ``ansatz`` or ``brickwork``.
        pads: The protocol's, or a control; see :data:`qflsec.lab.worlds.delegation.clients.PADS`.
        tests: Test rounds, if not the matrix's.
        mean_photons: Of a laser; single photons when left out.
        transmittance: Of the line that a laser's client expects.
        line: Whether the server splits the pulses.
    """

    model_config = STRICT
    embedding: Embedding = "ansatz"
    pads: PadSet = "all"
    tests: int | None = None
    mean_photons: float | None = None
    transmittance: float = 1.0
    line: Line = "split"


class SessionMatrixSpec(PairSpec):
    """A specification.

    Attributes:
        qubits: Of the circuit.
        layers: Of the circuit.
        shots: Computation rounds.
        tests: Test rounds.
        threshold: Failed tests that are accepted.
        bits: Of the grid of angles.
        depolarising: The probability with which a sent qubit is replaced by a random one.
        clients: The columns.
    """

    kind: Literal["delegation"] = "delegation"
    qubits: int = Field(2, ge=1, le=4)
    layers: int = Field(2, ge=1, le=8)
    shots: int = Field(1000, ge=1)
    tests: int = Field(1000, ge=0)
    threshold: int = Field(0, ge=0)
    bits: int = 32
    depolarising: float = 0.0
    clients: dict[Name, ClientTable] = Field(min_length=1)

    def device(self, column: str) -> Device:
        """The client of a column."""
        table = self.clients[column]
        with at(f"clients.{column}"):
            source = None
            if table.mean_photons is not None:
                source = PulsedSource(mean_photons=table.mean_photons, transmittance=table.transmittance)
            return Device(
                config=BlindConfig(grid=AngleGrid(bits=self.bits), embedding=table.embedding),
                pads=table.pads,
                source=source,
                line=table.line,
                depolarising=self.depolarising,
            )

    def counts(self, column: str) -> RoundCounts:
        """The rounds of a column, but for the colours."""
        tests = self.clients[column].tests
        return RoundCounts(
            shots=self.shots,
            tests=self.tests if tests is None else tests,
            threshold=self.threshold,
            colours=1,
        )

    def check(self) -> None:
        """Refuse clients that cannot be made.

        Raises:
            ConfigError: One cannot.
        """
        for column in self.clients:
            self.device(column)
            self.counts(column)

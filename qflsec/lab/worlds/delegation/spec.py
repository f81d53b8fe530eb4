"""Specifications of session matrices: TOML files that cross the quantum server's attacks with clients."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from qflsec.attacks.server import ServerAttack
from qflsec.base import ConfigError, numpy_stream
from qflsec.circuits import Circuit, build_circuit, expectations, pauli_z
from qflsec.lab.grid.schema import at, read
from qflsec.lab.worlds.delegation.clients import PadSet
from qflsec.lab.worlds.delegation.session import Device
from qflsec.lab.worlds.side_spec import attacks_by_label, folder_presets, read_specification
from qflsec.protocols.blind import AngleGrid, BlindConfig, Line, PulsedSource, RoundCounts
from qflsec.protocols.blind.angles import Floats
from qflsec.protocols.blind.compiler import Embedding

__all__ = [
    "HONEST",
    "ClientTable",
    "SessionMatrixSpec",
    "load_session_spec",
    "session_circuit",
    "session_inputs",
    "session_presets",
]

Table = dict[str, Any]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 .,_+-]*$", max_length=60)]
_STRICT = ConfigDict(extra="forbid", frozen=True)
HONEST = "honest"
"""The label of the honest server, which is the first row of every matrix."""
_FAR_FROM_ZERO = 0.4


def session_circuit(n_qubits: int, layers: int) -> Circuit:
    """An angle encoding, layers of RY and a chain of CZ, and Z on every wire."""
    return build_circuit(
        n_qubits=n_qubits,
        layers=layers,
        ansatz="ry-cz",
        observables=tuple(pauli_z(wire, n_qubits) for wire in range(n_qubits)),
    )


def session_inputs(circuit: Circuit, seed: int) -> tuple[Floats, Floats]:
    """Weights and features of a run, drawn again until no expectation value is near 0.

    A server that flips a result of 0 changes nothing, and nothing could be seen of it.
    """
    rng = numpy_stream(seed, "blind", "inputs")
    best: tuple[float, Floats, Floats] | None = None
    for _ in range(200):
        weights = rng.uniform(-np.pi, np.pi, circuit.n_weights)
        features = rng.uniform(0, np.pi, circuit.n_features)
        values = expectations(circuit, torch.tensor(weights), torch.tensor(features))
        least = float(values.abs().min())
        if best is None or least > best[0]:
            best = (least, weights, features)
        if least > _FAR_FROM_ZERO:
            break
    assert best is not None
    return best[1], best[2]


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

    model_config = _STRICT
    embedding: Embedding = "ansatz"
    pads: PadSet = "all"
    tests: int | None = None
    mean_photons: float | None = None
    transmittance: float = 1.0
    line: Line = "split"


class SessionAttackTable(BaseModel):
    """A table ``[[attacks]]``.

    Attributes:
        name: The attack's registry name.
        label: Its name in the matrix; the registry name by default.
        params: The attack's own parameters.
    """

    model_config = _STRICT
    name: str
    label: Name | None = None
    params: Table = {}


class SessionMatrixSpec(BaseModel):
    """A specification.

    Attributes:
        name: The matrix's name.
        description: What it is for.
        seeds: The seeds; every cell has one session for each.
        qubits: Of the circuit.
        layers: Of the circuit.
        shots: Computation rounds.
        tests: Test rounds.
        threshold: Failed tests that are accepted.
        bits: Of the grid of angles.
        depolarising: The probability with which a sent qubit is replaced by a random one.
        clients: The columns.
        attacks: The rows below that of the honest server.
    """

    model_config = _STRICT
    name: Name
    description: str = ""
    seeds: tuple[int, ...] = Field(min_length=1)
    qubits: int = Field(2, ge=1, le=4)
    layers: int = Field(2, ge=1, le=8)
    shots: int = Field(1000, ge=1)
    tests: int = Field(1000, ge=0)
    threshold: int = Field(0, ge=0)
    bits: int = 32
    depolarising: float = 0.0
    clients: dict[Name, ClientTable] = Field(min_length=1)
    attacks: tuple[SessionAttackTable, ...] = Field(min_length=1)

    def with_seeds(self, *, seeds: tuple[int, ...] | None = None, offset: int = 0) -> SessionMatrixSpec:
        """The same matrix over other seeds, each shifted by ``offset``."""
        chosen = tuple(seed + offset for seed in (self.seeds if seeds is None else seeds))
        return self.model_copy(update={"seeds": chosen})

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

    def rows(self) -> dict[str, ServerAttack | None]:
        """The attacks by label, the honest server first.

        Raises:
            ConfigError: A table cannot be used, or two labels are equal.
        """
        return attacks_by_label(
            self.attacks,
            ServerAttack,  # type: ignore[type-abstract]  # only asked for what it is a subclass of
            honest=HONEST,
            what="an attack by the quantum server",
        )


def session_presets() -> dict[str, Path]:
    """The session matrices that come with the package, by name."""
    return folder_presets("blind")


def load_session_spec(preset_or_file: str | Path) -> SessionMatrixSpec:
    """A specification by the name of a preset or the path of a file, wholly checked.

    Raises:
        ConfigError: There is none, or it cannot be used; the message says where and how to mend it.
    """

    def parse(document: dict[str, Any]) -> SessionMatrixSpec:
        spec = read(SessionMatrixSpec, document, "")
        if len(set(spec.seeds)) != len(spec.seeds):
            raise ConfigError("seeds: a seed is listed twice", got=list(spec.seeds))
        spec.rows()
        for column in spec.clients:
            spec.device(column)
            spec.counts(column)
        return spec

    return read_specification(preset_or_file, session_presets(), parse, what="matrix of sessions")

"""The calibration of a device as transfer matrices, read from Qiskit Aer's noise model of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from qflsec.base import MissingExtra
from qflsec.circuits.errors import CircuitError
from qflsec.circuits.transfer import Real

__all__ = ["DeviceTable", "GateError", "device_table", "read_noise_model"]

_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class GateError:
    """The channel after a gate: words of its qubits are scaled, and then each qubit has a channel of its own.

    Attributes:
        matrices: The channel of each qubit of the gate.
        factors: Of the words of two qubits, by the letters of the first and then of the second; None for one qubit.

    Shapes:
        matrices: ``(4, 4)`` each; factors: ``(16,)``
    """

    matrices: tuple[Real, ...]
    factors: Real | None = None


@dataclass(frozen=True, eq=False)
class DeviceTable:
    """What is known of a device.

    Attributes:
        backend: The device as Qiskit has it, for transpiling; None where only a noise model is known.
        gates: The error of a gate by its name and qubits.
        readout: Of each qubit, the matrix on its transfer vector that a measurement in Z reads.
    """

    backend: Any
    gates: Mapping[tuple[str, tuple[int, ...]], GateError]
    readout: Mapping[int, Real]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all numbers, in hexadecimal."""
        found = hashlib.sha256()
        for key in sorted(self.gates):
            error = self.gates[key]
            found.update(repr(key).encode())
            for part in (*error.matrices, *(() if error.factors is None else (error.factors,))):
                found.update((np.round(part, 12) + 0.0).tobytes())
        for qubit in sorted(self.readout):
            found.update(repr(qubit).encode() + (np.round(self.readout[qubit], 12) + 0.0).tobytes())
        return found.hexdigest()


@lru_cache(maxsize=16)
def device_table(device: str, qubits: int = 5, seed: int = 0) -> DeviceTable:
    """The calibration of a device.

    Args:
        device: As in :class:`~qflsec.circuits.devices.DeviceNoise`.
        qubits: Of the generic device.
        seed: Of its calibration.

    Raises:
        CircuitError: There is no such device, or its noise has another form.
        MissingExtra: A package is not installed.
    """
    if find_spec("qiskit_aer") is None:
        raise MissingExtra(
            "the noise of a device is read by Qiskit Aer, which is not installed",
            got="no qiskit-aer",
            fix="pip install 'qflsec[aer]'",
        )
    from qiskit_aer.noise import NoiseModel

    backend = _backend(device, qubits, seed)
    return read_noise_model(NoiseModel.from_backend(backend), backend)


def _backend(device: str, qubits: int, seed: int) -> Any:  # noqa: ANN401 - Qiskit's class
    if device == "generic":
        from qiskit.providers.fake_provider import GenericBackendV2
        from qiskit.transpiler import CouplingMap

        line = CouplingMap.from_line(qubits)
        return GenericBackendV2(qubits, coupling_map=line, seed=seed, noise_info=True)
    if find_spec("qiskit_ibm_runtime") is None:
        raise MissingExtra(
            "devices by name are those of qiskit-ibm-runtime, which is not installed",
            got=repr(device),
            fix="pip install 'qflsec[hardware]', or use device = 'generic'",
        )
    from qiskit_ibm_runtime import fake_provider

    kind = getattr(fake_provider, device, None)
    if not (isinstance(kind, type) and device.startswith("Fake")):
        raise CircuitError(
            "qiskit-ibm-runtime has no such device",
            got=repr(device),
            expected="'generic', or a name such as 'FakeManilaV2'",
        )
    return kind()


def read_noise_model(model: Any, backend: Any = None) -> DeviceTable:  # noqa: ANN401 - classes of Qiskit
    """The channels of a noise model of Qiskit Aer, by gate and qubits.

    Args:
        model: A ``qiskit_aer.noise.NoiseModel`` with errors on named qubits.
        backend: The device.

    Raises:
        CircuitError: A channel has another form than the one that calibrations give.
    """
    from qiskit.quantum_info import PTM
    from qiskit_aer.noise import QuantumError

    gates: dict[tuple[str, tuple[int, ...]], GateError] = {}
    readout: dict[int, Real] = {}
    for error in model.to_dict()["errors"]:
        places = [tuple(place) for place in error.get("gate_qubits") or ()]
        if not places:
            raise CircuitError(
                "an error without qubits", got=error["operations"], expected="errors of named qubits"
            )
        if error["type"] == "roerror":
            readout |= {place[0]: _readout(error["probabilities"]) for place in places}
            continue
        matrix = np.asarray(PTM(QuantumError.from_dict(error)).data.real, np.float64)
        for name in error["operations"]:
            gates |= {(name, place): _gate_error(matrix, f"{name} on {place}") for place in places}
    return DeviceTable(backend, gates, readout)


def _readout(probabilities: Any) -> Real:  # noqa: ANN401 - nested lists
    """What stands for Z in the outcomes: with P(0 | 0) - P(1 | 0) for |0> and P(0 | 1) - P(1 | 1) for |1>."""
    zero, one = (row[0] - row[1] for row in probabilities)
    matrix = np.zeros((4, 4))
    matrix[0, 0], matrix[3, 0], matrix[3, 3] = 1.0, (zero + one) / 2, (zero - one) / 2
    return matrix


def _gate_error(matrix: Real, where: str) -> GateError:
    """A channel taken apart.

    Aer composes depolarization of all qubits with a relaxation of each: words that are not I are scaled by one number, and
    then (R_b x R_a) acts. The entries of a word of one letter have the number once and one R, those of a word of two letters
    once and both.
    """
    if len(matrix) == 4:
        return GateError((matrix,))
    if len(matrix) != 16:
        raise CircuitError("errors on more than two qubits are not modelled", got=where)
    if np.allclose(matrix, np.diag(np.diag(matrix)), atol=_ROUNDING, rtol=0):
        factors = np.diag(matrix).reshape(4, 4).T.ravel()
        return GateError((np.eye(4), np.eye(4)), factors)
    table = matrix.reshape(4, 4, 4, 4)  # letters (b, a) after, (b, a) before; Qiskit's first qubit comes last
    both = table[3, 3, 3, 3]
    kept = (
        table[3, 0, 3, 0] * table[0, 3, 0, 3] / both if both else 0.0
    )  # below 0 for gates that are out of order
    first, second = table[0, :, 0, :].copy(), table[:, 0, :, 0].copy()
    first[:, 1:] /= kept or 1.0
    second[:, 1:] /= kept or 1.0
    factors = np.full(16, kept)
    factors[0] = 1.0
    if np.allclose(np.kron(second, first) * factors, matrix, atol=_ROUNDING, rtol=0):
        return GateError((first, second), factors)
    raise CircuitError(
        "the error of a gate on two qubits has no form that is modelled",
        got=where,
        expected="depolarization of both and relaxation of each, or errors that are Pauli words",
    )

"""Quantum channels as Kraus operators, and how other libraries' noise becomes one.

The first qubit is the most significant bit of an index, as in PennyLane; Qiskit's order is reversed on import.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from qflsec.base import MissingExtra
from qflsec.protocols.qdp.errors import QdpError

__all__ = [
    "Channel",
    "Complex",
    "from_pennylane",
    "from_qiskit",
    "from_qiskit_model",
    "identity",
    "kron",
    "unitary",
]

Complex = npt.NDArray[np.complex128]
_TOLERANCE = 1e-9
_SMALLEST = 1e-14


@dataclass(frozen=True, eq=False)
class Channel:
    """A trace-preserving channel on qubits.

    Attributes:
        kraus: Kraus operators ``(2^n, 2^n)``.

    Raises:
        QdpError: The operators are not square, differ in size, or do not preserve the trace.
    """

    kraus: tuple[Complex, ...]

    def __post_init__(self) -> None:
        """Check shapes and trace preservation."""
        operators = tuple(np.asarray(k, dtype=np.complex128) for k in self.kraus)
        object.__setattr__(self, "kraus", operators)
        shapes = {k.shape for k in operators}
        size = operators[0].shape[0] if operators else 0
        if shapes != {(size, size)} or size < 2 or size & (size - 1):
            raise QdpError(
                "bad Kraus operators", got=sorted(shapes), expected="square, of size 2^n, all alike"
            )
        total = sum(k.conj().T @ k for k in operators)
        off = float(np.abs(total - np.eye(size)).max())
        if not off < _TOLERANCE:
            raise QdpError(
                "the Kraus operators do not preserve the trace",
                got=f"sum of K^dagger K off the identity by {off:.3g}",
                fix="check the convention of the probabilities",
            )

    @property
    def dimension(self) -> int:
        """The dimension D = 2^n."""
        return int(self.kraus[0].shape[0])

    @property
    def n_qubits(self) -> int:
        """The number of qubits."""
        return self.dimension.bit_length() - 1

    @cached_property
    def _stack(self) -> Complex:
        return np.stack(self.kraus)

    def __call__(self, state: Complex) -> Complex:
        """The state after the channel.

        Shapes:
            state: ``(..., D, D)``
        """
        found: Complex = np.einsum("kab,...bc,kdc->...ad", self._stack, state, self._stack.conj())
        return found

    def adjoint(self, effect: Complex) -> Complex:
        """The effect before the channel: Tr(M N(rho)) = Tr(N^dagger(M) rho).

        Shapes:
            effect: ``(..., D, D)``
        """
        found: Complex = np.einsum("kba,...bc,kcd->...ad", self._stack.conj(), effect, self._stack)
        return found

    def then(self, other: Channel) -> Channel:
        """This channel, and after it another."""
        self._same_size(other)
        return Channel(tuple(b @ a for b in other.kraus for a in self.kraus)).reduced()

    def tensor(self, other: Channel) -> Channel:
        """This channel on the first qubits, another on those after."""
        return Channel(tuple(kron(a, b) for a in self.kraus for b in other.kraus)).reduced()

    def on(self, wires: Sequence[int], n_qubits: int) -> Channel:
        """The channel on some of several qubits.

        Raises:
            QdpError: The wires do not fit.
        """
        if (
            len(wires) != self.n_qubits
            or len(set(wires)) != len(wires)
            or not set(wires) <= set(range(n_qubits))
        ):
            raise QdpError(
                "these wires do not fit", got=f"{tuple(wires)} of {n_qubits}", expected=self.n_qubits
            )
        return Channel(tuple(_embed(k, wires, n_qubits) for k in self.kraus))

    def everywhere(self, n_qubits: int) -> Channel:
        """The one-qubit channel on each of several qubits.

        Raises:
            QdpError: The channel has more than one qubit.
        """
        if self.n_qubits != 1:
            raise QdpError("only a one-qubit channel acts on each qubit", got=f"{self.n_qubits} qubits")
        found = self
        for _ in range(n_qubits - 1):
            found = found.tensor(self)
        return found

    @cached_property
    def choi(self) -> Complex:
        """The Choi matrix: <a i| J |b j> = <a| N(|i><j|) |b>, output first."""
        size = self.dimension
        flat = np.stack([k.reshape(size * size) for k in self.kraus])
        found: Complex = flat.T @ flat.conj()
        return found

    def reduced(self) -> Channel:
        """The same channel with at most D^2 Kraus operators."""
        if len(self.kraus) <= self.dimension**2:
            return self
        values, vectors = np.linalg.eigh(self.choi)
        size = self.dimension
        kept = [
            math.sqrt(value) * vector.reshape(size, size)
            for value, vector in zip(values, vectors.T, strict=True)
            if value > _SMALLEST
        ]
        return Channel(tuple(kept))

    def _same_size(self, other: Channel) -> None:
        if other.n_qubits != self.n_qubits:
            raise QdpError("channels of different size", got=f"{self.n_qubits} and {other.n_qubits} qubits")


def kron(*factors: Complex) -> Complex:
    """The Kronecker product of matrices, the first most significant."""
    found = np.eye(1, dtype=np.complex128)
    for factor in factors:
        found = np.asarray(np.kron(found, factor), dtype=np.complex128)
    return found


def _embed(operator: Complex, wires: Sequence[int], n_qubits: int) -> Complex:
    k, size = len(wires), 2**n_qubits
    tensor = operator.reshape((2,) * (2 * k))
    state = np.eye(size, dtype=np.complex128).reshape((2,) * n_qubits + (size,))
    moved = np.tensordot(tensor, state, axes=(range(k, 2 * k), tuple(wires)))
    return np.moveaxis(moved, range(k), tuple(wires)).reshape(size, size)


def identity(n_qubits: int) -> Channel:
    """No noise."""
    return Channel((np.eye(2**n_qubits, dtype=np.complex128),))


def unitary(matrix: Complex) -> Channel:
    """A gate."""
    return Channel((matrix,))


def from_pennylane(operation: Any) -> Channel:  # noqa: ANN401 - PennyLane has no type hints
    """The channel of a PennyLane noise operation, on its own wires in their order.

    Only the matrices are read, so that PennyLane's convention is kept: its ``DepolarizingChannel(q)`` is the
    literature's p = 4 q / 3 (see :func:`~qflsec.protocols.qdp.noise.depolarizing`), and the p of its
    ``GeneralizedAmplitudeDamping`` the weight of |1>.

    Raises:
        QdpError: The operation has no Kraus matrices, or such as preserve no trace: those of PennyLane's
            ``ThermalRelaxationError`` for gates far longer than its times.
    """
    try:
        matrices = (
            operation.kraus_matrices() if hasattr(operation, "kraus_matrices") else [operation.matrix()]
        )
    except Exception as error:  # noqa: BLE001 - PennyLane raises errors of its own for undefined matrices
        raise QdpError("this operation has no Kraus matrices", got=operation, fix=str(error)) from None
    try:
        return Channel(tuple(np.asarray(m, dtype=np.complex128) for m in matrices))
    except QdpError as error:
        raise QdpError(
            f"PennyLane's matrices of this operation are no channel: {error.what}",
            got=operation,
            fix="check its parameters, or build the channel here: thermal_relaxation for long gates",
        ) from None


def from_qiskit(noise: Any) -> Channel:  # noqa: ANN401 - Qiskit's noise has several unrelated types
    """The channel of a Qiskit ``Kraus``, ``SuperOp``, ``QuantumError`` or anything that ``Kraus`` accepts.

    Raises:
        QdpError: Qiskit cannot read it as a channel.
    """
    from qiskit.exceptions import QiskitError
    from qiskit.quantum_info import Kraus

    try:
        operators = Kraus(noise).data
    except (QiskitError, TypeError) as error:
        raise QdpError("this is no channel", got=type(noise).__name__, fix=str(error)) from None
    if isinstance(operators, tuple):
        raise QdpError("a generalised Kraus pair is no channel", expected="a completely positive map")
    n = int(operators[0].shape[0]).bit_length() - 1
    order = tuple(reversed(range(n)))
    return Channel(tuple(_embed(np.asarray(k, dtype=np.complex128), order, n) for k in operators))


def from_qiskit_model(model: Any, gate: str, qubits: Sequence[int] | None = None) -> Channel:  # noqa: ANN401 - Aer's class
    """The channel that a noise model of Qiskit Aer puts after a gate; readout errors are measurements, not channels.

    Args:
        model: A ``qiskit_aer.noise.NoiseModel``.
        gate: The gate's name in Qiskit, such as ``"cx"``.
        qubits: The qubits of the gate; where the model has no error for just these, its error for all qubits.

    Raises:
        QdpError: The model has no error there.
        MissingExtra: Qiskit Aer is not installed.
    """
    try:
        from qiskit_aer.noise import QuantumError
    except ImportError:
        raise MissingExtra(
            "noise models of Qiskit Aer need a package that is not installed",
            got="no qiskit-aer",
            fix="pip install 'qflsec[aer]'",
        ) from None
    wanted = None if qubits is None else tuple(qubits)
    errors = [error for error in model.to_dict()["errors"] if error["type"] == "qerror"]
    found: dict[tuple[int, ...] | None, Any] = {}
    for error in (one for one in errors if gate in one["operations"]):
        for place in error.get("gate_qubits") or [None]:
            found[None if place is None else tuple(place)] = error
    chosen = found.get(wanted, found.get(None))
    if chosen is None:
        raise QdpError(
            f"the noise model has no error after {gate!r}",
            got=f"on {'all qubits' if wanted is None else wanted}",
            expected=sorted({name for error in errors for name in error["operations"]}),
        )
    return from_qiskit(QuantumError.from_dict(chosen))

"""The noisy kernel: a density operator as the real vector of its Pauli expectation values.

Entry Q of the vector is Tr(Q rho), the words being counted in base 4 (I, X, Y, Z), wire 0 first. A Pauli
rotation about P mixes Q with i P Q where they anticommute; every constant gate and channel is a sparse real
matrix (its Pauli transfer matrix), kept as a few gathers. Only elementwise products, sums and gathers touch
the batch, so that a row's result does not depend on the other rows, bit for bit. Axes are those of
:mod:`qflsec.circuits.kernel`. Memory is 4**n numbers for each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, reduce
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from qflsec.circuits.batch import Batch, fold
from qflsec.circuits.circuit import Angle, Circuit
from qflsec.circuits.errors import CircuitError
from qflsec.circuits.lowering import Constant, Monomial, Rotation, lower
from qflsec.circuits.noise import NoiseModel

__all__ = ["noisy_expectations", "noisy_probabilities"]

_PAULIS = {
    "I": np.eye(2, dtype=complex),
    "X": np.array([[0, 1], [1, 0]], complex),
    "Y": np.array([[0, -1j], [1j, 0]], complex),
    "Z": np.array([[1, 0], [0, -1]], complex),
}
_PRODUCTS = {  # of the letters P and Q: the letter and the phase of P Q
    (p, q): next(
        (k, phase)
        for k, phase in product(range(4), (1, 1j, -1, -1j))
        if np.allclose(_PAULIS["IXYZ"[p]] @ _PAULIS["IXYZ"[q]], phase * _PAULIS["IXYZ"[k]])
    )
    for p, q in product(range(4), repeat=2)
}
Map = tuple[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]], ...]
"""A matrix as gathers: out[Q] is the sum of coefficients[Q] * in[index[Q]]."""
Step = tuple[Angle | None, Map]
"""A matrix; or with an angle, [what is kept, what goes with cos, what goes with sin]."""


def noisy_expectations(
    circuit: Circuit,
    weights: Tensor,
    features: Tensor,
    *,
    noise: NoiseModel | None,
    dtype: torch.dtype = torch.complex64,
) -> Tensor:
    """Exact expectation values under noise, differentiable in weights and features.

    Shapes:
        weights ``(..., P)``, features ``(..., F)`` -> ``(..., K)``, real.

    Raises:
        CircuitError: A wrong shape or dtype, or an amplitude embedding.
    """
    batch, vector = _run(circuit, weights, features, noise, dtype, len(circuit.gates))
    rows = []
    for observable in circuit.observables:
        parts = [c * vector[:, _number(word)] for c, word in observable.terms]
        rows.append(reduce(torch.add, parts))
    return batch.unfold(torch.stack(rows, 1))


def noisy_probabilities(
    circuit: Circuit,
    weights: Tensor,
    features: Tensor,
    *,
    noise: NoiseModel | None,
    dtype: torch.dtype = torch.complex64,
    noisy_gates: int | None = None,
) -> Tensor:
    """The probabilities of all bit strings under noise, wire 0 being the most significant bit.

    Args:
        circuit: The circuit.
        weights: Weights.
        features: Features.
        noise: The noise; None for none.
        dtype: As in :func:`noisy_expectations`.
        noisy_gates: The gates in front that the noise model sees; the others, such as a turn into the
            basis of measurement, come after all noise. None: all.

    Shapes:
        weights ``(..., P)``, features ``(..., F)`` -> ``(..., 2**n)``, real.

    Raises:
        CircuitError: As in :func:`noisy_expectations`.
    """
    count = len(circuit.gates) if noisy_gates is None else noisy_gates
    batch, vector = _run(circuit, weights, features, noise, dtype, count)
    rows, _, samples = vector.shape
    table = vector.reshape(rows, 1, -1, samples)
    for _ in range(circuit.n_qubits):
        one, _, _, z = table.chunk(4, dim=2)
        table = torch.stack([(one + z) / 2, (one - z) / 2], dim=2).flatten(1, 2)
    return batch.unfold(table.squeeze(2))


def _run(
    circuit: Circuit,
    weights: Tensor,
    features: Tensor,
    noise: NoiseModel | None,
    dtype: torch.dtype,
    count: int,
) -> tuple[Batch, Tensor]:
    for name, tensor, size in (
        ("weights", weights, circuit.n_weights),
        ("features", features, circuit.n_features),
    ):
        if tensor.ndim < 1 or tensor.shape[-1] != size:
            raise CircuitError(
                f"{name} of the wrong shape", got=tuple(tensor.shape), expected=f"(..., {size})"
            )
    if dtype not in (torch.complex64, torch.complex128):
        raise CircuitError(
            "the kernel does not take this dtype", got=dtype, expected="complex64 or complex128"
        )
    real = dtype.to_real()
    batch, weights, features = fold(weights.to(real), features.to(real))
    start = weights.new_tensor([float(set(w) <= {0, 3}) for w in product(range(4), repeat=circuit.n_qubits)])
    vector = start.reshape(1, -1, 1)
    for angle, gathers in _steps(circuit, noise, count):
        parts = [vector[:, torch.from_numpy(i)] * weights.new_tensor(c).reshape(1, -1, 1) for i, c in gathers]
        if angle is not None:
            source = features if angle.kind == "feature" else weights
            theta = source[:, angle.index : angle.index + 1] * angle.scale + angle.offset
            if angle.kind == "weight":
                theta = batch.spread(theta)
            parts = [parts[0], parts[1] * theta.cos(), parts[2] * theta.sin()]
        vector = reduce(torch.add, parts)
    return batch, vector


def _number(word: str) -> int:
    return int("".join(str("IXYZ".index(letter)) for letter in word), 4)


@lru_cache(maxsize=256)
def _steps(circuit: Circuit, noise: NoiseModel | None, count: int) -> tuple[Step, ...]:
    n, steps = circuit.n_qubits, []
    reading = [k for k, gate in enumerate(circuit.gates) if any(a.kind == "feature" for a in gate.angles)]
    encoded = reading[-1] + 1 if reading else 0
    for k in range(len(circuit.gates) + 1):
        if noise and ((noise.where, k) in (("encoded", encoded), ("measurement", count))):
            steps += _channel(noise, range(n), n)
        if k == len(circuit.gates):
            break
        gate = circuit.gates[k]
        if gate.name == "AmplitudeEmbedding":
            raise CircuitError("the noisy kernel has no amplitude embedding", fix="encode by rotations")
        for operation in lower(gate):
            match operation:
                case Rotation(letters, angle):
                    steps.append(_rotation(dict(letters), angle, n))
                case Constant(wire, matrix):
                    steps.append((None, _transfer([np.array(matrix, complex)], (wire,), n)))
                case Monomial(wires, matrix):
                    steps.append((None, _transfer([np.array(matrix, complex)], wires, n)))
        wide = len(gate.wires) > 1
        if (
            noise
            and k < count
            and (noise.where == "every-gate" or (noise.where == "two-qubit-gates" and wide))
        ):
            steps += _channel(noise, gate.wires, n)
    return tuple(steps)


def _channel(noise: NoiseModel, wires: Sequence[int], n: int) -> list[Step]:
    if noise.kind == "global-depolarizing":
        kept = np.full(4**n, 1 - noise.p)
        kept[0] = 1.0
        return [(None, ((np.arange(4**n), kept),))]
    return [(None, _transfer(noise.kraus(), (wire,), n)) for wire in wires]


def _rotation(letters: dict[int, str], angle: Angle, n: int) -> Step:
    """Tr(Q U rho U^+) is cos Tr(Q rho) + sin Tr(i P Q rho) where P and Q anticommute, else Tr(Q rho)."""
    index, sign = np.arange(4**n), np.zeros(4**n)
    for number, word in enumerate(product(range(4), repeat=n)):
        found = [_PRODUCTS["IXYZ".index(letters.get(w, "I")), q] for w, q in enumerate(word)]
        phase = 1j * np.prod([f[1] for f in found])
        if abs(phase.real) > 0.5:
            index[number] = int("".join(str(f[0]) for f in found), 4)
            sign[number] = phase.real
    same, anti = np.arange(4**n), np.abs(sign)
    if angle.kind == "constant":
        c, s = np.cos(angle.offset), np.sin(angle.offset)
        return None, ((same, 1 - anti + anti * c), (index, sign * s))
    return angle, ((same, 1 - anti), (same, anti), (index, sign))


def _transfer(kraus: Sequence[npt.NDArray[np.complex128]], wires: Sequence[int], n: int) -> Map:
    words = [reduce(np.kron, [_PAULIS[c] for c in w]) for w in product("IXYZ", repeat=len(wires))]
    images = [sum(k @ w @ k.conj().T for k in kraus) for w in words]
    matrix = np.array([[np.trace(q @ image).real for image in images] for q in words]) / len(words[0])
    matrix[np.abs(matrix) < 1e-15] = 0.0
    place = [4 ** (n - 1 - wire) for wire in wires]
    numbers = np.arange(4**n)
    own = sum((numbers // s % 4) * 4 ** (len(wires) - 1 - j) for j, s in enumerate(place))
    rest = numbers - sum((numbers // s % 4) * s for s in place)
    gathers = []
    for rank in range(max(int(np.count_nonzero(row)) for row in matrix)):
        columns = [
            int(np.flatnonzero(r)[rank]) if np.count_nonzero(r) > rank else k for k, r in enumerate(matrix)
        ]
        values = [r[c] if np.count_nonzero(r) > rank else 0.0 for r, c in zip(matrix, columns, strict=True)]
        column = np.array(columns)[own]
        there = rest + sum((column // 4 ** (len(wires) - 1 - j) % 4) * s for j, s in enumerate(place))
        gathers.append((there, np.array(values)[own]))
    return tuple(gathers)

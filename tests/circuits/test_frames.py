from __future__ import annotations

import numpy as np
import pytest

from qflsec.circuits import Angle, Gate
from qflsec.circuits.frames import SignedPermutation, identity, monomial, pauli_word, wires_first
from qflsec.circuits.gates import CONSTANT
from qflsec.circuits.lowering import Rotation, lower

PAULI = {"X": np.array(CONSTANT["X"]), "Y": np.array(CONSTANT["Y"]), "Z": np.array(CONSTANT["Z"])}


def dense(permutation: SignedPermutation) -> np.ndarray:
    """The complex matrix of a map of real and imaginary rows."""
    size = len(permutation.index) // 2
    real = np.zeros((2 * size, 2 * size))
    real[np.arange(2 * size), permutation.index] = permutation.sign
    np.testing.assert_array_equal(real[:size, :size], real[size:, size:])  # it is complex linear
    np.testing.assert_array_equal(real[:size, size:], -real[size:, :size])
    return real[:size, :size] + 1j * real[size:, :size]


@pytest.mark.parametrize("name", ["CNOT", "CZ", "CY", "SWAP", "X", "Y", "Z", "S"])
def test_monomial_gates(name: str) -> None:
    matrix = np.array(CONSTANT[name])
    wires = (0, 1)[: int(np.log2(len(matrix)))]
    np.testing.assert_allclose(dense(monomial(matrix.tolist(), wires, len(wires))), matrix, atol=1e-15)
    if len(wires) == 2:  # on the outer wires of three, backwards
        tensor = np.einsum(
            "abcd,ef->bedafc".replace("bedafc", "beadfc"), matrix.reshape(2, 2, 2, 2), np.eye(2)
        )
        np.testing.assert_allclose(
            dense(monomial(matrix.tolist(), (2, 0), 3)), tensor.reshape(8, 8), atol=1e-15
        )


def test_pauli_words() -> None:
    word = np.kron(np.kron(PAULI["Y"], np.eye(2)), PAULI["Z"])
    np.testing.assert_allclose(dense(pauli_word({0: "Y", 2: "Z"}, 3)), word, atol=1e-15)
    np.testing.assert_allclose(dense(pauli_word({0: "Y", 2: "Z"}, 3, power=3)), -1j * word, atol=1e-15)


def test_order_of_wires() -> None:
    state = np.arange(8)
    moved = dense(wires_first((2, 0), 3)).real @ state
    np.testing.assert_array_equal(moved.reshape(2, 2, 2), state.reshape(2, 2, 2).transpose(2, 0, 1))


def test_composition_and_inverse() -> None:
    a, b = pauli_word({0: "Y"}, 2, power=1), monomial(CONSTANT["CNOT"], (1, 0), 2)
    np.testing.assert_allclose(dense(a.after(b)), dense(a) @ dense(b), atol=1e-15)
    for permutation in (a, b, a.after(b)):
        undone = permutation.inverse().after(permutation)
        assert not undone.moves
        assert not undone.flips
    assert not identity(2).moves
    assert not identity(2).flips


@pytest.mark.parametrize("name", ["CRX", "CRY", "CRZ", "ControlledPhaseShift"])
def test_controlled_rotations_are_products_of_rotations(name: str) -> None:
    angle = 0.83
    product = np.eye(4, dtype=complex)
    for operation in lower(Gate(name, (0, 1), (Angle.constant(angle),))):
        assert isinstance(operation, Rotation)
        word = dense(pauli_word(dict(operation.letters), 2))
        half = operation.angle.offset / 2
        product = (np.cos(half) * np.eye(4) - 1j * np.sin(half) * word) @ product
    expected = np.eye(4, dtype=complex)
    if name == "ControlledPhaseShift":
        expected[3, 3] = np.exp(1j * angle)
    else:
        expected[2:, 2:] = np.cos(angle / 2) * np.eye(2) - 1j * np.sin(angle / 2) * PAULI[name[2]]
    phase = product[0, 0] / expected[0, 0]
    assert abs(phase) == pytest.approx(1)
    np.testing.assert_allclose(product, phase * expected, atol=1e-14)

"""The client, who pads qubits and holds every key, and the server, who computes on what it cannot read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from qflsec.base import Secrets
from qflsec.protocols.blind.angles import Floats
from qflsec.protocols.blind.homomorphic.encrypted_keys import EvaluationKeys, KeyVault
from qflsec.protocols.blind.homomorphic.key_forms import KeyForms, Rows
from qflsec.protocols.blind.homomorphic.laboratory import clifford, measure_z, pauli, phase
from qflsec.protocols.blind.homomorphic.steps import PaddedCircuit
from qflsec.protocols.blind.qubits import Bits, Qubits
from qflsec.protocols.stages import Staged, stage

__all__ = ["PadClient", "PadServer"]


class PadClient(Staged):
    """The client of one batch of rounds.

    Args:
        rounds: The number of rounds; each has keys of its own.
        n_wires: The number of wires, n.
        angles: The angle of each gadget's phase, public ``(T, rounds)``.
        secrets: Where the keys come from.
    """

    def __init__(self, *, rounds: int, n_wires: int, angles: Floats, secrets: Secrets) -> None:
        raw = secrets.draw((2 * n_wires * rounds + 7) // 8)
        bits = np.unpackbits(np.frombuffer(raw, dtype=np.uint8))[: 2 * n_wires * rounds]
        self._keys: Bits = bits.reshape(2 * n_wires, rounds)
        self._angles = angles
        self._c = np.zeros((len(angles), rounds), dtype=np.uint8)
        self._k = np.zeros((len(angles), rounds), dtype=np.uint8)
        self._vault: KeyVault | None = None

    @stage()
    def pad(self, wires: Sequence[Qubits]) -> None:
        """X^a Z^b on every wire; the qubits may then leave."""
        n = len(wires)
        for wire, handle in enumerate(wires):
            pauli(handle, self._keys[wire], self._keys[n + wire])

    @stage("pad")
    def encrypt_keys(self) -> tuple[bytes, list[bytes]]:
        """The public parameters and the encrypted key bits, under a fresh secret key."""
        self._vault = KeyVault(len(self._keys))
        return self._vault.public(), self._vault.encrypt(self._keys)

    @stage("encrypt_keys", name="rows")
    def decrypt_rows(self, blobs: Sequence[bytes]) -> Bits:
        """The key bits that the server evaluated."""
        assert self._vault is not None
        return self._vault.decrypt(blobs, self._keys.shape[1])

    @stage("pad", name="rows")
    def own_rows(self, rows: Rows) -> Bits:
        """The same key bits for a client that follows the public circuit itself."""
        return _parity(rows, self._keys)

    @stage("rows", each="index")
    def close_gadget(self, index: int, half: Qubits, c: Bits, initial: Bits, row: Rows) -> None:
        """Undo what the pad did to one phase: turn the half if a = 1, and measure it.

        Under a = 1 the server's phase came out with the wrong sign, which twice the angle mends; the half
        carries x + a + c, whence the sign.

        Args:
            index: Which gadget.
            half: The client's half of its entangled pair.
            c: The server's outcome.
            initial: The part of a that the initial keys make.
            row: The part that the outcomes make.
        """
        a = initial ^ self._outcome_part(row)
        phase(half, 2 * self._angles[index] * a * (2.0 * c - 1.0))
        clifford("H", half)
        self._c[index], self._k[index] = c, measure_z(half)

    def _outcome_part(self, rows: Rows) -> Bits:
        return _parity(rows, np.concatenate([self._c, self._k]))

    @stage("rows", name="unpad")
    def unpad_bits(self, raw: Bits, initial: Bits, rows: Rows) -> Bits:
        """The bits behind the outcomes of padded wires, once every gadget is closed.

        Shapes:
            raw, initial: ``(wires, rounds)``; rows: ``(wires, 2 T)``
        """
        self._require("close_gadget", range(len(self._angles)))
        return raw ^ initial ^ self._outcome_part(rows)

    @stage("rows", name="unpad")
    def unpad_qubits(self, wires: Sequence[Qubits], x: Bits, z: Bits, forms: KeyForms) -> None:
        """Take the pad off qubits that came back, once every gadget is closed.

        Args:
            wires: The qubits.
            x: The parts of their a that the initial keys make.
            z: The same of their b.
            forms: The public rows.
        """
        self._require("close_gadget", range(len(self._angles)))
        a = x ^ self._outcome_part(forms.x[:, forms.outcomes])
        b = z ^ self._outcome_part(forms.z[:, forms.outcomes])
        for handle, one, other in zip(wires, a, b, strict=True):
            pauli(handle, one, other)


def _parity(rows: Rows, bits: Bits) -> Bits:
    found: Bits = (rows.astype(np.int64) @ bits.astype(np.int64) % 2).astype(np.uint8)
    return found


class PadServer(Staged):
    """The server of one batch of rounds: padded qubits, the public circuit, and encrypted key bits.

    Args:
        circuit: The public circuit.
        angles: The angle of each gadget's phase ``(T, rounds)``.
        pairs: Its source of entangled pairs.
    """

    def __init__(
        self, circuit: PaddedCircuit, angles: Floats, pairs: Callable[[], tuple[Qubits, Qubits]]
    ) -> None:
        self._circuit, self._angles, self._pairs = circuit, angles, pairs

    @stage()
    def run(self, wires: Sequence[Qubits], deliver: Callable[[int, Qubits, Bits], None]) -> list[Qubits]:
        """Run the circuit on padded qubits.

        Args:
            wires: The client's qubits.
            deliver: Sends one gadget's half and outcome to the client.

        Returns:
            The wires at the end, still padded.
        """
        held, index = list(wires), 0
        for step in self._circuit.steps:
            if step.kind != "phase":
                clifford(step.kind, *(held[wire] for wire in step.wires))
                continue
            (wire,) = step.wires
            phase(held[wire], self._angles[index])
            mine, half = self._pairs()
            clifford("CNOT", mine, held[wire])
            outcome = measure_z(held[wire])
            held[wire] = mine
            deliver(index, half, outcome)
            index += 1
        return held

    @staticmethod
    def evaluate(public: bytes, ciphertexts: Sequence[bytes], rows: Rows) -> list[bytes]:
        """The rows of the key matrix, under encryption."""
        return EvaluationKeys(public, ciphertexts).evaluate(rows)

"""The pad's key bits under BFV: the server adds them up by a public matrix and can read none.

A ciphertext holds one key bit of up to :data:`ROUNDS` rounds, a round in each slot, so that a row of the
matrix is a sum of ciphertexts and nothing else. The sum stays below the plaintext modulus; its parity is the
new key bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qflsec.base import ProtocolAbort
from qflsec.protocols.blind.errors import BlindError
from qflsec.protocols.blind.homomorphic.key_forms import Rows
from qflsec.protocols.blind.qubits import Bits
from qflsec.protocols.secagg.he.parameters import bfv_parameters

__all__ = ["ROUNDS", "EvaluationKeys", "KeyVault"]

ROUNDS = 4096
"""Rounds of one batch: the slots of a ciphertext."""
_PLAIN_BITS = 20
_Handle = Any
"""An object of TenSEAL, which has no type hints."""


class KeyVault:
    """The client's half: the secret key.

    Args:
        n_bits: How many key bits a round has at most, which bounds the sums.
    """

    def __init__(self, n_bits: int) -> None:
        import tenseal

        chosen = bfv_parameters(security="quantum-128", n_clients=n_bits, plain_bits=_PLAIN_BITS)
        if chosen.degree < ROUNDS or n_bits >= chosen.plain_modulus:
            raise BlindError("too many key bits for one ciphertext", got=n_bits)
        self._context: _Handle = tenseal.context(
            tenseal.SCHEME_TYPE.BFV,
            poly_modulus_degree=chosen.degree,
            plain_modulus=chosen.plain_modulus,
            coeff_mod_bit_sizes=list(chosen.sizes),
        )

    def public(self) -> bytes:
        """The parameters, for the server: it can add, and neither encrypt nor decrypt."""
        return bytes(
            self._context.serialize(
                save_public_key=False, save_secret_key=False, save_galois_keys=False, save_relin_keys=False
            )
        )

    def encrypt(self, bits: Bits) -> list[bytes]:
        """One ciphertext for each key bit.

        Shapes:
            bits: ``(n_bits, rounds)``
        """
        import tenseal

        return [bytes(tenseal.bfv_vector(self._context, row.tolist()).serialize()) for row in bits]

    def decrypt(self, blobs: Sequence[bytes], rounds: int) -> Bits:
        """The parities behind sums.

        Shapes:
            ``(len(blobs), rounds)``
        """
        sums = [_load(self._context, blob).decrypt()[:rounds] for blob in blobs]
        return (np.array(sums, dtype=np.int64).reshape(len(blobs), rounds) % 2).astype(np.uint8)


class EvaluationKeys:
    """The server's half: parameters and ciphertexts.

    Args:
        public: The client's public parameters.
        ciphertexts: The encrypted key bits.
    """

    def __init__(self, public: bytes, ciphertexts: Sequence[bytes]) -> None:
        import tenseal

        self.context: _Handle = tenseal.context_from(public)
        self._bits = [_load(self.context, blob) for blob in ciphertexts]

    def evaluate(self, rows: Rows) -> list[bytes]:
        """A ciphertext for each row: the sum of the key bits that it names.

        Shapes:
            rows: ``(R, n_bits)``, no row all zero: Clifford updates are invertible.
        """
        found = []
        for row in rows:
            chosen = [self._bits[k] for k in np.flatnonzero(row)]
            total = chosen[0]
            for other in chosen[1:]:
                total = total + other
            found.append(bytes(total.serialize()))
        return found


def _load(context: _Handle, blob: bytes) -> _Handle:
    import tenseal

    try:
        return tenseal.bfv_vector_from(context, blob)
    except (RuntimeError, ValueError) as error:
        raise ProtocolAbort("an encrypted key bit cannot be read", got=error) from None

"""Threshold BFV by OpenFHE, an optional library.

Its randomness, its parameters for a security level, and its flooding of partial decryptions are OpenFHE's own.

Source:
    Al Badawi et al.: OpenFHE, eprint 2022/915; Asharov et al., EUROCRYPT 2012, eprint 2011/613.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from qflsec.base import MissingExtra, ProtocolAbort, Secrets
from qflsec.protocols.secagg.he.parameters import Security, prime_below
from qflsec.protocols.secagg.he.threshold_scheme import KeyShare, ThresholdScheme

__all__ = ["OpenFheScheme", "load_openfhe"]

_LARGEST_RING = 16384
_LEVELS = {"classical-128": "HEStd_128_classic", "quantum-128": "HEStd_128_quantum"}


def load_openfhe() -> Any:  # noqa: ANN401 - the library has no type hints
    """The library.

    Raises:
        MissingExtra: It cannot be imported.
    """
    try:
        return importlib.import_module("openfhe")
    except ImportError as error:
        raise MissingExtra(
            "the scheme 'openfhe' of 'he-threshold' needs OpenFHE, which cannot be imported",
            got=error,
            fix="pip install 'qflsec[openfhe]' on Python 3.12 with libstdc++ of GCC 13 or later (such as Ubuntu "
            "24.04), or use scheme='rlwe'",
        ) from None


class OpenFheScheme(ThresholdScheme):
    """Threshold BFV with packed integers.

    Args:
        plain_bits: The size of the plaintext modulus, a prime.
        n_parties: The number of parties.
        security: The row of the security table.

    Raises:
        MissingExtra: OpenFHE cannot be imported.
    """

    name = "openfhe"

    def __init__(self, *, plain_bits: int, n_parties: int, security: Security) -> None:
        self._fhe = fhe = load_openfhe()
        self.modulus = prime_below(1 << plain_bits, 2 * _LARGEST_RING)
        parameters = fhe.CCParamsBFVRNS()
        parameters.SetPlaintextModulus(self.modulus)
        parameters.SetMultiplicativeDepth(0)
        parameters.SetEvalAddCount(n_parties)
        parameters.SetThresholdNumOfParties(n_parties)
        parameters.SetSecurityLevel(getattr(fhe.SecurityLevel, _LEVELS[security]))
        self._context = fhe.GenCryptoContext(parameters)
        for feature in ("PKE", "KEYSWITCH", "LEVELEDSHE", "MULTIPARTY"):
            self._context.Enable(getattr(fhe.PKESchemeFeature, feature))
        self.slots = int(self._context.GetRingDimension())

    def new_share(self, secrets: Secrets, previous: bytes) -> tuple[KeyShare, bytes]:
        """A share, and the public key of all parties so far."""
        if previous:
            known = self._load(self._fhe.DeserializePublicKeyString, previous)
            pair = self._context.MultipartyKeyGen(known)
        else:
            pair = self._context.KeyGen()
        return pair.secretKey, self._save(pair.publicKey)

    def encrypt(self, public: bytes, integers: npt.NDArray[np.int64], secrets: Secrets) -> list[bytes]:
        """Ciphertexts of integers."""
        key = self._load(self._fhe.DeserializePublicKeyString, public)
        found = []
        for start in range(0, len(integers), self.slots):
            packed = self._context.MakePackedPlaintext(integers[start : start + self.slots].tolist())
            found.append(self._save(self._context.Encrypt(key, packed)))
        return found

    def check(self, ciphertext: bytes) -> None:
        """Refuse what the library cannot read."""
        self._ciphertext(ciphertext)

    def add(self, one: bytes, other: bytes) -> bytes:
        """A ciphertext of the sum."""
        return self._save(self._context.EvalAdd(self._ciphertext(one), self._ciphertext(other)))

    def partial(self, share: KeyShare, ciphertext: bytes, secrets: Secrets, *, lead: bool) -> bytes:
        """One party's part, flooded by the library."""
        decrypt = self._context.MultipartyDecryptLead if lead else self._context.MultipartyDecryptMain
        return self._save(decrypt([self._ciphertext(ciphertext)], share)[0])

    def fuse(self, ciphertext: bytes, partials: Sequence[bytes]) -> npt.NDArray[np.int64]:
        """The integers."""
        try:
            plain = self._context.MultipartyDecryptFusion([self._ciphertext(part) for part in partials])
        except (RuntimeError, TypeError) as error:
            raise ProtocolAbort("a threshold decryption failed", got=error) from None
        plain.SetLength(self.slots)
        return np.array(plain.GetPackedValue(), dtype=np.int64)

    def _ciphertext(self, blob: bytes) -> Any:  # noqa: ANN401 - an object of the library
        return self._load(self._fhe.DeserializeCiphertextString, blob)

    def _load(self, read: Callable[..., Any], blob: bytes) -> Any:  # noqa: ANN401 - an object of the library
        try:
            return read(blob, self._fhe.BINARY)
        except (RuntimeError, TypeError, ValueError) as error:
            raise ProtocolAbort("a threshold message cannot be read", got=error) from None

    def _save(self, thing: Any) -> bytes:  # noqa: ANN401 - an object of the library
        return bytes(self._fhe.Serialize(thing, self._fhe.BINARY))

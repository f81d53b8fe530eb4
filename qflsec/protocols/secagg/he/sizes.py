"""The sizes of what homomorphic layers send, at most."""

from __future__ import annotations

from dataclasses import dataclass

from qflsec.base.framing import entries_bytes
from qflsec.protocols.secagg.he.envelope import envelope_bytes
from qflsec.protocols.secagg.rounds.records import box_bytes
from qflsec.threat import Traffic, Workload

__all__ = ["HeSizes"]

_WORD_BYTES = 8
_AROUND_BYTES = 512
"""What TenSEAL writes besides the polynomials: sizes, parameters, a hash, and names of encodings."""


@dataclass(frozen=True, kw_only=True)
class HeSizes:
    """The messages of layers whose clients share one key.

    TenSEAL compresses what it writes. Residues modulo a prime of ``b`` bits are uniform, so that it cannot come much
    below ``b / 64`` of a polynomial of 64-bit words; the bound is the polynomial itself.

    Attributes:
        degree: The degree of the ring.
        per_ciphertext: How many numbers one ciphertext holds.
        ciphertext_bytes: Of the key exchange that hands out the shared key.
    """

    degree: int
    per_ciphertext: int
    ciphertext_bytes: int

    def sealed(self, n_values: int) -> int:
        """Ciphertexts of so many numbers in an envelope: two polynomials each, for one prime."""
        each = 2 * _WORD_BYTES * self.degree + _AROUND_BYTES
        return envelope_bytes(*[each] * -(-n_values // self.per_ciphertext))

    @property
    def _key(self) -> int:
        """The shared key, sealed for one client: three polynomials for the two primes, with the public key."""
        shared = 6 * _WORD_BYTES * self.degree + _AROUND_BYTES
        return envelope_bytes(self.ciphertext_bytes + box_bytes(0) + shared)

    def keys(self, load: Workload, *, pairs: bool = False) -> Traffic:
        """What is said before the first round: the key from the first client to all others.

        Args:
            load: What a run has to carry.
            pairs: Whether every two clients exchange a mask key as well.
        """
        others = load.n_clients - 1
        handed = Traffic().then(
            up={"shared key": envelope_bytes(_AROUND_BYTES, *[self._key] * others)},
            down={"shared key": self._key},
        )
        if not pairs:
            return handed
        offers = entries_bytes(others, envelope_bytes(self.ciphertext_bytes))
        return handed.then(up={"mask keys": offers}, down={"mask keys": offers})

    def traffic(self, load: Workload, *, pairs: bool = False) -> Traffic:
        """A run in which clients read the sum: the first model, then every aggregate, the last one too.

        Args:
            load: As for :meth:`keys`.
            pairs: As for :meth:`keys`.
        """
        n_bytes = self.sealed(load.n_params + 1)
        each = Traffic().then(up={"update": n_bytes}, down={"aggregate": n_bytes})
        keys = self.keys(load, pairs=pairs)
        model = Traffic().then(down={"model": load.model_bytes})
        return Traffic(
            up=keys.up + load.rounds * each.up,
            down=model.down + keys.down + load.rounds * each.down,
        )

    def released(self, load: Workload) -> Traffic:
        """A run in which the first client opens every sum for the server."""
        n_bytes = self.sealed(load.n_params + 1)
        each = Traffic().then(
            down={"model": load.model_bytes, "sum": n_bytes},
            up={"update": n_bytes, "released sum": envelope_bytes(_WORD_BYTES * (load.n_params + 1))},
        )
        return Traffic.of_rounds(load.rounds, each=each, setup=self.keys(load))

"""The sizes of the messages of secure aggregation, at most: whoever drops out makes them smaller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from qflsec.base.framing import entries_bytes, indices_bytes
from qflsec.protocols.secagg.messages import HEAD_BYTES
from qflsec.protocols.secagg.rounds.pairing import PairAgreement, Scheme, scheme
from qflsec.protocols.secagg.rounds.records import (
    COMMITMENT_BYTES,
    HASHES_BYTES,
    REVEALED_BYTES,
    STATEMENT_BYTES,
    TAG_BYTES,
    box_bytes,
)
from qflsec.protocols.secagg.rounds.terms import TERMS_BYTES
from qflsec.protocols.secagg.signatures import SIGNATURE_BYTES, SignatureScheme
from qflsec.threat import Traffic

__all__ = ["RoundSizes"]


@dataclass(frozen=True, kw_only=True)
class RoundSizes:
    """One round of the protocol.

    Attributes:
        n: How many clients mask with each other.
        threshold: How many of them must remain.
        vector_bytes: The size of a vector.
        scheme: The key agreement.
        signature_bytes: The size of a signature.
    """

    n: int
    threshold: int
    vector_bytes: int
    scheme: Scheme
    signature_bytes: int

    @classmethod
    def under(
        cls,
        agreement: PairAgreement,
        signature: SignatureScheme,
        n: int,
        threshold: int,
        vector_bytes: int,
    ) -> Self:
        """The sizes under a key agreement and signatures of these names."""
        return cls(
            n=n,
            threshold=threshold,
            vector_bytes=vector_bytes,
            scheme=scheme(agreement),
            signature_bytes=SIGNATURE_BYTES[signature],
        )

    @property
    def _advertised(self) -> int:
        keys = self.scheme.mask_bytes + self.scheme.channel_bytes
        return HEAD_BYTES + HASHES_BYTES + keys + self.signature_bytes

    def _labels(self) -> tuple[int, int]:
        """How many secrets the lowest client shares, and how many all but the highest do together."""
        if self.scheme.shares_private_key:
            return 2, 2 * (self.n - 1)
        # whoever chooses seeds shares those with higher clients, and its own mask
        return self.n, self.n * (self.n + 1) // 2 - 1

    def _parcels(self, n_shares: int) -> int:
        """Parcels to, or from, all other clients, with so many shares in all of them and what binds to each."""
        signed = HEAD_BYTES + self.signature_bytes if self.scheme.signs_parcels else 0
        outside = self.scheme.token_bytes + box_bytes(0) + signed
        each = COMMITMENT_BYTES + box_bytes(1) - box_bytes(0)
        return entries_bytes(self.n - 1, outside) + n_shares * each

    @property
    def _revealed(self) -> int:
        """How many shares a client opens: those of a mask for each survivor, and of what hides the rest."""
        if self.scheme.shares_private_key:
            return self.n
        return max(a + a * (self.n - a) for a in range(min(self.threshold, self.n), self.n + 1))

    @property
    def masked(self) -> int:
        """A masked vector in its message."""
        return HEAD_BYTES + self.vector_bytes + self.signature_bytes

    def traffic(self, *, model: int, update: int | None = None) -> Traffic:
        """The round on one link, with the model before it.

        Args:
            model: The size of a model.
            update: The size of what carries the masked vector; the vector's message alone by default.

        Units:
            bytes
        """
        most, all_others = self._labels()
        # what binds it to its secrets, and to the shares that it keeps
        bound = 2 * COMMITMENT_BYTES * most
        shared = 2 + bound + self._parcels(most * (self.n - 1))
        return Traffic().then(
            down={
                "model": model,
                "terms": HEAD_BYTES + TERMS_BYTES + indices_bytes(self.n) + self.signature_bytes,
                "roster": HEAD_BYTES + entries_bytes(self.n, self._advertised),
                "parcels": HEAD_BYTES + self._parcels(all_others),
                "survivors": HEAD_BYTES + indices_bytes(self.n) + indices_bytes(0) + self.signature_bytes,
                "statements": HEAD_BYTES + entries_bytes(self.n - 1, STATEMENT_BYTES + TAG_BYTES),
            },
            up={
                "keys": self._advertised,
                "parcels": HEAD_BYTES + shared + self.signature_bytes,
                "update": self.masked if update is None else update,
                "statement": HEAD_BYTES
                + STATEMENT_BYTES
                + entries_bytes(self.n - 1, TAG_BYTES)
                + self.signature_bytes,
                "opened shares": HEAD_BYTES + REVEALED_BYTES * self._revealed + self.signature_bytes,
            },
        )

"""Ledger rows of threshold aggregation, for each observer."""

from __future__ import annotations

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.base import Assumption

__all__ = ["threshold_rows"]

_SEEN = "not hidden: who takes part, who drops out, sizes, times and public keys"


def threshold_rows(
    layer: str, context: LedgerContext, *, scheme: str, security: str, smudging_bits: int | None
) -> tuple[LedgerRow, ...]:
    """What threshold encryption hides from one observer.

    Args:
        layer: The layer's name.
        context: The observer and the run.
        scheme: The scheme.
        security: The row of the security table.
        smudging_bits: The statistical bits of a part of a decryption; None where the library decides.
    """
    if not context.honest or not (context.sees_updates or context.sees_aggregates):
        return ()
    released = "the weighted mean of each round and its weight"
    if context.sees_updates:
        return (
            LedgerRow(
                observer=context.observer,
                layer=layer,
                guarantee="not covered",
                statement="reads a single honest client's update by subtracting what it knows from the sum",
                assumption="none",
                released=released,
            ),
        )
    assumption: Assumption = "none" if context.seeded_secrets else "computational"
    seeded = "seeded keys protect nothing outside the lab; " if context.seeded_secrets else ""
    k = context.smallest_k
    anonymity = LedgerRow(
        observer=context.observer,
        layer=layer,
        guarantee="anonymity",
        statement=f"a round's sum mixes {k} or more honest clients whose shares this observer does not know",
        assumption=assumption,
        trusted=f"{k} or more honest clients in each round, who do not collude with this observer",
        released=released,
        note=f"{seeded}each further client that colludes takes one off",
    )
    if not (context.server or context.wire):
        return (anonymity,)
    drowned = (
        "flooding by the library"
        if smudging_bits is None
        else (f"parts of decryptions within 2^-{smudging_bits} of what the sum tells, for each coefficient")
    )
    teaching = "a scheme for teaching, not reviewed; " if scheme == "rlwe" else ""
    secrecy = LedgerRow(
        observer=context.observer,
        layer=layer,
        guarantee="secrecy",
        statement="hears ciphertexts and all parts of the decryption of their sum, and reads the sum but no single "
        "honest client's update or weight, whoever else colludes",
        assumption=assumption,
        trusted="one honest client; all parties to follow the protocol: a server that asks for the decryption of one "
        "client's ciphertext gets it",
        released=released,
        mechanism=f"ring learning with errors, {security} row of the homomorphic encryption standard ({scheme}); "
        f"{drowned}",
        note=f"{seeded}{teaching}the sum itself leaks; {_SEEN}",
    )
    return (secrecy, anonymity)

"""Ledger rows of threshold aggregation, for each observer."""

from __future__ import annotations

from qflsec.accounting import LedgerContext, LedgerRow, RowWriter, sum_rows
from qflsec.accounting.rows import SEEN_OF_MESSAGES, joined

__all__ = ["threshold_rows"]


def threshold_rows(
    layer: str, context: LedgerContext, *, scheme: str, security: str, smudging_bits: int | None
) -> tuple[LedgerRow, ...]:
    """What threshold encryption hides from one observer.

    Args:
        layer: The layer's name.
        context: The observer and the training.
        scheme: The scheme.
        security: The row of the security table.
        smudging_bits: The statistical bits of a part of a decryption; None where the library decides.
    """
    drowned = "flooding by the library"
    if smudging_bits is not None:
        drowned = (
            f"parts of decryptions within 2^-{smudging_bits} of what the sum tells, for each coefficient"
        )
    return sum_rows(
        RowWriter.of(layer, context),
        context,
        sealed="hears ciphertexts and all parts of the decryption of their sum, and reads the sum but no single honest "
        "client's update or weight",
        opened_note="",
        released="the weighted mean of each round and its weight",
        trusted="two or more honest clients in each round; all parties to follow the protocol: a server that asks for "
        "the decryption of one client's ciphertext gets it",
        mechanism=f"ring learning with errors, {security} row of the homomorphic encryption standard ({scheme}); "
        f"{drowned}",
        note=joined(
            "a scheme for teaching, not reviewed" if scheme == "rlwe" else "",
            "the sum itself leaks",
            SEEN_OF_MESSAGES,
            "public keys are seen",
        ),
    )

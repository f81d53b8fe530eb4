"""Ledger rows of link encryption, for each observer."""

from __future__ import annotations

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.base import Assumption

__all__ = ["link_rows"]


def link_rows(layer: str, context: LedgerContext) -> tuple[LedgerRow, ...]:
    """What encrypted links hide from one observer: from the network everything but its outside.

    Args:
        layer: The layer's name.
        context: The observer and the run.
    """
    if context.server:
        return (
            LedgerRow(
                observer=context.observer,
                layer=layer,
                guarantee="not covered",
                statement="the server is an end of every link: links hide nothing from it",
                assumption="none",
            ),
        )
    if not context.wire:
        return ()
    assumption: Assumption = "none" if context.seeded_secrets else "computational"
    seeded = "seeded keys protect nothing outside the lab; " if context.seeded_secrets else ""
    trusted = "the server, and the directory of signature keys"
    secrecy = LedgerRow(
        observer=context.observer,
        layer=layer,
        guarantee="secrecy",
        statement="reads no message on the links of honest clients",
        assumption=assumption,
        trusted=trusted,
        released="sizes, times and who takes part; signed public keys; the final model where it is published",
        note=f"{seeded}nothing is hidden from the server or from the receiver of a message; whoever records "
        "today reads after breaking X25519 with a quantum computer",
    )
    integrity = LedgerRow(
        observer=context.observer,
        layer=layer,
        guarantee="integrity",
        statement="cannot alter, repeat, reorder, insert or drop a message on the links of honest clients "
        "without stopping the run",
        assumption=assumption,
        trusted=trusted,
        note=f"{seeded}the last message of a direction can be dropped unnoticed by the link itself",
    )
    return (secrecy, integrity)

"""Ledger rows of link encryption, for each observer."""

from __future__ import annotations

from qflsec.accounting import LedgerContext, LedgerRow, RowWriter
from qflsec.accounting.rows import joined
from qflsec.base import Assumption
from qflsec.threat import PUBLIC, WIRE

__all__ = ["link_rows", "sealed_link_rows", "union_bound"]


def union_bound(
    *, eps_sec: float, eps_cor: float, eps_auth: float, links: int, rounds: int, blocks: int
) -> tuple[float, str]:
    """How far the keys of quantum links are from ideal ones all together, and the terms of that.

    A block of key counts once, however many keys of it are used, and whole, however few.

    Args:
        eps_sec: Secrecy of one block of key.
        eps_cor: Its correctness.
        eps_auth: Failure of the authentication of its public discussion.
        links: The number of links.
        rounds: The number of rounds.
        blocks: The blocks of a link in the run: one for each round, or fewer.
    """
    terms = f"eps_sec {eps_sec:.1e} + eps_cor {eps_cor:.1e} + eps_auth {eps_auth:.1e}"
    each = f"each of {rounds} rounds and" if blocks == rounds else f"{blocks} block of key of each of"
    return links * blocks * (
        eps_sec + eps_cor + eps_auth
    ), f"{terms} for {each} {links} links, by the union bound"


def link_rows(layer: str, context: LedgerContext) -> tuple[LedgerRow, ...]:
    """What links under exchanged keys hide from one observer: from the network everything but its outside.

    Args:
        layer: The layer's name.
        context: The observer and the training.
    """
    return sealed_link_rows(
        layer,
        context,
        trusted="the server, and the directory of signature keys",
        released="sizes, times and who takes part; signed public keys; the final model where it is published",
        note="nothing is hidden from the server or from the receiver of a message; an observer who records today "
        "reads after breaking X25519 with a quantum computer",
    )


def sealed_link_rows(
    layer: str,
    context: LedgerContext,
    *,
    assumption: Assumption = "computational",
    trusted: str,
    released: str,
    near: str = "",
    distance: float = 0.0,
    secrecy: str = "",
    integrity: str = "",
    keys: str = "",
    steps: int | None = None,
    note: str,
) -> tuple[LedgerRow, ...]:
    """What encrypted links hide from one observer.

    Args:
        layer: The layer's name.
        context: The observer and the training.
        assumption: What the links rest on.
        trusted: Who is trusted.
        released: What the network shows.
        near: How far the keys are from ideal ones, in words; nothing where they are ideal.
        distance: The same as a statistical distance.
        secrecy: What seals, in words.
        integrity: What authenticates, in words.
        keys: Where the keys come from.
        steps: The number of keys.
        note: What links do not hide.
    """
    writer = RowWriter.of(layer, context)
    if context.observer.threat.server:
        return (writer.not_covered("the server is an end of every link: links hide nothing from it"),)
    if not context.observer.threat.wire:
        return ()
    return (
        writer.guarantee(
            "secrecy",
            joined("reads no message on the links of honest clients", near),
            assumption=assumption,
            trusted=trusted,
            released=released,
            mechanism=secrecy,
            steps=steps,
            note=joined(keys, note),
            # a client in the coalition holds models, which depend on everybody's records
            sealed="messages" if context.observer.threat.corrupted <= {WIRE, PUBLIC} else "",
            distance=distance,
        ),
        writer.guarantee(
            "integrity",
            "cannot alter, repeat, reorder, insert or drop a message on the links of honest clients without stopping "
            "the run",
            assumption=assumption,
            trusted=trusted,
            mechanism=integrity,
            note=joined(keys, "the last message of a direction can be dropped unnoticed by the link itself"),
        ),
    )

"""Ledger rows of links under QKD keys, for each observer.

The epsilons of the quantum links compose by the union bound over blocks of key (see :mod:`qflsec.protocols.epsilons`): every
round of every link may use a block of its own, and keys that would make it more are refused. They stand
beside the epsilons of differential privacy and are never added to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qflsec.accounting import LedgerContext, LedgerRow, RowWriter
from qflsec.base import Assumption, QflsecError
from qflsec.protocols.bb84.authentication import forgery_bound
from qflsec.protocols.links.ledger import sealed_link_rows, union_bound
from qflsec.protocols.links.qkd import QkdLink
from qflsec.protocols.links.sources import blocks_of
from qflsec.threat.codec import ENCODING_BYTES

__all__ = ["choice_rows", "pad_rows", "qkd_rows"]

_LARGEST_HEADER = 256


def qkd_rows(
    link: QkdLink, context: LedgerContext, *, assumption: Assumption, secrecy: str, integrity: str
) -> tuple[LedgerRow, ...]:
    """What links under QKD keys hide from one observer.

    Args:
        link: The layer.
        context: The observer and the training.
        assumption: What encryption under these keys rests on.
        secrecy: What encrypts, in words.
        integrity: What authenticates, in words.
    """
    links, rounds = len(context.honest), context.training.rounds
    blocks = blocks_of(link.source, rounds=rounds)
    total, terms = union_bound(
        eps_sec=link.eps_sec, eps_cor=link.eps_cor, eps_auth=link.eps_auth, links=links, rounds=rounds, blocks=blocks
    )  # fmt: skip
    if total >= 1.0 and context.observer.threat.wire and not context.observer.threat.server:
        said = f"nothing is claimed of the keys: their epsilons add up to {total:.2g} ({terms})"
        return (RowWriter.of(link.card.name, context).not_covered(said),)
    return sealed_link_rows(
        link.card.name,
        context,
        assumption=assumption,
        trusted="the server; the devices at both ends of the quantum links; the keys shared beforehand for their "
        "authentication",
        released="sizes, times, who takes part and the identifiers of keys; the final model where it is published",
        distance=total,
        near=f"the keys are within {total:.1e} of ideal ones ({blocks * link.eps_round:.1e} for each link)",
        secrecy=f"{secrecy}; {terms}",
        integrity=integrity,
        keys=link.says_of_keys,
        steps=rounds * links,
        note="QKD protects the link and hides nothing from the server; its epsilon is not one of differential "
        "privacy, and neither is added to the other",
    )


def pad_rows(link: QkdLink, context: LedgerContext) -> tuple[LedgerRow, ...]:
    """One-time pads: no computing power helps."""
    traffic = context.traffic.get(link)
    if traffic is None:
        raise QflsecError(f"the context of {link.card.name!r} does not say what the link carried")
    sizes = traffic.of("up") + traffic.of("down")
    n_tags = len(sizes) * len(context.honest)
    eps_tags = n_tags * forgery_bound(link.sealed_bytes(max(sizes) + ENCODING_BYTES) + _LARGEST_HEADER)
    return qkd_rows(
        link,
        context,
        assumption="information-theoretic",
        secrecy="a one-time pad, whatever the computing power",
        integrity=f"one-time tags: at most {eps_tags:.1e} for {n_tags} messages, and the epsilon of the keys",
    )


def choice_rows(layer: str, said: str, rows: Sequence[LedgerRow]) -> tuple[LedgerRow, ...]:
    """The rows of the link that a policy chose, under the policy's name and with its reason."""
    return tuple(
        replace(row, layer=layer)
        if row.guarantee == "not covered"
        else replace(row, layer=layer, statement=f"{row.statement}; the policy chose {said}")
        for row in rows
    )

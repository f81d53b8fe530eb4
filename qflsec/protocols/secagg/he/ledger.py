"""Ledger rows of homomorphic aggregation, for each observer."""

from __future__ import annotations

import math
from dataclasses import replace

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.base import Assumption
from qflsec.protocols.secagg.he.guard import Estimate, Flooding, Guard
from qflsec.protocols.secagg.ledger import LATER

__all__ = ["he_masked_rows", "he_rows", "released_rows"]

_SEEN = "not hidden: who takes part, who drops out, sizes and times"


def he_rows(layer: str, context: LedgerContext, *, security: str, agreement: str) -> tuple[LedgerRow, ...]:
    """What homomorphic encryption under a key that all clients share hides from one observer.

    Args:
        layer: The layer's name.
        context: The observer and the run.
        security: The row of the security table.
        agreement: How the secret key travelled to the clients.
    """
    if not context.honest:
        return ()
    listens = context.server or context.wire
    if context.corrupted and (listens or context.sees_updates):
        statement = "holds the key that all clients share and hears ciphertexts: opens every client's update"
        if not listens:
            statement = "reads a single honest client's update by subtracting what it knows from the sum"
        return (
            LedgerRow(
                observer=context.observer,
                layer=layer,
                guarantee="not covered",
                statement=statement,
                assumption="none",
            ),
        )
    if context.corrupted:
        return (
            LedgerRow(
                observer=context.observer,
                layer=layer,
                guarantee="anonymity",
                statement=f"decrypts each round's sum, which mixes {context.smallest_k} or more honest clients",
                assumption="none" if context.seeded_secrets else "computational",
                trusted="the server, which must not hand on a single client's ciphertext, and the links",
                released="the weighted mean of each round and its weight",
                note="whoever hears another client's ciphertext besides opens it",
            ),
        )
    if not listens:
        return ()
    seeded = "seeded keys protect nothing outside the lab; " if context.seeded_secrets else ""
    return (
        LedgerRow(
            observer=context.observer,
            layer=layer,
            guarantee="secrecy",
            statement="reads no update, no sum and no model but the first and the published last one",
            assumption="none" if context.seeded_secrets else "computational",
            trusted="every client: one that colludes with this observer opens all updates",
            released="ciphertexts; the first model, and the final model where it is published",
            mechanism=f"ring learning with errors, {security} row of the homomorphic encryption standard; the key "
            f"travelled under {agreement}",
            note=f"{seeded}not hidden: who takes part, who drops out, sizes and times; {LATER[agreement]}",
        ),
    )


def released_rows(
    layer: str,
    context: LedgerContext,
    *,
    security: str,
    agreement: str,
    guard: Guard,
    flooding: Flooding | None,
    estimate: Estimate,
) -> tuple[LedgerRow, ...]:
    """What homomorphic encryption hides from one observer where one client releases the sums to the server.

    Args:
        layer: The layer's name.
        context: The observer and the run.
        security: The row of the security table.
        agreement: How the secret key travelled to the clients.
        guard: What is done to released sums.
        flooding: Its parameters, for Gaussian flooding.
        estimate: How the noise that it drowns was bounded.
    """
    if context.corrupted or not (context.server or context.wire):
        return he_rows(layer, context, security=security, agreement=agreement)
    if not context.honest:
        return ()
    released = "the sum of each round, opened and guarded by the first client"
    if flooding is None:
        return (_unproved(layer, context, guard=guard, released=released),)
    assumption: Assumption = "none" if context.seeded_secrets else "computational"
    seeded = "seeded keys protect nothing outside the lab; " if context.seeded_secrets else ""
    secrecy = LedgerRow(
        observer=context.observer,
        layer=layer,
        guarantee="secrecy",
        statement=f"reads up to {flooding.releases} guarded sums, and nothing else of the key or of single updates "
        f"to {flooding.bits} bits of statistical security",
        assumption=assumption,
        trusted="every client: one that colludes with this observer opens all updates; the server, which must ask "
        "for the sum over all clients and not for one client's ciphertext",
        released=released,
        mechanism=f"ring learning with errors, {security} row of the homomorphic encryption standard; the key "
        f"travelled under {agreement}; discrete Gaussian flooding of standard deviation {flooding.sigma:.3g} over "
        f"an error of {flooding.bound:.3g} ({estimate} bound), Kullback-Leibler divergence of all releases at most "
        f"{flooding.divergence:.2g}, so a statistical distance of at most {math.sqrt(flooding.divergence / 2):.2g}: "
        "bits count the square of an advantage",
        steps=flooding.releases,
        note=f"{seeded}the flooding is no differential privacy of the data, and the sum itself leaks; {_SEEN}; "
        f"{LATER[agreement]}",
    )
    return (secrecy, _anonymity(layer, context, assumption, released))


def _anonymity(layer: str, context: LedgerContext, assumption: Assumption, released: str) -> LedgerRow:
    return LedgerRow(
        observer=context.observer,
        layer=layer,
        guarantee="anonymity",
        statement=f"a round's sum mixes {context.smallest_k} or more honest clients",
        assumption=assumption,
        trusted="every client, since each could open all updates for this observer",
        released=released,
    )


def _unproved(layer: str, context: LedgerContext, *, guard: Guard, released: str) -> LedgerRow:
    """The row of a guard that nothing is proved of."""
    if guard == "none":
        statement = (
            "holds ciphertexts and their exact decryptions: the secret key follows, and with it every update"
        )
    else:
        statement = (
            f"{guard} is heuristic: it blocks the known attack on the key, and nothing is claimed of it"
        )
    return LedgerRow(
        observer=context.observer,
        layer=layer,
        guarantee="not covered",
        statement=statement,
        assumption="none" if guard == "none" else "heuristic",
        released=released,
        note=f"Li and Micciancio 2021; {_SEEN}",
    )


def he_masked_rows(
    layer: str, context: LedgerContext, *, security: str, agreement: str
) -> tuple[LedgerRow, ...]:
    """What masks inside the plaintext hide from one observer, beyond what the encryption does.

    Args:
        layer: The layer's name.
        context: The observer and the run.
        security: The row of the security table.
        agreement: How the secret key and the mask keys travelled to the clients.
    """
    if not context.honest:
        return ()
    listens = context.server or context.wire
    if not context.corrupted:
        rows = he_rows(layer, context, security=security, agreement=agreement)
        trusted = "clients not to show this observer a decrypted sum; one that colludes opens the sum, and no update"
        return tuple(replace(row, trusted=trusted) for row in rows)
    if context.sees_updates:
        return (
            LedgerRow(
                observer=context.observer,
                layer=layer,
                guarantee="not covered",
                statement="reads a single honest client's update by subtracting what it knows from the sum",
                assumption="none",
            ),
        )
    assumption: Assumption = "none" if context.seeded_secrets else "computational"
    k = context.smallest_k
    seeded = "seeded keys protect nothing outside the lab; " if context.seeded_secrets else ""
    anonymity = LedgerRow(
        observer=context.observer,
        layer=layer,
        guarantee="anonymity",
        statement=f"decrypts each round's sum, which mixes {k} or more honest clients whose shares it does not know",
        assumption=assumption,
        trusted=f"{k} or more honest clients in each round, who do not collude with this observer",
        released="the weighted mean of each round and its weight",
        note=f"{seeded}each further client that colludes takes one off; {_SEEN}",
    )
    if not listens:
        return (anonymity,)
    secrecy = LedgerRow(
        observer=context.observer,
        layer=layer,
        guarantee="secrecy",
        statement="holds the key that all clients share and opens every ciphertext to masked integers, but reads no "
        "single honest client's update or weight",
        assumption=assumption,
        trusted=f"{k} or more honest clients in each round; the directory of signature keys",
        released="ciphertexts, masked integers, and the weighted mean of each round",
        mechanism=f"masks of ChaCha20, uniform modulo the plaintext modulus, under keys exchanged by {agreement}",
        note=f"{seeded}{_SEEN}; {LATER[agreement]}",
    )
    return (secrecy, anonymity)

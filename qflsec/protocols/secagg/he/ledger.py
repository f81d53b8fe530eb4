"""Ledger rows of homomorphic aggregation, for each observer."""

from __future__ import annotations

import math
from dataclasses import replace

from qflsec.accounting import LedgerContext, LedgerRow, RowWriter, sum_rows
from qflsec.accounting.rows import OPENED, SEEN_OF_MESSAGES, joined, no_collusion
from qflsec.protocols.secagg.he.guard import Estimate, Flooding, Guard
from qflsec.protocols.secagg.ledger import DIFFERENT_MODELS, LATER

__all__ = ["he_masked_rows", "he_rows", "released_rows", "threshold_rows"]

_ALONE = "it can bring a sum to one client's update, by handing on that client's ciphertext alone or by dropping all others"
_MEAN = "the weighted mean of each round and its weight"


def he_rows(
    layer: str, context: LedgerContext, *, security: str, agreement: str, alone: bool = True
) -> tuple[LedgerRow, ...]:
    """What homomorphic encryption under a key that all clients share hides from one observer.

    Args:
        layer: The layer's name.
        context: The observer and the training.
        security: The row of the security table.
        agreement: How the secret key travelled to the clients.
        alone: Whether clients would open a sum of one client.
    """
    writer, observer = RowWriter.of(layer, context), context.observer
    if not context.honest or not (observer.listens or (observer.clients and observer.smallest_k)):
        return ()
    if observer.clients and observer.listens:
        said = "holds the key that all clients share and hears ciphertexts: opens every client's update"
        return (writer.not_covered(said),)
    if observer.reads_updates:
        return (writer.not_covered(OPENED),)
    if observer.clients:
        return (
            writer.anonymity(
                observer.smallest_k,
                trusted="the server, which must not hand on a single client's ciphertext, and the links",
                released=_MEAN,
                note="decrypts each sum, and any other client's ciphertext that it comes to hear",
            ),
        )
    if observer.interferes and alone:
        return (writer.not_covered(f"it deviates: {_ALONE}, which the published final model then shows"),)
    return (
        writer.guarantee(
            "secrecy",
            "reads no update, no sum of a round, and no model but the first and the published last one; their difference "
            "is what the whole run added up",
            trusted="every client: one that colludes with this observer opens all updates",
            released="ciphertexts; the first model, and the final model where it is published",
            mechanism=f"{_lattice(security)}; the key travelled under {agreement}",
            note=f"{SEEN_OF_MESSAGES}; {LATER[agreement]}",
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
        context: The observer and the training.
        security: The row of the security table.
        agreement: How the secret key travelled to the clients.
        guard: What is done to released sums.
        flooding: Its parameters, for Gaussian flooding.
        estimate: How the noise that it drowns was bounded.
    """
    if context.observer.clients or not context.observer.listens or not context.honest:
        return he_rows(layer, context, security=security, agreement=agreement)
    writer = RowWriter.of(layer, context)
    released = "the sum of each round, opened and guarded by the first client"
    if flooding is None:
        row = writer.not_covered(
            "holds ciphertexts and their exact decryptions: the secret key follows, and with it every update"
            if guard == "none"
            else f"{guard} is heuristic: it blocks the known attack on the key, and nothing is claimed of it",
            released=released,
            note=f"Li and Micciancio 2021; {SEEN_OF_MESSAGES}",
        )
        return (row if guard == "none" else replace(row, assumption="heuristic"),)
    if context.observer.interferes:
        return (writer.not_covered(f"it deviates: {_ALONE}, and has it released", released=released),)
    opens = "every client: one that colludes with this observer opens all updates"
    secrecy = writer.guarantee(
        "secrecy",
        f"reads up to {flooding.releases} guarded sums, and nothing else of the key or of single updates to "
        f"{flooding.bits} bits of statistical security",
        trusted=f"{opens}; the server, which must ask for the sum over all clients and not for one client's ciphertext",
        released=released,
        mechanism=f"{_lattice(security)}; the key travelled under {agreement}; discrete Gaussian flooding of standard "
        f"deviation {flooding.sigma:.3g} over an error of {flooding.bound:.3g} ({estimate} bound), Kullback-Leibler "
        f"divergence of all releases at most {flooding.divergence:.2g}, so a statistical distance of at most "
        f"{math.sqrt(flooding.divergence / 2):.2g}: bits count the square of an advantage",
        steps=flooding.releases,
        note="the flooding is no differential privacy of the data, and the sum itself leaks; "
        f"{SEEN_OF_MESSAGES}; {LATER[agreement]}",
    )
    return (secrecy, writer.anonymity(context.observer.smallest_k, trusted=opens, released=released))


def he_masked_rows(
    layer: str, context: LedgerContext, *, security: str, agreement: str
) -> tuple[LedgerRow, ...]:
    """What masks inside the plaintext hide from one observer, beyond what the encryption does.

    Args:
        layer: The layer's name.
        context: The observer and the training.
        security: The row of the security table.
        agreement: How the secret key and the mask keys travelled to the clients.
    """
    if not context.observer.clients:
        rows = he_rows(layer, context, security=security, agreement=agreement, alone=False)
        trusted = "clients not to show this observer a decrypted sum; one that colludes opens the sum, and no update"
        return tuple(replace(row, trusted=trusted) for row in rows)
    return sum_rows(
        RowWriter.of(layer, context),
        context,
        sealed="holds the key that all clients share and opens every ciphertext to masked integers, but reads no single "
        "honest client's update",
        deviating=DIFFERENT_MODELS,
        opened_note="",
        released=_MEAN,
        trusted=f"{no_collusion(context.observer.smallest_k)}; the directory of signature keys",
        mechanism=f"masks of ChaCha20, uniform modulo the plaintext modulus, under keys exchanged by {agreement}",
        note=f"{SEEN_OF_MESSAGES}; {LATER[agreement]}",
    )


def threshold_rows(
    layer: str, context: LedgerContext, *, scheme: str, security: str, smudging_bits: int | None, slots: int
) -> tuple[LedgerRow, ...]:
    """What threshold encryption hides from one observer.

    Args:
        layer: The layer's name.
        context: The observer and the training.
        scheme: The scheme.
        security: The row of the security table.
        smudging_bits: The statistical bits of a part of a decryption; None where the library decides.
        slots: How many coefficients a ciphertext has.
    """
    drowned = "flooding by the library"
    if smudging_bits is not None:
        training = context.training
        ciphertexts = -(-(training.n_params + 1) // slots)
        coefficients = slots * ciphertexts * training.n_clients * training.rounds
        drowned = (
            f"parts of decryptions within 2^-{smudging_bits} of what the sum tells for each coefficient, and within "
            f"2^{math.log2(coefficients) - smudging_bits:.1f} for all {coefficients:,} of the run together (union bound)"
        )
    return sum_rows(
        RowWriter.of(layer, context),
        context,
        sealed="hears ciphertexts and all parts of the decryption of their sum, and reads the sum but no single honest "
        "client's update",
        opened_note="",
        released=_MEAN,
        deviating=f"{DIFFERENT_MODELS}; with one client that sends a crafted ciphertext it gets every share of the key "
        "of the session, and so every update",
        trusted="two or more honest clients in each round, who decrypt only what they added up themselves; all parties "
        "to follow the protocol: one crafted ciphertext of a client gives a server that deviates every key share of the "
        "session",
        mechanism=f"{_lattice(security)} ({scheme}); {drowned}",
        note=joined(
            "a scheme for teaching, not reviewed" if scheme == "rlwe" else "",
            "the sum itself leaks",
            SEEN_OF_MESSAGES,
            "public keys are seen",
        ),
    )


def _lattice(security: str) -> str:
    return f"ring learning with errors, {security} row of the homomorphic encryption standard"

"""Ledger rows of masked aggregation, for each observer."""

from __future__ import annotations

from dataclasses import dataclass

from qflsec.accounting import LedgerContext, LedgerRow, RowWriter, sum_rows
from qflsec.accounting.rows import clients, joined, no_collusion

__all__ = ["DIFFERENT_MODELS", "LATER", "QuantumKeys", "masked_rows", "secagg_rows"]

DIFFERENT_MODELS = (
    "it may send clients different models, such that all updates but one are known beforehand, and read the last in "
    "the sum"
)
LATER = {
    "x25519": "X25519 falls to a later quantum computer, which then opens what was recorded",
    "ml-kem-768": "holds against a later quantum computer while ML-KEM-768 does",
    "hybrid": "holds while X25519 or ML-KEM-768 does",
    "bb84": "a recorded round stays hidden from a later quantum computer while ChaCha20 does; the identifiers of "
    "keys are seen; signatures must hold during the round only",
}


@dataclass(frozen=True, kw_only=True)
class QuantumKeys:
    """The keys of quantum links between clients, as a ledger row states them.

    Attributes:
        near: How far they are from ideal ones, in words.
        distance: The same as a statistical distance.
        says: Where they come from.
    """

    near: str
    distance: float
    says: str


def masked_rows(layer: str, context: LedgerContext) -> tuple[LedgerRow, ...]:
    """What pairwise masks hide from one observer.

    Args:
        layer: The layer's name.
        context: The observer and the training.
    """
    k = context.observer.smallest_k
    return sum_rows(
        RowWriter.of(layer, context),
        context,
        sealed="hears masked vectors and reads their sum, but no single honest client's update",
        opened="reads a single honest client's update, from its keys or by subtracting what it knows from the sum",
        released="the weighted mean of each round and its weight",
        trusted=f"{no_collusion(k)}; the directory of signature keys; all parties to follow the protocol: a server that "
        "sends clients different models can single one out",
        deviating=DIFFERENT_MODELS,
        note="the sum itself leaks, masks give no differential privacy; not hidden: who takes part, when, how many "
        f"parameters there are, and numbers of records, which are taken as public; {LATER['x25519']}",
        colluders=f"with {k - 1} more, the last one's update is read",
        uniform=True,
    )


def secagg_rows(
    layer: str,
    context: LedgerContext,
    *,
    threshold: int,
    deviators: int,
    agreement: str,
    min_clients: int | None = None,
    quantum: QuantumKeys | None = None,
    grouped: bool = False,
) -> tuple[LedgerRow, ...]:
    """What secure aggregation with shared keys hides from one observer.

    Args:
        layer: The layer's name.
        context: The observer and the training.
        threshold: How many shares open a client's secret.
        deviators: How many clients may collude with a server that deviates.
        agreement: The key agreement.
        min_clients: The smallest round that a client takes part in; None where clients know who is in a round.
        quantum: Of the quantum links that the pairs' keys come from, if they do.
        grouped: Whether there is a sum for each group of clients, and not one for all.
    """
    writer, observer = RowWriter.of(layer, context), context.observer
    each = "group in each round" if grouped else "round"
    released = f"the weighted mean of each {each} over the clients that remain, and its weight"
    note = (
        "the sum itself leaks, masks give no differential privacy; not hidden: who takes part, who drops out and at "
        "which stage, sizes, times, public keys, hashes of the model, and numbers of records, which are taken as public; "
        f"{LATER[agreement]}"
    )
    if quantum:
        note += f"; {quantum.says}"
    fewer = ""
    if observer.threat.server and min_clients is not None:
        fewer = f"a server that deviates may ask as few as {clients(min_clients)} into a round"
    split = len(observer.clients) > deviators
    if split:
        collusion = "and it follows the protocol"
        further = writer.not_covered(
            f"with more than {clients(deviators, 'colluding')} could, if it deviated, show honest clients two lists of "
            "survivors, and open a single client's update",
            released=released,
            note=joined(writer.seeded, note, fewer),
        )
    else:
        collusion = f"at most {deviators} if it deviates"
        further = writer.guarantee(
            "integrity",
            "cannot give clients different models, keys or lists of survivors without a client naming another and "
            "stopping before a share is opened",
            trusted=f"at most {clients(deviators)} collude with this observer; the directory of signature keys",
            released=released,
            note="binds the server and the network; a client may still submit any vector",
        )
    opens = observer.listens and len(observer.clients) >= threshold
    why = (
        f"since {threshold} clients hold enough shares to open everybody's secrets"
        if opens
        else "by subtracting what it knows from the sum"
    )
    return sum_rows(
        writer,
        context,
        sealed=f"hears masked vectors and opened shares and reads one sum of each {each}, but no single honest "
        "client's update, whoever drops out",
        opened=f"reads a single honest client's update, {why}",
        opened_note=note,
        deviating=f"with more than {clients(deviators, 'colluding')} it shows honest clients two lists of survivors, and "
        "opens a single client's update"
        if split
        else "",
        forced=threshold - len(observer.clients),
        released=released,
        trusted=f"fewer than {clients(threshold)} collude, with those that this observer holds, {collusion}; the directory "
        "of signature keys",
        mechanism=quantum.near if quantum else "",
        note=joined(note, fewer),
        of="group" if grouped else "round",
        colluders=joined(f"{clients(threshold, 'colluding')} open everything", fewer),
        uniform=True,
        distance=quantum.distance if quantum else 0.0,
        further=(further,),
    )

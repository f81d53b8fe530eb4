"""Ledger rows of masked aggregation, for each observer."""

from __future__ import annotations

from dataclasses import dataclass

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.base import Assumption

__all__ = ["LATER", "masked_rows", "secagg_rows"]

_LIMITS = (
    "the sum itself leaks, masks give no differential privacy; not hidden: who takes part, when, and how many "
    "parameters there are; X25519 falls to a later quantum computer"
)


def masked_rows(layer: str, context: LedgerContext) -> tuple[LedgerRow, ...]:
    """What pairwise masks hide from one observer.

    Args:
        layer: The layer's name.
        context: The observer and the run.
    """
    if not context.honest or not (context.sees_updates or context.sees_aggregates):
        return ()
    assumption: Assumption = "none" if context.seeded_secrets else "computational"
    note = f"seeded keys protect nothing outside the lab; {_LIMITS}" if context.seeded_secrets else _LIMITS
    released = "the weighted mean of each round and its weight"
    if context.sees_updates:
        return (
            LedgerRow(
                observer=context.observer,
                layer=layer,
                guarantee="not covered",
                statement="reads a single honest client's update, from its keys or by subtracting what it knows "
                "from the sum: masks hide nothing from it",
                assumption="none",
                released=released,
                note=note,
            ),
        )
    k = context.smallest_k
    trusted = f"{k} or more honest clients in each round, who do not collude with this observer"
    anonymity = LedgerRow(
        observer=context.observer,
        layer=layer,
        guarantee="anonymity",
        statement=f"a round's sum mixes {k} or more honest clients whose shares this observer does not know",
        assumption=assumption,
        trusted=trusted,
        released=released,
        note=f"each further client that colludes takes one off; with {k - 1} more, the last one's update is read"
        + ("; seeded keys protect nothing outside the lab" if context.seeded_secrets else ""),
    )
    if not (context.server or context.wire):
        return (anonymity,)
    secrecy = LedgerRow(
        observer=context.observer,
        layer=layer,
        guarantee="secrecy",
        statement="hears masked vectors and reads their sum, but no single honest client's update or weight",
        assumption=assumption,
        trusted=f"{trusted}; the directory of signature keys",
        released=released,
        note=note,
    )
    return (secrecy, anonymity)


_SEEN = (
    "the sum itself leaks, masks give no differential privacy; not hidden: who takes part, who drops out and at "
    "which stage, sizes, times, public keys, and hashes of the model"
)
LATER = {
    "x25519": "X25519 falls to a later quantum computer, which then opens what was recorded",
    "ml-kem-768": "holds against a later quantum computer while ML-KEM-768 does",
    "hybrid": "holds while X25519 or ML-KEM-768 does",
    "bb84": "a recorded round stays hidden from a later quantum computer while ChaCha20 does; the identifiers of "
    "keys are seen; signatures must hold during the round only",
}


@dataclass(frozen=True, kw_only=True)
class PairKeyEpsilons:
    """How far the keys of the quantum links between clients are from ideal ones.

    Attributes:
        n_links: The number of links in a round: pairs of participants.
        rounds: The number of rounds.
        eps_sec: Secrecy of one link's key for one round.
        eps_cor: Its correctness.
        eps_auth: Failure of the authentication of its public discussion.
        says: Where the keys come from.
    """

    n_links: int
    rounds: int
    eps_sec: float
    eps_cor: float
    eps_auth: float
    says: str

    @property
    def total(self) -> float:
        """All links and rounds together, by the union bound."""
        return self.n_links * self.rounds * (self.eps_sec + self.eps_cor + self.eps_auth)

    @property
    def mechanism(self) -> str:
        """The bound as a ledger row states it."""
        return (
            f"masks of ChaCha20 under keys of quantum links, within {self.total:.1e} of ideal ones: eps_sec "
            f"{self.eps_sec:.1e} + eps_cor {self.eps_cor:.1e} + eps_auth {self.eps_auth:.1e} for each of "
            f"{self.n_links} links and {self.rounds} rounds, by the union bound; not an epsilon of differential privacy"
        )


def secagg_rows(
    layer: str,
    context: LedgerContext,
    *,
    threshold: int,
    deviators: int,
    agreement: str,
    min_clients: int | None = None,
    quantum: PairKeyEpsilons | None = None,
) -> tuple[LedgerRow, ...]:
    """What secure aggregation with shared keys hides from one observer.

    Args:
        layer: The layer's name.
        context: The observer and the run.
        threshold: How many shares open a client's secret.
        deviators: How many clients may collude with a server that deviates.
        agreement: The key agreement.
        min_clients: The smallest round that a client takes part in; None where clients know who is in a round.
        quantum: Of the quantum links that the pairs' keys come from, if they do.
    """
    if not context.honest or not (context.sees_updates or context.sees_aggregates):
        return ()
    listens = context.server or context.wire
    released = "the weighted mean of each round over the clients that remain, and its weight"
    note = f"{_SEEN}; {LATER[agreement]}" + (f"; {quantum.says}" if quantum else "")
    if context.seeded_secrets:
        note = f"seeded keys protect nothing outside the lab; {note}"
    if context.sees_updates:
        opens = listens and len(context.corrupted) >= threshold
        return (
            _opened(layer, context, threshold=threshold if opens else None, released=released, note=note),
        )
    assumption: Assumption = "none" if context.seeded_secrets else "computational"
    k = context.smallest_k
    anonymity = LedgerRow(
        observer=context.observer,
        layer=layer,
        guarantee="anonymity",
        statement=f"a round's sum mixes {k} or more honest clients whose shares this observer does not know",
        assumption=assumption,
        trusted=f"{k} or more honest clients in each round, who do not collude with this observer",
        released=released,
        note=f"each further client that colludes takes one off; {threshold} colluding clients open everything",
    )
    if not listens:
        return (anonymity,)
    split = len(context.corrupted) > deviators
    trusted = f"fewer than {threshold} clients collude with this observer, at most {deviators} if it deviates"
    if split:
        trusted = f"fewer than {threshold} clients collude with this observer, and it follows the protocol"
    trusted += "; the directory of signature keys"
    if context.server and min_clients is not None:
        note = f"{note}; a server that deviates may ask as few as {min_clients} clients into a round"
    secrecy = LedgerRow(
        observer=context.observer,
        layer=layer,
        guarantee="secrecy",
        statement="hears masked vectors and opened shares and reads one sum of each round, but no single honest "
        "client's update or weight, whoever drops out",
        assumption=assumption,
        trusted=trusted,
        released=released,
        mechanism=quantum.mechanism if quantum else "",
        note=note,
    )
    if split:
        return (
            secrecy,
            anonymity,
            _two_views(layer, context, deviators=deviators, released=released, note=note),
        )
    integrity = LedgerRow(
        observer=context.observer,
        layer=layer,
        guarantee="integrity",
        statement="cannot give clients different models, keys or lists of survivors without a client naming another "
        "and stopping before a share is opened",
        assumption=assumption,
        trusted=f"at most {deviators} clients collude with this observer; the directory of signature keys",
        released=released,
        note="binds the server and the network; a client may still submit any vector",
    )
    return (secrecy, anonymity, integrity)


def _opened(
    layer: str, context: LedgerContext, *, threshold: int | None, released: str, note: str
) -> LedgerRow:
    """The row of an observer from whom nothing is hidden, and why."""
    why = "by subtracting what it knows from the sum"
    if threshold is not None:
        why = f"since {threshold} clients hold enough shares to open everybody's secrets"
    return LedgerRow(
        observer=context.observer,
        layer=layer,
        guarantee="not covered",
        statement=f"reads a single honest client's update, {why}",
        assumption="none",
        released=released,
        note=note,
    )


def _two_views(layer: str, context: LedgerContext, *, deviators: int, released: str, note: str) -> LedgerRow:
    """The row of an observer that could show honest clients two lists of survivors."""
    return LedgerRow(
        observer=context.observer,
        layer=layer,
        guarantee="not covered",
        statement=f"with more than {deviators} colluding clients could, if it deviated, show honest clients two lists "
        "of survivors, and open a single client's update",
        assumption="none",
        released=released,
        note=note,
    )

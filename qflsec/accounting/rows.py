"""The one writer of the rows that recur: what is opened, sealed, mixed, kept whole, or covered by nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from qflsec.accounting.context import LedgerContext, Seeds
from qflsec.accounting.ledger import Guarantee, LedgerRow, Sealed
from qflsec.base import Assumption
from qflsec.threat import RunAnonymity

__all__ = [
    "GRANTED",
    "OPENED",
    "SEEN_OF_MESSAGES",
    "SIMULATED",
    "RowWriter",
    "clients",
    "joined",
    "no_collusion",
    "run_rows",
    "sum_rows",
]

OPENED = "reads a single honest client's update, by subtracting what it knows from the sum"
GRANTED = "reads every honest client's update: the threat model grants them as clients made them"
SIMULATED = "simulated guarantee: seeded noise"
_NAMED = 8
SEEN_OF_MESSAGES = "not hidden: who takes part, who drops out, sizes and times"


def joined(*parts: str) -> str:
    """Notes as one text, without those that are empty."""
    return "; ".join(part for part in parts if part)


@dataclass(frozen=True, kw_only=True)
class RowWriter:
    """Writes the rows of one layer against one observer.

    Attributes:
        observer: Against whom.
        layer: Which layer.
        seeds: Which randomness came from a seed: what rests on seeded secrets has no assumption that could hold.
        secrets: What these secrets are, in words.
    """

    observer: str
    layer: str
    seeds: Seeds = field(default_factory=Seeds)
    secrets: str = "keys"

    @classmethod
    def of(cls, layer: str, context: LedgerContext) -> RowWriter:
        """The writer of a layer's rows in this context."""
        return cls(observer=context.observer.name, layer=layer, seeds=context.seeds)

    @property
    def seeded(self) -> str:
        """The note on seeded secrets; empty where they came from the operating system."""
        return f"seeded {self.secrets} protect nothing outside the lab" if self.seeds.secrets else ""

    def not_covered(self, statement: str, *, released: str = "", note: str = "") -> LedgerRow:
        """What nothing protects."""
        return LedgerRow(
            observer=self.observer,
            layer=self.layer,
            guarantee="not covered",
            statement=statement,
            assumption="none",
            released=released,
            note=note,
        )

    def guarantee(
        self,
        kind: Guarantee,
        statement: str,
        *,
        trusted: str,
        assumption: Assumption = "computational",
        released: str = "",
        mechanism: str = "",
        steps: int | None = None,
        note: str = "",
        sealed: Sealed = "",
        distance: float = 0.0,
        mixed: int | None = None,
    ) -> LedgerRow:
        """A guarantee that rests on secrets: seeded ones leave it no assumption.

        Args:
            kind: Its kind.
            statement: The guarantee in one sentence.
            trusted: Who is trusted.
            assumption: What it rests on, beside secrets that nobody else knows.
            released: What the observer gets to see.
            mechanism: What seals, and how far it is from ideal.
            steps: The number of compositions.
            note: What a reader must not overlook.
            sealed: For secrecy, what the observer's view does not depend on.
            distance: How far the view may be from one that does not depend on it.
            mixed: For anonymity, how many honest clients every sum mixes at least.
        """
        return LedgerRow(
            observer=self.observer,
            layer=self.layer,
            guarantee=kind,
            statement=statement,
            assumption="none" if self.seeds.secrets else assumption,
            trusted=trusted,
            released=released,
            mechanism=mechanism,
            steps=steps,
            note=joined(self.seeded, note),
            sealed=sealed,
            distance=distance,
            mixed=mixed,
        )

    def anonymity(
        self,
        k: int,
        *,
        of: str = "round",
        trusted: str = "",
        assumption: Assumption = "computational",
        released: str,
        note: str = "",
    ) -> LedgerRow:
        """How many honest clients a sum mixes.

        Args:
            k: How many at least.
            of: What there is one sum of, in words.
            trusted: Who is trusted; the honest clients themselves by default.
            assumption: What it rests on, beside secrets that nobody else knows.
            released: What the observer gets to see.
            note: What a reader must not overlook.
        """
        return self.guarantee(
            "anonymity",
            f"a {of}'s sum mixes {k} or more honest clients whose shares this observer does not know",
            trusted=trusted or no_collusion(k),
            assumption=assumption,
            released=released,
            note=note,
            mixed=k,
        )


def clients(n: int, kind: str = "") -> str:
    """So many clients, in words."""
    return f"{n} {kind}{' ' if kind else ''}client{'' if n == 1 else 's'}"


def no_collusion(k: int) -> str:
    """The trust that keeps a sum of ``k`` closed."""
    return f"{k} or more honest clients in each round, who do not collude with this observer"


def sum_rows(
    writer: RowWriter,
    context: LedgerContext,
    *,
    sealed: str,
    released: str,
    trusted: str = "",
    mechanism: str = "",
    assumption: Assumption = "computational",
    note: str,
    of: str = "round",
    opened: str = OPENED,
    opened_note: str | None = None,
    deviating: str = "",
    forced: int | None = None,
    colluders: str = "",
    uniform: bool = False,
    distance: float = 0.0,
    further: Sequence[LedgerRow] = (),
) -> tuple[LedgerRow, ...]:
    """What a layer that leaves only sums hides: nothing where a single update is read, else secrecy and anonymity.

    Args:
        writer: The layer's writer.
        context: The observer and the training.
        sealed: What an observer who hears messages learns, and what it does not.
        released: What an observer gets to see.
        trusted: Who keeps the messages sealed; the honest clients by default.
        mechanism: What seals.
        assumption: What that rests on.
        note: What is seen, and what does not last.
        of: What there is one sum of, in words.
        opened: Why nothing is hidden from an observer who reads a single update.
        opened_note: What a reader must not overlook there; ``note`` by default.
        deviating: How an observer that interferes gets a single update all the same; empty where it cannot.
        forced: The fewest honest clients to which such an observer can bring a sum; None where that is not up to it.
        colluders: What more colluding clients gain, beyond that each takes one off the sum.
        uniform: Whether messages are drawn evenly from all whose sum is the same, so that only the sum depends on updates.
        distance: How far they are from that, as a statistical distance over the run.
        further: More rows against an observer who hears messages.
    """
    k = context.observer.smallest_k
    if not context.honest or k == 0:
        return ()
    if context.observer.reads_made:
        opened = GRANTED
    if context.observer.reads_updates:
        told = joined(writer.seeded, note if opened_note is None else opened_note)
        return (writer.not_covered(opened, released=released, note=told),)
    if context.observer.interferes:
        k = k if forced is None else min(k, forced)
        if k <= 1 and not deviating:
            deviating = "it can have clients dropped until the sum is that of one honest client and its own"
        if deviating:
            return (writer.not_covered(f"it deviates: {deviating}", released=released, note=note),)
    anonymity = writer.anonymity(
        k,
        of=of,
        assumption=assumption,
        released=released,
        note=joined("each further client that colludes takes one off", colluders),
    )
    if not context.observer.reads_clients:
        # a step may pass on values of one sum, and clients of several rounds are not together in one
        anonymity = writer.not_covered(
            f"reads no {of}'s sum as such, but steps of the server's rule or differences of models over several steps: "
            "how many clients are mixed in them is not counted",
            released=released,
        )
    if not context.observer.listens:
        return (anonymity,)
    secrecy = writer.guarantee(
        "secrecy",
        sealed,
        trusted=trusted or no_collusion(k),
        assumption=assumption,
        released=released,
        mechanism=mechanism,
        note=note,
        # its own clients' updates start from models that depend on everybody's records
        sealed="single updates" if uniform and not context.observer.clients else "",
        distance=distance if uniform else 0.0,
    )
    return (secrecy, anonymity, *further)


def run_rows(context: LedgerContext) -> tuple[LedgerRow, ...]:
    """How anonymous honest clients are over the run, whatever keeps single updates apart in a round.

    Args:
        context: The observer and the training.
    """
    found = context.observer.over_run
    writer = RowWriter(observer=context.observer.name, layer="view")
    if found is None or not found.clients:
        uncounted = (
            f"over the run, {context.observer.uncounted} are read and no anonymity was counted in them"
        )
        return (writer.not_covered(uncounted),) if context.observer.uncounted else ()
    held = f"the sums that it reads ({found.sums}, of rank {found.rank})"
    if found.singled_out:
        derived = [client for client in found.singled_out if client not in context.observer.read]
        said = [
            f"reads updates of {_named(sorted(context.observer.read), found)} one by one"
            * bool(context.observer.read),
            f"derives the updates of {_named(derived, found)} from {held}, as far as updates are alike from round to round"
            * bool(derived),
        ]
        return (writer.not_covered(f"over the run, {' and '.join(part for part in said if part)}"),)
    k = found.checked + 1 if found.smallest_k is None else found.smallest_k
    return (
        LedgerRow(
            observer=writer.observer,
            layer=writer.layer,
            guarantee="anonymity",
            statement=f"over the run, no combination of {held} mixes fewer than {k} honest clients",
            # a count under an idealisation proves nothing of what sums tell
            assumption="heuristic",
            trusted=f"whoever holds single updates; {no_collusion(k)}",
            note=joined(
                "counted as if a client's updates were alike in every round, the observer's best case",
                f"{context.observer.uncounted} are not counted" if context.observer.uncounted else "",
                "counted in this run: an observer that deviates may choose who is in a sum"
                if context.observer.interferes
                else "",
                ""
                if found.smallest_k
                else f"combinations of more than {found.checked} clients were not searched",
                "a count of clients bounds nothing that a sum tells of them",
            ),
        ),
    )


def _named(singled: Sequence[int], among: RunAnonymity) -> str:
    listed = ", ".join(map(str, singled[:_NAMED]))
    more = len(singled) - _NAMED
    of = f"{len(singled)} of {clients(len(among.clients), 'honest')}"
    return f"{of} ({listed}{f' and {more} more' if more > 0 else ''})"

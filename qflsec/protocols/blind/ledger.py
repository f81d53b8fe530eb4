"""What blind computation promises against the quantum server, as rows of the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from qflsec.accounting import LedgerRow, RowWriter, Seeds
from qflsec.accounting.rows import joined
from qflsec.protocols.blind.compiler import Embedding
from qflsec.protocols.blind.estimate import STATUS
from qflsec.protocols.blind.execute import RoundsResult
from qflsec.protocols.blind.soundness import harmless_rounds, soundness_error

__all__ = ["blind_rows", "composed_soundness", "open_rows"]

_LIMITS = "nothing against poisoning, backdoors, or those who receive the model"


def composed_soundness(results: Sequence[RoundsResult], *, corrupted_fraction: float) -> float:
    """The probability that any of several accepted delegations is corrupted in more than a fraction of a row.

    The sum of the single probabilities (union bound), at most 1.

    Args:
        results: The delegations, of which each had tests of its own.
        corrupted_fraction: The fraction of a row's shots that may be corrupted.
    """
    total = sum(
        times * soundness_error(counts, harmless=harmless_rounds(counts.shots, corrupted_fraction))
        for counts, times in Counter(one.counts for one in results).items()
    )
    return min(1.0, total)


def blind_rows(
    results: Sequence[RoundsResult],
    *,
    embedding: Embedding,
    corrupted_fraction: float,
    seeded: bool,
    observer: str = "quantum-server",
    note: str = "",
) -> tuple[LedgerRow, ...]:
    """The rows against the quantum server.

    Args:
        results: The delegations of a run; none for the exact executor, which earns no soundness.
        embedding: What the graph shows.
        corrupted_fraction: The fraction of a row's shots that may be corrupted.
        seeded: Whether the pads came from a seed.
        observer: Who holds the quantum server, or listens to it.
        note: What a reader of every row must not overlook.
    """
    writer = RowWriter(observer=observer, layer="blind", seeds=Seeds(secrets=seeded), secrets="pads")
    graph = "the graph and its order" if embedding == "ansatz" else "the numbers of wires and stages"
    trusted = "the client's qubit source: one qubit for each node, in the state that it was told"
    secrecy = writer.guarantee(
        "not covered" if seeded else "secrecy",
        "reads data, parameters and results, once it has the seed of the pads"
        if seeded
        else f"learns nothing of data, parameters or results, whatever it does; it sees {graph}",
        assumption="information-theoretic",
        trusted=trusted,
        released=f"{graph}, and how many rounds there were",
        note=joined(note, "the quantum channel is simulated", _LIMITS),
    )
    if not any(one.counts.tests for one in results):
        return (secrecy,)
    error = composed_soundness(results, corrupted_fraction=corrupted_fraction)
    rounds = sum(one.counts.rounds for one in results)
    tests = sum(one.counts.tests for one in results)
    said = (
        f"is accepted with probability {error:.2g} or less, over all {len(results)} delegations"
        if error < 1
        else f"may be accepted: over all {len(results)} delegations, these tests bound nothing"
    )
    integrity = writer.guarantee(
        "integrity" if error < 1 else "not covered",
        f"corrupts more than {corrupted_fraction:.3g} of the shots of some estimate and {said}",
        assumption="information-theoretic",
        trusted=trusted,
        released=f"{tests} tests among {rounds} rounds",
        steps=len(results),
        note=joined(note, STATUS),
    )
    return (secrecy, replace(integrity, bound="approximation"))


def open_rows(observer: str) -> tuple[LedgerRow, ...]:
    """The rows of delegation in the clear.

    Args:
        observer: Who holds the quantum server, or listens to it.
    """
    return (
        RowWriter(observer=observer, layer="delegated").not_covered(
            "reads every angle and outcome that clients delegate, and so data, parameters and results, from which it "
            "can compute updates before any other layer; nothing tests what the quantum server answers",
            released="graph, angles and outcomes",
        ),
    )

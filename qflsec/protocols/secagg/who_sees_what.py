"""Who sees what of one round: each observer's view, counted and in words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qflsec.protocols.secagg.one_round import RoundReport
from qflsec.threat import ThreatModel, View, coalition

__all__ = ["METADATA", "Sight", "coalitions", "sights"]

METADATA = "who takes part, who drops out and at which message, the sizes and times of all messages"
"""What the server and whoever hears the network see of every protocol without links."""


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What one observer holds of a round, beyond its own vectors.

    Attributes:
        observer: Its name.
        reads: Other clients whose single vectors it reads.
        sums: Sums that it reads: over how many clients, and over how many honest ones whose vectors it does not know.
        closed: Vectors that it holds in a form which it cannot open, by that form.
        metadata: What else is visible to it.
    """

    observer: str
    reads: tuple[int, ...]
    sums: tuple[tuple[int, int], ...]
    closed: dict[str, int]
    metadata: str

    @property
    def sentence(self) -> str:
        """In words."""
        parts = []
        if self.reads:
            plural = "s" if len(self.reads) > 1 else ""
            parts.append(f"reads the vector{plural} of {_clients(self.reads)}")
        else:
            parts.append("reads no other client's vector")
        parts += [
            f"reads the sum of {size} clients, of which {k} are unknown to it"
            for size, k in self.sums
            if k > 1
        ]
        if not any(k > 1 for _, k in self.sums) and not self.reads:
            parts.append("no sum")
        parts += [f"holds {count} {form} vectors" for form, count in sorted(self.closed.items())]
        return f"{self.observer}: {'; '.join(parts)}. Sees {self.metadata}."


def coalitions(n_clients: int, threshold: int | None) -> dict[str, ThreatModel]:
    """The observers that a round is looked at by; those with too many clients are left out.

    Args:
        n_clients: The number of clients.
        threshold: How many shares open a secret, where the protocol has such a number.
    """
    sizes = {1, n_clients - 1} | ({threshold - 1, threshold} if threshold else set())
    found = {
        "the server": coalition(server=True),
        "the network": coalition(wire=True),
        "one client": coalition(n=1),
    }
    for size in sorted(size for size in sizes if 0 < size < n_clients):
        who = "one client" if size == 1 else f"{size} clients"
        found[f"the server and {who}"] = coalition(server=True, n=size)
    return found


def sights(report: RoundReport, n_clients: int) -> tuple[Sight, ...]:
    """What every observer holds."""
    return tuple(
        _sight(name, report.transcript.seen_by(threat, 0), threat)
        for name, threat in coalitions(n_clients, report.threshold).items()
    )


def _sight(name: str, view: View, threat: ThreatModel) -> Sight:
    honest = [
        item
        for item in view.items
        if item.kind in {"update", "aggregate"} and not item.named <= frozenset(threat.clients)
    ]
    plain = [item for item in honest if item.form == "plain"]
    reads = sorted(
        {
            next(iter(item.named - frozenset(threat.clients)))
            for item in plain
            if len(item.named - frozenset(threat.clients)) == 1
        }
    )
    sums = sorted({(len(item.named), item.k) for item in plain if item.k > 1}, reverse=True)
    closed: dict[str, int] = {}
    for item in honest:
        if item.form != "plain" and not item.named <= set(reads):
            closed[item.form] = closed.get(item.form, 0) + 1
    listens = threat.server or threat.wire
    return Sight(
        observer=name,
        reads=tuple(reads),
        sums=tuple(sums[:1]),
        closed=closed,
        metadata=METADATA if listens else "its own messages, and who takes part and who drops out",
    )


def _clients(indices: Iterable[int]) -> str:
    listed = list(indices)
    if len(listed) > 4:
        return (
            f"{len(listed)} clients ({listed[0]} to {listed[-1]})"
            if _run(listed)
            else f"{len(listed)} clients"
        )
    return ", ".join(f"client {index}" for index in listed)


def _run(listed: list[int]) -> bool:
    return listed == list(range(listed[0], listed[-1] + 1))

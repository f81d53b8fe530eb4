"""Rosters: who learns which clients take part in a round.

Sampling of clients amplifies privacy only against observers to whom the roster of a round stays secret. It is
hidden from nobody who hears the clients (the server, an edge server for its own clients, the network, a quantum
server that they delegate to), and from no participant whom the protocol tells the others (masks between pairs
must). A client of a star knows of itself alone; in a ring it knows its neighbours.

What an observer sees of rosters in its own messages is :class:`KnownRosters`; a view names clients by it and by
nothing else. :meth:`Rosters.told_to` asks for more: it also counts what could be inferred. Numbers of examples are
public, so whoever reads the total weight of a round tells rosters apart by the sums of subsets, and a corrupted
client finds the total weight by the scale at which its own update stands in the step of a mean. A rule that stands
still where nobody took part shows empty rounds. Only a sum over a constant, made of nobody too, says none of this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from qflsec.threat.model import ThreatModel
from qflsec.threat.party import Party
from qflsec.threat.versions import Origin
from qflsec.threat.view import Item

__all__ = ["KnownRosters", "Rosters"]

_IN_ROUND = frozenset({"model", "update", "control"})


@dataclass(frozen=True, kw_only=True)
class KnownRosters:
    """Of whom one coalition knows whether they took part.

    Attributes:
        always: The clients of whom it knows it in every round; None stands for all.
        in_round: Further clients, by round.
        whole: The rounds of which it knows everybody.
    """

    always: frozenset[int] | None = None
    in_round: Mapping[int, frozenset[int]] = field(default_factory=dict)
    whole: frozenset[int] = frozenset()

    def names(self, origins: Iterable[Origin]) -> bool:
        """Whether it can name everybody whose updates are in these steps."""
        if self.always is None:
            return True
        return all(
            origin.round in self.whole
            or origin.candidates <= self.always | self.in_round.get(origin.round, frozenset())
            for origin in origins
        )


@dataclass(frozen=True, kw_only=True)
class Rosters:
    """What is public of the rosters of a run, and who hears more; without anything said, everybody knows all.

    Attributes:
        public: Whether everybody knows the roster of every round, as where all clients take part.
        size: How many take part in each round, where that is public; None where it is drawn too.
        hears: The clients of which a party hears in every round whether they take part.
        told: Whether participants are told who the others are.
        handed_on: Whether clients hand models to each other.
        steps_alike: Whether the server's step is the same function of the sum of the updates whoever took part, and
            nobody too: no mean, whose divisor tells.
    """

    public: bool = True
    size: int | None = None
    hears: Mapping[Party, frozenset[int]] = field(default_factory=dict)
    told: bool = False
    handed_on: bool = False
    steps_alike: bool = False

    def told_to(self, threat: ThreatModel) -> bool:
        """Whether a coalition can tell of some honest client whether it took part in some round.

        The credit of a sampled mechanism rests on the answer, so it does not depend on what happened in a run, and
        is yes where it is not known.
        """
        honest_heard = self._always(threat) - frozenset(threat.clients)
        # in a ring whoever trained last publishes the model
        of_clients = bool(threat.clients) and (self.told or not self.steps_alike)
        return self._all(threat) or bool(honest_heard) or self.handed_on or of_clients

    def known_to(self, threat: ThreatModel, seen: Iterable[Item]) -> KnownRosters:
        """What a coalition knows of rosters by the messages that it sees.

        Args:
            threat: The coalition.
            seen: Its items of messages.
        """
        if self._all(threat):
            return KnownRosters()
        whole: set[int] = set()
        partners: dict[int, set[int]] = {}
        for item in seen:
            ends = {end.index for end in (item.sender, item.receiver) if end.role == "client"}
            if item.kind in _IN_ROUND:
                partners.setdefault(item.round, set()).update(ends)
                if self.told and ends & set(threat.clients):
                    whole.add(item.round)
        return KnownRosters(
            always=self._always(threat),
            in_round={index: frozenset(ends) for index, ends in partners.items()},
            whole=frozenset(whole),
        )

    def _all(self, threat: ThreatModel) -> bool:
        return self.public or "honest-updates" in threat.knows

    def _always(self, threat: ThreatModel) -> frozenset[int]:
        heard = (self.hears.get(party, frozenset()) for party in threat.corrupted)
        return frozenset(threat.clients).union(*heard)

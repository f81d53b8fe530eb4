"""Traffic: what crosses a client's link with the server in a run, at most, as everybody can tell beforehand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["Bulk", "Direction", "Traffic", "Workload"]

Direction = Literal["up", "down"]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """How much a run has to carry, before any layer adds to it.

    Attributes:
        n_params: The numbers of an update: the parameters that clients share, and what travels behind them.
        n_clients: The number of clients.
        participants: How many take part in a round.
        rounds: The number of rounds.
        number_bytes: The size of a number of a model.
        beside: How many of an update's numbers are no parameters, such as the entries of a metric.
    """

    n_params: int
    n_clients: int
    participants: int
    rounds: int
    number_bytes: int = 4
    beside: int = 0

    @property
    def model_bytes(self) -> int:
        """The size of a model."""
        return self.number_bytes * (self.n_params - self.beside)


@dataclass(frozen=True, kw_only=True)
class Bulk:
    """One message.

    Attributes:
        phase: What it is, such as ``"update"`` or ``"key shares"``.
        n_bytes: Its size, at most.
    """

    phase: str
    n_bytes: int


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """The messages of both directions of one link, each direction in order.

    It bounds every link of a run: where clients send differently much, each message is as large as the largest.

    Attributes:
        up: From the client to the server.
        down: From the server to the client.
    """

    up: tuple[Bulk, ...] = ()
    down: tuple[Bulk, ...] = ()

    @classmethod
    def of_rounds(cls, rounds: int, *, each: Traffic, setup: Traffic | None = None) -> Traffic:
        """The same in each of so many rounds, and once, behind the first message down, a set-up."""
        once = setup or cls()
        model, rest = each.down[:1], each.down[1:]
        return cls(
            up=once.up + rounds * each.up,
            down=model + once.down + rest + (rounds - 1) * each.down,
        )

    def each_round(self, rounds: int, *, up: Mapping[str, int]) -> Traffic:
        """This, with further messages up by phase before every round's first one.

        A round begins with the first phase of which there are as many messages in every round; those of a set-up, which come
        once, follow the further messages of the first round.

        Args:
            rounds: The number of rounds.
            up: The messages of one round.
        """
        counts = Counter(bulk.phase for bulk in self.up)
        lead = next((bulk.phase for bulk in self.up if counts[bulk.phase] % rounds == 0), "")
        found, seen = list(_bulks(up)), 0
        for bulk in self.up:
            if bulk.phase == lead:
                if seen and seen % (counts[lead] // rounds) == 0:
                    found += _bulks(up)
                seen += 1
            found.append(bulk)
        return Traffic(up=tuple(found), down=self.down)

    def then(self, *, up: Mapping[str, int] | None = None, down: Mapping[str, int] | None = None) -> Traffic:
        """This, and further messages by phase."""
        return Traffic(up=self.up + _bulks(up), down=self.down + _bulks(down))

    def sized(self, size: Callable[[int], int]) -> Traffic:
        """The same messages in another size each."""
        return Traffic(
            up=tuple(Bulk(phase=b.phase, n_bytes=size(b.n_bytes)) for b in self.up),
            down=tuple(Bulk(phase=b.phase, n_bytes=size(b.n_bytes)) for b in self.down),
        )

    def of(self, direction: Direction) -> tuple[int, ...]:
        """The sizes of one direction's messages, in order.

        Units:
            bytes
        """
        return tuple(bulk.n_bytes for bulk in (self.up if direction == "up" else self.down))

    def phases(self) -> dict[tuple[Direction, str], tuple[int, int]]:
        """For each direction and phase the number of messages, and their bytes together."""
        found: dict[tuple[Direction, str], tuple[int, int]] = {}
        for direction in _DIRECTIONS:
            for bulk in self.up if direction == "up" else self.down:
                messages, n_bytes = found.get((direction, bulk.phase), (0, 0))
                found[direction, bulk.phase] = messages + 1, n_bytes + bulk.n_bytes
        return found

    @property
    def n_bytes(self) -> int:
        """Both directions together."""
        return sum(self.of("up")) + sum(self.of("down"))


_DIRECTIONS: Iterable[Direction] = ("up", "down")


def _bulks(messages: Mapping[str, int] | None) -> tuple[Bulk, ...]:
    return tuple(Bulk(phase=phase, n_bytes=size) for phase, size in (messages or {}).items())

"""What was recorded of an app: every message, and the records that torch modules saw meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from qflsec.audit.outcome import Place
from qflsec.audit.parts import Array, Part

__all__ = [
    "COUNTS",
    "SERVER",
    "Alter",
    "Batch",
    "PrivateStep",
    "Recording",
    "Seen",
    "Sent",
    "Step",
    "as_vector",
    "count_of",
    "with_count",
]

SERVER = -1
"""The place of the server among the nodes."""
COUNTS = ("num-examples", "num_examples")
"""What Flower and its older interface call the number of examples."""
_TOLERANCE = 1e-5


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One message.

    Attributes:
        round: The round of training, from 1; 0 before the first.
        kind: What is asked: ``train``, ``evaluate``, or what the app calls it.
        node: The client, from 0.
        reply: Whether the client sent it.
        arrays: Its arrays by name, in its order.
        numbers: Its metrics by name, those of configuration records too.
        words: What its configuration records say in words, or as true or false, by name.
        n_bytes: Of its records.
        failed: Why the client gave no reply; empty where it did.
    """

    round: int
    kind: str
    node: int
    reply: bool
    arrays: Mapping[str, Array] = field(default_factory=dict, repr=False)
    numbers: Mapping[str, float] = field(default_factory=dict)
    words: Mapping[str, str | bool] = field(default_factory=dict)
    n_bytes: int = 0
    failed: str = ""


Alter = Callable[[Sent], Sent]
"""What a corrupted client sends in place of a reply; it changes arrays, numbers and words, not their names."""


@dataclass(kw_only=True)
class Batch:
    """Records that a torch module was called with.

    Attributes:
        rows: The digest of each record, of its features alone.
        loss: The name of the loss that its output went into; empty where none was seen.
        trained: Whether a gradient went back through the output.
    """

    rows: tuple[bytes, ...]
    loss: str = ""
    trained: bool = False


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step of a torch optimiser.

    Attributes:
        optimizer: The name of its class.
        settings: Its learning rate, momentum and the like.
        moves_model: Whether it holds a parameter of the module that was called last.
    """

    optimizer: str
    settings: tuple[tuple[str, float], ...]
    moves_model: bool


@dataclass(frozen=True, kw_only=True)
class PrivateStep:
    """A step of an optimiser of Opacus, as it was about to move the model.

    Attributes:
        multiplier: The noise multiplier that the accountant is told.
        clip: The clip norm.
        summed: The length of the clipped sum, before the noise.
        allowed: What the clipped gradients of the batch can add up to: the sum of the smaller of length and clip norm; infinity
            where the batch came in pieces.
        records: The records of the batch; 0 where it was empty or came in pieces.
        without: Parameters that got no noise.
        squares: The sum of the squares of the noise that the others got.
        values: How many values these have.
        rate: The sampling rate that the accountant is told; None where no engine told it one.
        poisson: Whether the engine's loader draws batches by Poisson sampling; None where there is no engine.
        dataset: Records that the engine's loader draws from; 0 where there is none.
    """

    multiplier: float
    clip: float
    summed: float
    allowed: float
    records: int
    without: int
    squares: float
    values: int
    rate: float | None = None
    poisson: bool | None = None
    dataset: int = 0


@dataclass(kw_only=True)
class Seen:
    """What torch showed while one party answered one message.

    Attributes:
        batches: The calls of its module.
        steps: The steps of its optimiser.
        private: Those of them that an optimiser of Opacus made.
        told: Each epsilon that a privacy engine was asked for, with its delta.
    """

    batches: list[Batch] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    private: list[PrivateStep] = field(default_factory=list)
    told: list[tuple[float, float]] = field(default_factory=list)

    def rows(self, *, trained: bool) -> set[bytes]:
        """The records that it trained on, or only evaluated."""
        return {row for batch in self.batches if batch.trained == trained for row in batch.rows}


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording(Part):
    """An app that was run over a grid of ours.

    Attributes:
        messages: Every message, in order.
        n_nodes: Clients.
        seen: What torch showed, by round, node (``SERVER`` for the server) and kind of message.
        features: Each record that torch showed, by digest.
        labels: Its label, where a loss or a comparison with the prediction showed it.
        module: The torch module that has the arrays of the messages; None where none has.
        last: The last model where the server's strategy gave one back; empty where it did not.
        attacked: The threat models whose views are attacked, by name.
        places: Where the app trains, evaluates and aggregates.
        stopped: Why the run ended before the app did; empty where it did not.
        planned: The rounds that the app's own configuration asks for; 0 where it does not say.
        again: Runs the app again with a corrupted client: ``again(alter, rounds, fresh)``. Where not ``fresh``, the
            clients do not train again, and answer as they did.
        among: Runs the app again among another number of clients: ``among(n_nodes, rounds)``.
    """

    messages: tuple[Sent, ...]
    n_nodes: int
    seen: Mapping[tuple[int, int, str], Seen] = field(default_factory=dict)
    features: Mapping[bytes, Array] = field(default_factory=dict, repr=False)
    labels: Mapping[bytes, float] = field(default_factory=dict, repr=False)
    module: Any = None
    last: Mapping[str, Array] = field(default_factory=dict, repr=False)
    attacked: tuple[str, ...] = ()
    places: Mapping[str, Place] = field(default_factory=dict)
    stopped: str = ""
    planned: int = 0
    again: Callable[[Alter, int, bool], Recording]
    among: Callable[[int, int], Recording]

    @cached_property
    def rounds(self) -> int:
        """Rounds in which a client answered."""
        return max((sent.round for sent in self.messages if sent.kind == "train" and sent.reply), default=0)

    def replies(self, index: int, kind: str = "train") -> dict[int, Sent]:
        """What each client answered in a round, by node; those that failed are left out."""
        return {
            sent.node: sent
            for sent in self.messages
            if sent.reply and sent.round == index and sent.kind == kind and not sent.failed
        }

    def asked(self, index: int, node: int) -> Mapping[str, Array]:
        """The model that a client got in a round; empty where it got none."""
        return next(
            (s.arrays for s in self._asked if s.round == index and s.node == node and s.kind == "train"), {}
        )

    @cached_property
    def _asked(self) -> tuple[Sent, ...]:
        return tuple(sent for sent in self.messages if not sent.reply and sent.arrays)

    def model(self, index: int) -> Mapping[str, Array]:
        """The model at the start of a round, from 1; that of ``rounds + 1`` is the last. Empty where it was not shown.

        A server that asks clients to evaluate shows them the model of the round's end.
        """
        for sent in self._asked:
            if (sent.kind == "train" and sent.round == index) or (
                sent.kind == "evaluate" and sent.round == index - 1
            ):
                return sent.arrays
        return self.last if index == self.rounds + 1 else {}

    @cached_property
    def deltas(self) -> bool:
        """Whether clients send what they add to the model; else they send the model after training."""
        return self._combination == "deltas"

    @cached_property
    def averages(self) -> bool:
        """Whether the next model is a mean of what the clients sent: then the server hides nothing of it from itself."""
        return self._combination != ""

    @cached_property
    def _combination(self) -> str:
        for index in range(1, self.rounds + 1):
            before, after = as_vector(self.model(index)), as_vector(self.model(index + 1))
            replies = self.readable(index)
            if not len(after) or not replies or len(after) != len(before):
                continue
            rows = np.stack([as_vector(one.arrays) for one in replies.values()])
            counts = np.array([count_of(one) or 0.0 for one in replies.values()])
            for weights in (counts, np.ones(len(rows))):
                if not weights.sum() > 0:
                    continue
                mean = weights @ rows / weights.sum()
                scale = _TOLERANCE * (1e-12 + float(np.abs(mean).max()) + float(np.abs(before).max()))
                if np.abs(after - mean).max() <= scale:
                    return "models"
                if np.abs(after - before - mean).max() <= scale:
                    return "deltas"
        return ""

    def readable(self, index: int) -> dict[int, Sent]:
        """The replies of a round whose arrays are as those of the model: names, or their number, and shapes."""
        return {
            node: sent
            for node, sent in self.replies(index).items()
            if sent.arrays and _shapes(sent.arrays) == _shapes(self.asked(index, node))
        }

    def updates(self, index: int) -> dict[int, Mapping[str, Array]]:
        """What each client added to the model that it got, by node, under the names of the model."""
        found: dict[int, Mapping[str, Array]] = {}
        for node, sent in self.readable(index).items():
            start = self.asked(index, node)
            rows = zip(start.items(), sent.arrays.values(), strict=True)
            found[node] = {name: new if self.deltas else new - old for (name, old), new in rows}
        return found

    def trained_on(self, node: int) -> set[bytes]:
        """The records that a client trained on."""
        return self._rows(node, trained=True)

    def evaluated_on(self, node: int) -> set[bytes]:
        """The records that a client was asked to evaluate, or that the server evaluated."""
        return self._rows(node, trained=False)

    def _rows(self, node: int, *, trained: bool) -> set[bytes]:
        return {
            row
            for (_, index, kind), seen in self.seen.items()
            if index == node and (trained or kind != "train")  # accuracy on training records is no evaluation
            for row in seen.rows(trained=trained)
        }

    @property
    def nodes(self) -> range:
        """The clients."""
        return range(self.n_nodes)

    def steps(self, node: int) -> Iterator[tuple[int, Seen]]:
        """What torch showed of a client's training, by round."""
        for (index, who, kind), seen in sorted(self.seen.items(), key=lambda item: item[0][0]):
            if who == node and kind == "train":
                yield index, seen


def count_of(sent: Sent) -> float | None:
    """The number of examples that a client states; None where it states none."""
    return next((sent.numbers[name] for name in COUNTS if name in sent.numbers), None)


def with_count(sent: Sent, count: float) -> Sent:
    """The same reply with another number of examples."""
    return replace(sent, numbers={**sent.numbers, **{name: count for name in COUNTS if name in sent.numbers}})


def as_vector(arrays: Mapping[str, Array]) -> Array:
    """All arrays in one, in their order.

    Shapes:
        returns: ``(P,)``, float64
    """
    parts: Sequence[Array] = [np.asarray(value, dtype=np.float64).reshape(-1) for value in arrays.values()]
    return np.concatenate(parts) if parts else np.zeros(0)


def _shapes(arrays: Mapping[str, Array]) -> list[tuple[int, ...]]:
    return [tuple(value.shape) for value in arrays.values()]

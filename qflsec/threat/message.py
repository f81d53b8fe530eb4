"""Messages as onions: what crosses the network, layer by layer.

A message covers the same step of several runs (lanes) and several sender-receiver pairs (slots) at once.
Its layers stand innermost first. Each layer says in which form a holder has it who cannot open it, and
names the keys that, all together, take it off. A coalition that holds those keys sees the next layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from qflsec.threat.party import Party
from qflsec.threat.versions import Version

__all__ = ["Envelope", "Keys", "Message", "MessageKind", "MessageLayer", "Payload", "Slot", "payload_bytes"]

MessageKind = Literal[
    "announcement",
    "model",
    "update",
    "aggregate",  # one aggregator to the next: the weighted mean of its clients' updates
    "control",
    "final-model",
    "graph",  # client to quantum server: what is public of a delegation
    "qubits",  # client to quantum server: how many qubits a batch of rounds sends
    "delta",  # client to quantum server: a node's told angles
    "reply",  # quantum server to client: a node's outcomes
]
Payload = torch.Tensor | npt.NDArray[np.generic] | bytes
Keys = frozenset[str]


def payload_bytes(payload: Payload) -> int:
    """The size of a payload on the network.

    Units:
        bytes
    """
    if isinstance(payload, bytes):
        return len(payload)
    if isinstance(payload, torch.Tensor):
        return payload.numel() * payload.element_size()
    return int(payload.nbytes)


@dataclass(frozen=True)
class Slot:
    """One sender-receiver pair of a message."""

    sender: Party
    receiver: Party


@dataclass(frozen=True, kw_only=True)
class MessageLayer:
    """One layer of a message.

    Attributes:
        form: What this is to whoever cannot take it off: ``plain``, ``masked``, ``ciphertext``, ``sealed``.
        value: Indexable as ``value[lane][slot]``; a tensor, an array or bytes at each place.
        keys: ``keys[lane][slot]`` names the keys that together take this layer off; empty innermost.
        enough: ``enough[lane][slot]``: how many of them are enough, any of them; None where all are needed.
    """

    form: str
    value: torch.Tensor | Sequence[Sequence[Payload]]
    keys: Sequence[Sequence[Keys]]
    enough: Sequence[Sequence[int | None]] | None = None

    def opens(self, lane: int, slot: int, held: Keys) -> bool:
        """Whether whoever holds these keys can take this layer off one slot of one lane."""
        keys = self.keys[lane][slot]
        enough = None if self.enough is None else self.enough[lane][slot]
        return len(keys & held) >= (len(keys) if enough is None else min(enough, len(keys)))

    def at(self, lane: int, slot: int) -> Payload:
        """The value of one slot of one lane (a position, not a run's index)."""
        return self.value[lane][slot]


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """What a sender has prepared: layers, innermost first."""

    layers: tuple[MessageLayer, ...]

    @property
    def outer(self) -> MessageLayer:
        """The layer that crosses the network."""
        return self.layers[-1]

    @classmethod
    def plain(cls, value: torch.Tensor | Sequence[Sequence[Payload]]) -> Envelope:
        """An envelope of one layer that nothing protects.

        Args:
            value: ``value[lane][slot]``.
        """
        none: Keys = frozenset()
        return cls(
            layers=(MessageLayer(form="plain", value=value, keys=[[none] * len(row) for row in value]),)
        )

    def wrap(self, layer: MessageLayer) -> Envelope:
        """The envelope with one more layer around it."""
        return Envelope(layers=(*self.layers, layer))


@dataclass(frozen=True, kw_only=True)
class Message:
    """One entry of the transcript.

    Attributes:
        round: The round; -1 for the set-up, the number of rounds for the release.
        kind: What it carries.
        lanes: The runs that it covers; position ``p`` of every value belongs to run ``lanes[p]``.
        slots: Its sender-receiver pairs.
        layers: Innermost first.
        origin: The index of the layer that the sender itself holds; 0 where it made the plain value.
        present: ``present[lane][slot]``: whether this slot was sent in this lane.
        members: ``members[lane][slot]``: the clients whose contributions are in the innermost value.
        versions: ``versions[lane][slot]``: of a model, which one it is; of updates, the version that they started
            from; None for all else, and where they started from several.
        reports: What senders report of themselves in the last numbers of an innermost value, name by name.
    """

    round: int
    kind: MessageKind
    lanes: tuple[int, ...]
    slots: tuple[Slot, ...]
    layers: tuple[MessageLayer, ...]
    origin: int
    present: Sequence[Sequence[bool]]
    members: Sequence[Sequence[frozenset[int]]]
    versions: Sequence[Sequence[Version | None]]
    reports: tuple[str, ...] = ()

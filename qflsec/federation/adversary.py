"""Active adversaries: what corrupted parties may do inside a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from qflsec.base import UpdateError
from qflsec.federation.config import FederationConfig
from qflsec.federation.payloads import ClientPayloads
from qflsec.federation.pipeline import Pipeline
from qflsec.models import Model
from qflsec.threat import Payload, Records, Tapped, ThreatModel, View

__all__ = [
    "Adversary",
    "EdgeHands",
    "Hands",
    "Moved",
    "Sending",
    "ServerHands",
    "TrainFunction",
    "parts_of",
]

Moved = torch.Tensor | tuple[torch.Tensor, Sequence[object]]
"""A move: what is sent, alone or with the next state of each lane. States that are not returned stay as they were."""
Sending = Moved | ClientPayloads | tuple[ClientPayloads, Sequence[object]]
"""A move of clients: numbers for each, or payloads of any kind in lists."""


class TrainFunction(Protocol):
    """Local training by the pipeline's rule, from the received model."""

    def __call__(
        self, features: torch.Tensor, labels: torch.Tensor, *, model: Model | None = None
    ) -> torch.Tensor:
        """The updates of the shared parameters.

        Args:
            features: The records to train on.
            labels: Their labels.
            model: What is trained in place of the shared model, such as one with a tampered circuit; it has
                the same parameters and features.

        Shapes:
            features: ``(lane, m, N, F)``; labels: ``(lane, m, N)``; returns: ``(lane, m, S)``
        """


@dataclass(frozen=True, kw_only=True)
class Hands:
    """What the corrupted clients hold when they must send their updates.

    The lanes are the runs of a batch that share the attack and the threat model.

    Attributes:
        round: The round.
        model: The shared model as a pure function.
        received: The model that each corrupted client trains from: what it received, with the parts of its own.
        features: Their own records, padded.
        labels: Their own labels, padded.
        mask: 1 for a record, 0 for padding.
        honest: What they would send if they followed the protocol: updates of the shared parameters.
        base: The shared parameters as each corrupted client received them: what updates are added to.
        periods: The period of each shared parameter, None where it has none; it follows from the model.
        training: How the clients train together; the pipeline is public.
        threat: Who is corrupted, and what they know.
        clients: Their indices.
        n_clients: The number of all clients.
        train: Local training on other features and labels of the same shape (mask unchanged), from the
            received model, by the pipeline's rule: returns updates. Where optimisers live over rounds, it goes on from
            the last training of the last move in which the client took part, and not from the honest one.
        views: What the coalition sees so far, a view for each lane; made when asked for.
        generators: A stream for each lane.
        states: What the adversary keeps of each lane: what :meth:`Adversary.start` made, or what its last move
            returned. They are copies; what a move does not return is gone after it.

    Shapes:
        received: ``(lane, m, P)``; features: ``(lane, m, N, F)``; labels: ``(lane, m, N)``;
        mask: ``(lane, m, N)``; honest, base: ``(lane, m, S)``, S = P unless clients keep parts of the model
    """

    round: int
    model: Model
    received: torch.Tensor
    features: torch.Tensor
    labels: torch.Tensor
    mask: torch.Tensor
    honest: torch.Tensor
    base: torch.Tensor
    periods: tuple[float | None, ...]
    training: FederationConfig
    threat: ThreatModel
    clients: tuple[int, ...]
    n_clients: int
    train: TrainFunction
    views: Callable[[], Sequence[View]]
    generators: Sequence[torch.Generator]
    states: Sequence[Any] = ()


@dataclass(frozen=True, kw_only=True)
class ServerHands:
    """What a corrupted server holds when it must send the model.

    Attributes:
        round: The round.
        model: The shared model as a pure function.
        params: The true global model.
        n_clients: The number of clients.
        views: What the coalition sees so far, a view for each lane; made when asked for.
        generators: A stream for each lane.
        states: What the adversary keeps of each lane, as in :class:`Hands`.
        asked: The records about which the adversary will be asked, for each lane; None where it does not know them.

    Shapes:
        params: ``(lane, P)``
    """

    round: int
    model: Model
    params: torch.Tensor
    n_clients: int
    views: Callable[[], Sequence[View]]
    generators: Sequence[torch.Generator]
    states: Sequence[Any] = ()
    asked: Sequence[Records | None] = ()


@dataclass(frozen=True, kw_only=True)
class EdgeHands:
    """What a corrupted edge server holds when it must go on from the updates of its own clients.

    Attributes:
        round: The round.
        edge: Which edge server it is.
        step: What it would make of them if it followed the protocol: the mean that it sends on, or the step that its own
            model makes.
        views: What the coalition sees so far, a view for each lane; made when asked for.
        generators: A stream for each lane.
        states: What the adversary keeps of each lane, as in :class:`Hands`.

    Shapes:
        step: ``(lane, 1, S)``
    """

    round: int
    edge: int
    step: torch.Tensor
    views: Callable[[], Sequence[View]]
    generators: Sequence[torch.Generator]
    states: Sequence[Any] = ()


class Adversary:
    """How the corrupted parties of an active threat model behave; by default they follow the protocol.

    A frozen, public configuration, so that runs can be identified by it. Every move is made by a fresh copy:
    what an adversary is to remember goes through its state, of which each run has one.
    """

    def check(self, pipeline: Pipeline, threat: ThreatModel) -> None:
        """Refuse a pipeline on which the adversary can do nothing, before anything runs.

        Raises:
            IncompatibleAttack: It cannot; the message says why.
        """

    def start(self, n_params: int) -> object:
        """The state of one run before its first move; None where there is nothing to remember.

        Args:
            n_params: The number of parameters, P.
        """
        return None

    def updates(self, hands: Hands) -> Sending:
        """What the corrupted clients send: any numbers, NaN included.

        A client that sends nothing, or no update at all, is spoken of by a list of payloads: for each lane one for
        each corrupted client, a tensor of any shape and type, bytes, or None for nothing.

        Shapes:
            returns: ``(lane, m, P)``
        """
        return hands.honest

    def tapped(self) -> float:
        """The share of entangled pairs that a corrupted network measures on their way; none by default."""
        return 0.0

    def reports(self, hands: Hands, honest: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """What the corrupted clients report of themselves, where a layer asks; by default the truth.

        It is asked after :meth:`updates`, with the states that that move left.

        Args:
            hands: What the clients hold.
            honest: What they would report if they followed the protocol, by name.

        Shapes:
            honest: ``(lane, m)`` each; returns the same
        """
        return honest

    def metrics(self, hands: Hands, honest: torch.Tensor) -> torch.Tensor:
        """The metrics that the corrupted clients upload, where clients upload one; by default those of their records.

        It is asked after :meth:`updates`, with the states that that move left.

        Args:
            hands: What the clients hold.
            honest: What they would upload if they followed the protocol.

        Shapes:
            honest: ``(lane, m, M)``; returns the same
        """
        return honest

    def chooses(self, losses: torch.Tensor) -> int:
        """Which of several models a corrupted client trains, where clients choose; by default the one of least loss.

        Args:
            losses: The loss of each on the client's own records.

        Shapes:
            losses: ``(node,)``
        """
        return int(losses.argmin())

    def claims(self, choices: int, honest: int) -> int:
        """What a corrupted client says that it sends, where clients send parts of the model; by default the truth.

        Args:
            choices: How many ways there are, least first.
            honest: The one that is true.
        """
        return honest

    def stated(self, model: Model) -> Model:
        """The model that corrupted clients state to have trained, where a layer asks; by default the shared one.

        Nothing ties the statement to what they send: the default is a lie of whoever trained another one.

        Args:
            model: The shared model.
        """
        return model

    def broadcast(self, hands: ServerHands) -> Moved:
        """The models that a corrupted server sends, one for each receiver.

        Shapes:
            returns: ``(lane, client, P)``
        """
        return hands.params[:, None, :].expand(-1, hands.n_clients, -1)

    def block(self, hands: EdgeHands) -> Moved:
        """The step that a corrupted edge server puts in the place of its block's.

        Shapes:
            returns: ``(lane, 1, S)``
        """
        return hands.step

    def tamper(self, tapped: Tapped) -> Payload | tuple[Payload | None, object] | None:
        """What a corrupted network lets through, alone or with its run's next state; None drops the message."""
        return tapped.payload

    def quantum_server(self, stream_seed: int) -> object | None:
        """The program of a corrupted quantum server, for one run; None where it follows the protocol.

        Where the stack delegates circuits, every client's delegations of the run are played against servers
        that this makes. Tests that fail abort the run.

        Args:
            stream_seed: The seed of the program's own randomness, one for each run.

        Returns:
            A ``qflsec.protocols.blind.session.ServerFactory``: called with the public graph and grid of each
            pattern, it gives a :class:`~qflsec.protocols.blind.server.QuantumServer` or a subclass.
        """
        return None

    def identity(self) -> dict[str, object]:
        """Name and every parameter, JSON-able: what a run's id is made from."""
        raise TypeError(f"{type(self).__name__} has no identity")

    def corrupts(self, threat: ThreatModel) -> None:
        """Refuse a threat model under which this adversary can do nothing.

        Raises:
            ConfigError: The threat model corrupts nobody that this adversary acts through.
        """


def parts_of(moved: Sending, n_lanes: int) -> tuple[torch.Tensor | ClientPayloads, Sequence[object]]:
    """What is sent, and the next states; none where they stay as they were."""
    if not isinstance(moved, tuple):
        return moved, ()
    values, states = moved
    if len(states) != n_lanes:
        raise UpdateError(
            "an adversary returned the wrong number of states",
            got=len(states),
            expected=n_lanes,
            fix="return one state for each lane",
        )
    return values, states

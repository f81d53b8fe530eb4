"""Active adversaries: what corrupted parties may do inside a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from qflsec.models import Model
from qflsec.threat import Payload, Tapped, ThreatModel, View

__all__ = ["Adversary", "Hands", "ServerHands"]

TrainFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Hands:
    """What the corrupted clients hold when they must send their updates.

    The lanes are the runs of a batch that share the attack and the threat model.

    Attributes:
        round: The round.
        model: The shared model as a pure function.
        received: The model that each corrupted client received.
        features: Their own records, padded.
        labels: Their own labels, padded.
        mask: 1 for a record, 0 for padding.
        honest: What they would send if they followed the protocol.
        clients: Their indices.
        n_clients: The number of all clients.
        train: Local training on other features and labels of the same shape (mask unchanged), from the
            received model, with the pipeline's optimiser: returns updates.
        views: What the coalition sees so far, a view for each lane; made when asked for.
        generators: A stream for each lane.

    Shapes:
        received: ``(lane, m, P)``; features: ``(lane, m, N, F)``; labels: ``(lane, m, N)``;
        mask: ``(lane, m, N)``; honest: ``(lane, m, P)``
    """

    round: int
    model: Model
    received: torch.Tensor
    features: torch.Tensor
    labels: torch.Tensor
    mask: torch.Tensor
    honest: torch.Tensor
    clients: tuple[int, ...]
    n_clients: int
    train: TrainFunction
    views: Callable[[], Sequence[View]]
    generators: Sequence[torch.Generator]


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

    Shapes:
        params: ``(lane, P)``
    """

    round: int
    model: Model
    params: torch.Tensor
    n_clients: int
    views: Callable[[], Sequence[View]]
    generators: Sequence[torch.Generator]


class Adversary:
    """How the corrupted parties of an active threat model behave; by default they follow the protocol.

    A frozen, public configuration, so that runs can be identified by it.
    """

    def updates(self, hands: Hands) -> torch.Tensor:
        """The updates of the corrupted clients.

        Shapes:
            returns: ``(lane, m, P)``
        """
        return hands.honest

    def broadcast(self, hands: ServerHands) -> torch.Tensor:
        """The models that a corrupted server sends, one for each receiver.

        Shapes:
            returns: ``(lane, client, P)``
        """
        return hands.params[:, None, :].expand(-1, hands.n_clients, -1)

    def tamper(self, tapped: Tapped) -> Payload | None:
        """What a corrupted network lets through; None drops the message."""
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

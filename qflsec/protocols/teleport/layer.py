"""Updates as quantum states: every parameter is the angle of a qubit that is teleported, in many copies, and estimated."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from qflsec.accounting import LedgerContext, LedgerRow, RowWriter
from qflsec.base import ConfigError, DefenseCard, Source, finite, register
from qflsec.federation import ShapeLayer, Streams
from qflsec.protocols.teleport.parties import PairSource, receive, send

__all__ = ["Teleported"]


@register("layer", "teleported")
@finite
@dataclass(frozen=True, kw_only=True)
class Teleported(ShapeLayer):
    """Clients teleport their updates to the server as states, which estimates them from copies.

    A parameter u of an update, clipped to ``span``, becomes the angle t = pi / 2 u / span of K qubits cos(t / 2) |0> +
    sin(t / 2) |1>: half the circle, so that no error turns the largest into the smallest. The server measures half of them in Z
    and half in X. What it estimates stands in the update message: whoever holds the
    receiver's end reads that and no more.

    Attributes:
        copies: Qubits for each parameter, K, an even number; None for infinitely many, which give the update itself.
        p: The weight of |Phi+> in the Werner pairs.
        tapped: The share of the pairs that a man in the middle measures; clients and server are not told.
        span: The largest size of a parameter of an update that can be sent.

    Units:
        span: that of the parameters, radians for weights of circuits

    Raises:
        ConfigError: A value is out of range.
    """

    card = DefenseCard(
        name="teleported",
        idea="Clients teleport the parameters of their updates as qubits, and the server estimates them from copies.",
        source=Source(
            paper="Narottama, Shin: Federated quantum neural network with quantum teleportation for resource optimization in "
            "future wireless communication, IEEE Trans. Vehicular Technology 72, 14717; the encoding and the estimator are this "
            "package's",
            year=2023,
            where="abstract (parameters teleported between clients and server)",
        ),
        claim="The server gets at most one bit for each qubit (Holevo): copies times parameters bits of an update.",
        assumption="information-theoretic",
        hides="what more an update says than its qubits can carry",
        does_not=(
            "It does not hide an update from the server: with many copies the estimate is the update.",
            "It does not earn an epsilon: an estimate of an update is no mechanism with a bounded sensitivity.",
            "It does not find a man in the middle by itself: pairs must be sacrificed to a CHSH test.",
        ),
        cost="copies qubits, as many pairs, and twice as many classical bits for each parameter",
    )
    topologies = None

    copies: int | None = 200
    p: float = 1.0
    tapped: float = 0.0
    span: float = math.pi / 2

    def __post_init__(self) -> None:
        if self.copies is not None and (self.copies < 2 or self.copies % 2):
            raise ConfigError("'copies' out of range", got=self.copies, expected="an even number, or none")
        if not self.span > 0:
            raise ConfigError("'span' must be positive", got=self.span)
        self._source()

    def _source(self) -> PairSource:
        return PairSource(p=self.p, tapped=self.tapped)

    def shape(self, update: torch.Tensor, streams: Streams) -> torch.Tensor:
        """What the server estimates.

        Shapes:
            update: ``(lane, client, P)``; returns: the same
        """
        sent = update.clamp(-self.span, self.span)
        if self.copies is None:  # the lengths of both means cancel
            return sent
        angles = (math.pi / 2 / self.span * sent)[..., None].expand(*update.shape, self.copies // 2)

        def draws() -> torch.Tensor:
            return streams.uniform("teleported", angles.shape[1:]).to(update)

        (_, in_z), (_, in_x) = (send(angles, self._source(), draws()) for _ in range(2))
        return self.span / (math.pi / 2) * receive(in_z, in_x, (draws(), draws()))

    def qubits(self, n_params: int) -> int | None:
        """How many qubits carry an update; it takes as many pairs, and twice as many classical bits. None for no end of them."""
        return None if self.copies is None else self.copies * n_params

    def ledger(self, context: LedgerContext) -> tuple[LedgerRow, ...]:
        """The most that the qubits of an update can tell whoever reads single updates."""
        if not (context.honest and context.observer.reads_updates):
            return ()
        writer, count = RowWriter.of(self.card.name, context), context.training.n_params
        qubits = self.qubits(count)
        if qubits is None:
            return (writer.not_covered("no cap: infinitely many copies tell the update itself"),)
        return (
            writer.not_covered(
                f"reads an estimate of every honest client's update, of at most {qubits:,} bits: one for each of {self.copies:,} "
                f"copies of {count:,} parameters (Holevo)",
                released="estimates of updates in every round",
                note=f"an update takes {qubits:,} qubits, {qubits:,} pairs and {2 * qubits:,} classical bits, which are uniform "
                "whatever the update; the quantum channel is simulated; the noise of finite copies is no differential privacy",
            ),
        )

"""Updates as quantum states: every parameter is the angle of a qubit that is teleported, in many copies, and estimated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from qflsec.accounting import LedgerContext, LedgerRow, RowWriter
from qflsec.base import ConfigError, DefenseCard, ProtocolAbort, Source, finite, register
from qflsec.federation import PairLayer, Streams
from qflsec.protocols.teleport.formulas import chsh_threshold, chsh_value
from qflsec.protocols.teleport.parties import PairSource, receive, send

__all__ = ["Teleported"]


@register("layer", "teleported")
@finite
@dataclass(frozen=True, kw_only=True)
class Teleported(PairLayer):
    """Clients teleport their updates to the server as states, which estimates them from copies.

    A parameter u of an update, clipped to ``span``, becomes the angle t = pi / 2 u / span of K qubits cos(t / 2) |0> +
    sin(t / 2) |1>: half the circle, so that no error turns the largest into the smallest. The server measures half of them in Z
    and half in X. What it estimates stands in the update message: whoever holds the
    receiver's end reads that and no more.

    With ``tested`` pairs, both ends of every client's link sacrifice so many in each round to a CHSH test before anything is sent;
    the run stops where they are worse than promised.

    Attributes:
        copies: Qubits for each parameter, K, an even number; None for infinitely many, which give the update itself.
        p: The weight of |Phi+> in the Werner pairs.
        tapped: The share of the pairs that a man in the middle measures; clients and server are not told.
        span: The largest size of a parameter of an update that can be sent.
        tested: Pairs that each client tests in a round, a multiple of 4; 0 for no test.
        false_alarm: How often good pairs fail one client's test; a run of n clients and T rounds stops by mistake with at most n T
            times this probability.

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
            "It does not find a man in the middle unless pairs are sacrificed to a CHSH test (tested).",
        ),
        cost="copies qubits, as many pairs, and twice as many classical bits for each parameter",
    )
    topologies = None

    copies: int | None = 200
    p: float = 1.0
    tapped: float = 0.0
    span: float = math.pi / 2
    tested: int = 0
    false_alarm: float = 1e-6

    def __post_init__(self) -> None:
        if self.copies is not None and (self.copies < 2 or self.copies % 2):
            raise ConfigError("'copies' out of range", got=self.copies, expected="an even number, or none")
        if not self.span > 0:
            raise ConfigError("'span' must be positive", got=self.span)
        if self.tested < 0 or self.tested % 4:
            raise ConfigError("'tested' out of range", got=self.tested, expected="a multiple of 4, or 0")
        if not 0 < self.false_alarm < 1:
            raise ConfigError("'false_alarm' out of range", got=self.false_alarm, expected="between 0 and 1")
        self._source(0.0)

    def _source(self, tapped: float) -> PairSource:
        """The pairs, a share of which somebody measures beside those of :attr:`tapped`."""
        return PairSource(p=self.p, tapped=1 - (1 - self.tapped) * (1 - tapped) if tapped else self.tapped)

    def through(
        self, update: torch.Tensor, streams: Streams, tapped: Sequence[float]
    ) -> tuple[torch.Tensor, dict[int, ProtocolAbort]]:
        """What the server estimates, and the runs whose pairs fail the test.

        Shapes:
            update: ``(lane, client, P)``; returns: the same
        """
        sources = [self._source(share) for share in tapped]
        return self._estimates(update, streams, sources), self._tests(update.shape[1], streams, sources)

    def _tests(
        self, n_clients: int, streams: Streams, sources: Sequence[PairSource]
    ) -> dict[int, ProtocolAbort]:
        if not self.tested:
            return {}
        least = chsh_threshold(self.p, self.tested, self.false_alarm)
        draws = streams.uniform("chsh-test", (n_clients, 4, self.tested // 4))
        found = {}
        for lane, source in enumerate(sources):
            values = [source.chsh(one) for one in draws[lane]]
            failed = [value for value in values if value <= least]
            if failed:
                found[lane] = ProtocolAbort(
                    "pairs for teleported updates fail the CHSH test: somebody measures them, or the source is worse than promised",
                    got=f"{min(failed):.3f} at the worst of {len(failed)} of {n_clients} clients",
                    expected=f"about {chsh_value(self.p):.3f}, above {least:.3f}",
                )
        return found

    def _estimates(
        self, update: torch.Tensor, streams: Streams, sources: Sequence[PairSource]
    ) -> torch.Tensor:
        sent = update.clamp(-self.span, self.span)
        if self.copies is None:  # the lengths of both means cancel
            return sent
        angles = (math.pi / 2 / self.span * sent)[..., None].expand(*update.shape, self.copies // 2)

        def draws() -> torch.Tensor:
            return streams.uniform("teleported", angles.shape[1:]).to(update)

        first, second, of_z, of_x = (draws() for _ in range(4))
        made = []
        for lane, source in enumerate(sources):
            (_, in_z), (_, in_x) = (send(angles[lane], source, one[lane]) for one in (first, second))
            made.append(receive(in_z, in_x, (of_z[lane], of_x[lane])))
        return self.span / (math.pi / 2) * torch.stack(made)

    def pairs(self, n_params: int) -> int | None:
        """One for each qubit, and those of the test."""
        qubits = self.qubits(n_params)
        return None if qubits is None else qubits + self.tested

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
                note=f"an update takes {qubits:,} qubits, {self.pairs(count):,} pairs and {2 * qubits:,} classical bits, which are uniform "
                "whatever the update; the quantum channel is simulated; the noise of finite copies is no differential privacy",
            ),
        )

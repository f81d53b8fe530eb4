"""Reading what the quantum server is told: angles and replies, taken at their word."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import numpy as np
import torch

from qflsec.attacks.base import Inference
from qflsec.attacks.challenges import InversionChallenge, InversionClaim
from qflsec.attacks.inversion.guess import typical_records
from qflsec.attacks.needs import missing_architecture
from qflsec.attacks.server.base import Reading, ServerInference, WatchingServer
from qflsec.base import AttackCard, Source, register
from qflsec.circuits import Circuit
from qflsec.protocols.blind import AngleGrid, Graph, Pattern, QuantumServer, compile_patterns
from qflsec.protocols.blind.angles import Floats
from qflsec.protocols.blind.compiler import Embedding
from qflsec.protocols.blind.courier import SeenDelegation, seen_delegations
from qflsec.threat import View

__all__ = ["ReadDelta"]

_SAME = 1e-6
"""Angles that differ by less, in radians, are the same."""


@register("attack", "read-delta")
@dataclass(frozen=True, kw_only=True)
class ReadDelta(ServerInference, Inference):
    """Take the told angles for the angles of the computation, and the replies for its outcomes.

    That is right wherever there are no pads. A record is executed many times, with many shots and shifts of
    weights; so of all readings of a training run, the records are those that come again and again. Where
    none does, nothing was read, and the claim is what records are like for all that is known without looking.
    """

    card: ClassVar[AttackCard] = AttackCard(
        name="read-delta",
        idea="The quantum server reads data and results off the angles that it is told and the bits that it says.",
        source=Source(
            paper="Broadbent, Fitzsimons and Kashefi: Universal blind quantum computation",
            year=2009,
            where="FOCS 2009 (arXiv:0807.4154), theorem 2: angles and outcomes are padded against this",
        ),
        family="server",
        goal="confidentiality",
        needs=("a client's delegations to the quantum server",),
    )
    challenge_type: ClassVar[type[InversionChallenge]] = InversionChallenge

    def open(self, graph: Graph, grid: AngleGrid, rng: np.random.Generator) -> QuantumServer:
        """The server of one delegation."""
        return _Reader(graph, grid)

    def missing(self, view: View, challenge: InversionChallenge) -> str | None:
        """The model's circuit, or the client's delegations."""
        reason = missing_architecture(view)
        if reason is not None:
            return reason
        if not any(seen.client == challenge.target for seen in seen_delegations(view)):
            return "no delegation of the client to a quantum server is in the view"
        return None

    def run(self, view: View, challenge: InversionChallenge) -> InversionClaim:
        """The most frequent readings."""
        low, high = challenge.feature_range
        known = view.granted.auxiliary
        guess = torch.full((1, challenge.n_features), (low + high) / 2, dtype=torch.float64)
        if known is not None and len(known.labels):
            guess = known.features
        mine = [seen for seen in seen_delegations(view) if seen.client == challenge.target and seen.deltas]
        places, read = _readings(view.granted.model.circuit, mine, (low + high) / 2)
        found = _repeated(read, challenge.n_records) if places else read
        if not len(found):
            return InversionClaim(features=typical_records(guess, challenge.n_records))
        claim = np.tile(guess.double().mean(dim=0).numpy(), (challenge.n_records, 1))
        claim[: len(found), places] = found
        return InversionClaim(features=torch.from_numpy(claim))


def _readings(
    circuit: Circuit, delegations: Sequence[SeenDelegation], middle: float
) -> tuple[list[int], Floats]:
    """Which features some node of the pattern holds alone, and their values in every round, as the angles say.

    Where observables need several patterns, the one that shows most features is read.
    """
    patterns = {
        one.pattern.graph: one.pattern
        for embedding in get_args(Embedding)
        for one in compile_patterns(circuit, embedding=embedding)
    }
    found: dict[tuple[int, ...], list[Floats]] = {}
    for seen in delegations:
        pattern = patterns.get(seen.graph)
        if pattern is not None and (nodes := _places(pattern)):
            values = [_feature(pattern, seen, node, middle) for node in nodes.values()]
            found.setdefault(tuple(nodes), []).append(np.stack(values, axis=1))
    if not found:
        return [], np.empty((0, 0))
    most = max(found, key=len)
    return list(most), np.concatenate(found[most])


def _places(pattern: Pattern) -> dict[int, int]:
    """For each feature that the results depend on, a node that holds it alone."""
    found: dict[int, int] = {}
    for node, angle in enumerate(pattern.angles):
        if len(angle.terms) == 1 and angle.terms[0].kind == "feature" and angle.terms[0].scale:
            found.setdefault(angle.terms[0].index, node)
    return found


def _feature(pattern: Pattern, seen: SeenDelegation, node: int, middle: float) -> Floats:
    """A feature in every round: the told angle without its corrections, as the replies give them."""

    def parity(nodes: tuple[int, ...]) -> Any:  # noqa: ANN401 - bits, or 0 where none is known
        return sum(seen.replies[other].astype(np.int64) for other in nodes if other in seen.replies) % 2

    phi = seen.grid.to_radians(seen.deltas[node]) - math.pi * parity(pattern.z_from[node])
    phi = np.where(parity(pattern.x_from[node]) == 1, -phi, phi)
    (term,) = pattern.angles[node].terms
    value = (-phi - pattern.angles[node].eighths * math.pi / 4 - term.offset) / term.scale
    period = 2 * math.pi / abs(term.scale)
    inside: Floats = np.mod(value - middle + period / 2, period) + middle - period / 2
    return inside


def _repeated(readings: Floats, most: int) -> Floats:
    """The readings that come more than once, the most frequent first; not that of padding, which is all 0."""
    values, counts = np.unique(np.round(readings / _SAME) * _SAME, axis=0, return_counts=True)
    real = (counts > 1) & (np.abs(values) > 2 * _SAME).any(axis=1)
    order = np.argsort(-counts[real], kind="stable")
    return values[real][order][:most]


class _Reader(WatchingServer):
    def reading(self) -> Reading:
        angles = {node: np.mod(self.grid.to_radians(d), math.pi) for node, d in self.deltas.items()}
        return Reading(angles=angles, bits=self.replies)

"""The server's rule: what one client can do to it, and whether it is the mean that it seems."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qflsec.audit.check import Bench, Check
from qflsec.audit.outcome import Finding
from qflsec.audit.parts import Aggregation, Array
from qflsec.base import CheckCard, Source, register

__all__ = ["NoClients", "NonFiniteUpdates", "Shape", "StatedCounts", "UnboundedInfluence"]

_CLIENTS, _LENGTH = 10, 12
_FAR = (1e3, 1e6)
_BOUNDED = 10.0
"""Spreads of the honest updates: a rule that one client moves by more is not bounded by what the others send."""


def _honest(bench: Bench) -> Array:
    return bench.rng("updates").normal(size=(_CLIENTS, _LENGTH))


@register("check", "unbounded-influence")
class UnboundedInfluence(Check):
    """One client sends ever longer updates."""

    looks_at = Aggregation
    card = CheckCard(
        name="unbounded-influence",
        idea="Replace one of ten updates by one of length 1e3 and 1e6 spreads, and see how far the aggregate goes.",
        source=Source(
            paper="Blanchard et al., Machine learning with adversaries, arXiv:1703.02757",
            year=2017,
            where="lemma 1",
        ),
        title="one client can move the aggregate without bound",
        severity="warning",
        proves="The distance to the aggregate of the others grows in proportion to what one client sends.",
        cannot=("A bounded rule may still be moved by updates that look honest.",),
        consequence="A single corrupted client replaces the model, or ends the training.",
        remedy="Bound the norm of each update at the server, or use a robust rule such as the median.",
    )

    def run(self, part: Aggregation, bench: Bench) -> Iterator[Finding]:
        """Whether the aggregate follows one client."""
        honest = _honest(bench)
        start = np.asarray(part.aggregate(honest, [1] * _CLIENTS), dtype=float)
        moved = []
        for far in _FAR:
            updates = honest.copy()
            updates[-1] = far
            result = np.asarray(part.aggregate(updates, [1] * _CLIENTS), dtype=float)
            moved.append(float(np.abs(result - start).max()))
        bench.measured.update(
            {f"moved by an update of {far:g}": move for far, move in zip(_FAR, moved, strict=True)}
        )
        if not np.isfinite(moved).all() or (moved[1] > _BOUNDED and moved[1] > moved[0] * _BOUNDED):
            yield Finding(
                what=f"an update of {_FAR[1]:g} from one of {_CLIENTS} clients moves the aggregate by {moved[1]:.3g}, "
                f"one of {_FAR[0]:g} by {moved[0]:.3g}",
                evidence={"moved_1e3": moved[0], "moved_1e6": moved[1]},
                reproduction=f"{part.name}(updates, counts) with updates[-1] = {_FAR[1]:g}",
            )


@register("check", "non-finite-updates")
class NonFiniteUpdates(Check):
    """One client sends values that are no numbers."""

    looks_at = Aggregation
    card = CheckCard(
        name="non-finite-updates",
        idea="Replace one of ten updates by NaN, and by infinity.",
        source=Source(paper="IEEE 754, arithmetic of NaN and infinity", year=2019, where="section 6.2"),
        title="values that are not finite are accepted",
        severity="error",
        proves="The aggregate of nine honest updates and one of NaN is not finite.",
        cannot=("It does not try values that overflow later, in the training.",),
        consequence="A single client ends the training for everybody with one message.",
        remedy="Drop updates that are not finite before they are aggregated, and count the client as corrupted.",
    )

    def run(self, part: Aggregation, bench: Bench) -> Iterator[Finding]:
        """Whether one client's NaN becomes everybody's."""
        for value in (np.nan, np.inf):
            updates = _honest(bench)
            updates[3] = value
            try:
                result = np.asarray(part.aggregate(updates, [1] * _CLIENTS), dtype=float)
            except (ValueError, ArithmeticError) as error:
                bench.measured[f"an update of {value}"] = f"refused: {type(error).__name__}"
                continue
            if not np.isfinite(result).all():
                yield Finding(
                    what=f"one update of {value} among {_CLIENTS} makes the aggregate {value}",
                    reproduction=f"{part.name}(updates, counts) with updates[3] = {value}",
                )


@register("check", "aggregate-shape")
class Shape(Check):
    """The aggregate of known updates."""

    looks_at = Aggregation
    card = CheckCard(
        name="aggregate-shape",
        idea="Aggregate equal updates, and see whether the result is that update.",
        source=Source(
            paper="McMahan et al., Communication-efficient learning, arXiv:1602.05629",
            year=2017,
            where="algorithm 1",
        ),
        title="the aggregate is not that of the updates",
        severity="error",
        proves="Ten equal updates do not give that update, or not its shape.",
        cannot=("Rules that add noise are not told from rules that are wrong by as little.",),
        consequence="The clients train another model than the one that they think.",
        remedy="Average over the clients alone: np.mean(updates, axis=0).",
    )

    def run(self, part: Aggregation, bench: Bench) -> Iterator[Finding]:
        """Whether the rule is one of vectors."""
        update = np.linspace(-1.0, 1.0, _LENGTH) + 0.25
        result = np.asarray(part.aggregate(np.tile(update, (_CLIENTS, 1)), [1] * _CLIENTS), dtype=float)
        if result.shape != update.shape:
            yield Finding(
                what=f"ten updates of shape {update.shape} give an aggregate of shape {result.shape}",
                evidence={"values": result.size},
            )
            return
        error = float(np.abs(result - update).max())
        bench.measured["error on equal updates"] = error
        if error > 1e-3 * float(np.abs(update).max()) and np.ptp(result) < 1e-6 * np.ptp(update):
            yield Finding(
                what="ten equal updates give an aggregate whose values are all the same",
                evidence={"error": error},
            )


@register("check", "stated-counts")
class StatedCounts(Check):
    """A client that says it has a thousand million records."""

    looks_at = Aggregation
    card = CheckCard(
        name="stated-counts",
        idea="Aggregate ten updates of one length where one client states 1e9 records and the others 1.",
        source=Source(
            paper="McMahan et al., Communication-efficient learning, arXiv:1602.05629",
            year=2017,
            where="algorithm 1",
        ),
        title="weights follow what clients say of themselves",
        severity="warning",
        proves="A number that a client states makes its update the aggregate.",
        cannot=("Other numbers that clients report, such as losses, are not tried.",),
        consequence="A single client replaces the model without sending a long update: norm bounds do not help.",
        remedy="Weight all clients alike, or bound the weight that one client can have.",
    )

    def run(self, part: Aggregation, bench: Bench) -> Iterator[Finding]:
        """Whether the liar's update becomes the aggregate."""
        updates = _honest(bench)
        lie = [1] * (_CLIENTS - 1) + [10**9]
        fair = np.asarray(part.aggregate(updates, [1] * _CLIENTS), dtype=float)
        result = np.asarray(part.aggregate(updates, lie), dtype=float)
        if result.shape != fair.shape or result.shape != updates[-1].shape:
            return
        apart = float(np.linalg.norm(fair - updates[-1]))
        weight = 1 - float(np.linalg.norm(result - updates[-1])) / apart
        bench.measured["weight that a lie earns"] = weight
        if weight > 0.5:
            yield Finding(
                what=f"a client that states 1e9 records has {100 * weight:.0f} % of the weight",
                evidence={"weight": weight},
            )


@register("check", "no-clients")
class NoClients(Check):
    """A round in which nobody has records."""

    looks_at = Aggregation
    card = CheckCard(
        name="no-clients",
        idea="Aggregate updates of clients that all state 0 records.",
        source=Source(
            paper="McMahan et al., Communication-efficient learning, arXiv:1602.05629",
            year=2017,
            where="algorithm 1",
        ),
        title="a round without records gives NaN",
        severity="warning",
        proves="The aggregate of counts that are all zero is not finite.",
        cannot=("A rule that raises an error is taken to be safe.",),
        consequence="One unlucky round ends the training.",
        remedy="Leave the model as it is where the counts add up to zero.",
    )

    def run(self, part: Aggregation, bench: Bench) -> Iterator[Finding]:
        """Whether the aggregate is finite, or refused."""
        try:
            result = np.asarray(part.aggregate(_honest(bench), [0] * _CLIENTS), dtype=float)
        except (ArithmeticError, ValueError) as error:
            bench.measured["counts of zero"] = f"refused: {type(error).__name__}"
            return
        if not np.isfinite(result).all():
            yield Finding(what=f"counts that are all 0 give {result.ravel()[0]}")

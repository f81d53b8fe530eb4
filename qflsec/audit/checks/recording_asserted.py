"""What a client says of itself beside its update, and what the app's own server makes of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from qflsec.audit.check import Bench, Check, NotApplicable
from qflsec.audit.flower.liar import altered_by, filled, first_client, model_after
from qflsec.audit.flower.recording import COUNTS, Alter, Recording, Sent, as_vector, count_of, with_count
from qflsec.audit.outcome import Finding
from qflsec.audit.parts import Array
from qflsec.base import CheckCard, Source, register

__all__ = ["AssertedMetrics", "EmptyClient"]

_FAR = 1e6
_BOUNDED = 10.0
_STILL = 1e-6
_LIES = (-1e6, 0.0, 1.0, 1e6)
_STOPS = (ValueError, ArithmeticError, RuntimeError, AssertionError, KeyError)
"""What a server raises at what it cannot use."""


@dataclass(frozen=True, kw_only=True)
class _Lie:
    """One field of a reply with another value.

    Attributes:
        field: Its name.
        value: The value.
    """

    field: str
    value: float | str | bool

    def __call__(self, sent: Sent) -> Sent:
        """The reply with the lie."""
        if isinstance(self.value, str | bool):
            return replace(sent, words={**sent.words, self.field: self.value})
        return replace(sent, numbers={**sent.numbers, self.field: self.value})

    def far(self, sent: Sent) -> Sent:
        """The reply with the lie, and with a model that is far from any other."""
        return self(filled(sent, value=_FAR))


@register("check", "asserted-metrics")
class AssertedMetrics(Check):
    """A lie in each field that a client sends beside its update."""

    looks_at = Recording
    weight = 2.0
    card = CheckCard(
        name="asserted-metrics",
        idea="Change each metric, flag and name of one client's reply, and see whether the server makes another model.",
        source=Source(
            paper="Fang et al., Local model poisoning attacks to Byzantine-robust federated learning, arXiv:1911.11815",
            year=2020,
            where="section 3, a compromised device sends what it likes",
        ),
        title="the server acts on what a client says of itself",
        severity="warning",
        proves="With one field changed, and every array as it was, the app's own server makes another model, or stops.",
        cannot=(
            "The number of examples is a check of its own.",
            "Numbers become -1e6, 0, 1 and 1e6, flags turn, names are another client's: other lies are not tried.",
        ),
        consequence="A corrupted client chooses its own weight, verdict or identity, so that the defense that reads it binds the "
        "honest alone.",
        remedy="Compute verdicts at the server from the arrays, and take identities from the message's sender.",
    )

    def run(self, part: Recording, bench: Bench) -> Iterator[Finding]:
        """Each field by itself; the worst of its lies is told."""
        liar = first_client(part)
        fields = _fields(part, liar)
        if not fields:
            raise NotApplicable("clients send nothing beside their arrays and the number of examples")
        honest = as_vector(part.model(2))
        if not len(honest):
            raise NotApplicable("the server does not show the model that it makes of the replies")
        rows = np.stack([as_vector(update) for update in part.updates(1).values()])
        spread = max(1e-9, float(np.abs(rows - rows.mean(axis=0)).max()))
        held = _reach(part, liar, partial(filled, value=_FAR), honest)
        bench.measured["fields"] = ", ".join(fields)
        for name, values in fields.items():
            found = None
            for value in values:
                seen = self._lied(part, liar, _Lie(field=name, value=value), honest, spread, held)
                if seen is not None and (found is None or seen.severity == "error"):
                    found = seen
            if found is not None:
                yield found

    @staticmethod
    def _lied(
        part: Recording, liar: int, lie: _Lie, honest: Array, spread: float, held: float
    ) -> Finding | None:
        """What one lie does; ``held`` is how far the server goes after a far model without it."""
        said = f"client {liar} says {lie.field} = {lie.value!r}"
        place = part.places.get("server")
        try:
            moved = _moved(part, liar, lie, honest)
        except _STOPS as error:
            return Finding(what=f"{said}, and the server stops: {type(error).__name__}: {error}", place=place)
        if moved <= _STILL * (1 + float(np.abs(honest).max())):
            return None
        far = _reach(part, liar, lie.far, honest)
        evidence = {"moved": moved, "spread": spread, "far_without": held, "far_with": far}
        if far > _BOUNDED * max(held, spread):
            what = f"{said}, and a model of {_FAR:g} moves the next one by {far:.3g} in place of {held:.3g}"
            return Finding(what=what, place=place, evidence=evidence, severity="error")
        return Finding(
            what=f"{said}, and the next model moves by {moved:.3g}; honest updates differ by {spread:.3g}",
            place=place,
            evidence=evidence,
        )


def _moved(part: Recording, liar: int, make: Alter, honest: Array) -> float:
    return float(np.abs(model_after(part, altered_by(liar, make)) - honest).max())


def _reach(part: Recording, liar: int, make: Alter, honest: Array) -> float:
    """How far the next model goes; infinity where the server stops."""
    try:
        moved = _moved(part, liar, make, honest)
    except _STOPS:
        return math.inf
    return moved if math.isfinite(moved) else math.inf


def _fields(part: Recording, liar: int) -> dict[str, list[float | str | bool]]:
    """The fields of a client's reply that are no number of examples, and the lies that are tried in each."""
    own = part.readable(1)[liar]
    others = [sent for node, sent in part.replies(1).items() if node != liar]
    found: dict[str, list[float | str | bool]] = {
        name: [lie for lie in _LIES if lie != value]
        for name, value in own.numbers.items()
        if name not in COUNTS
    }
    for name, word in own.words.items():
        if isinstance(word, bool):
            found[name] = [not word]
        else:
            said = dict.fromkeys(sent.words[name] for sent in others if name in sent.words)
            stolen = next((one for one in said if one != word), f"not {word}")
            found[name] = [stolen]
    return found


@register("check", "empty-client")
class EmptyClient(Check):
    """A client without records."""

    looks_at = Recording
    card = CheckCard(
        name="empty-client",
        idea="Look for clients that train on nothing, and let the server take a NaN of weight 0, and counts that are all 0.",
        source=Source(
            paper="McMahan et al., Communication-efficient learning, arXiv:1602.05629",
            year=2017,
            where="algorithm 1, the weights n_k / n",
        ),
        title="a client without records harms the round",
        severity="warning",
        proves="A client trained on no record, or the app's own server makes no finite model where one, or all, have none.",
        cannot=(
            "What a client without records sends is taken to be NaN, as the mean loss over no record is.",
        ),
        consequence="The mean of an empty batch is NaN, and 0 times NaN is NaN: one empty client ends the training for all.",
        remedy="Leave clients without records out of the round, and drop replies that are not finite.",
    )

    def run(self, part: Recording, bench: Bench) -> Iterator[Finding]:
        """Clients that are empty here, then two rounds with empty ones."""
        stated = {node: count_of(sent) for node, sent in part.replies(1).items()}
        trained = {node: len(part.trained_on(node)) for node in part.nodes}
        bench.measured.update({f"records of client {node}": n for node, n in trained.items() if n})
        empty = [
            node
            for node, count in stated.items()
            if count == 0 or (any(trained.values()) and not trained[node])
        ]
        if empty:
            yield Finding(
                what=f"client {empty[0]} trains on no record ({len(empty)} of {part.n_nodes} clients)",
                place=part.places.get("train"),
                evidence={"empty": len(empty), "clients": part.n_nodes},
            )
        liar = first_client(part)
        if stated[liar] is None:
            if not empty:
                raise NotApplicable("clients state no number of examples, and torch showed records at each")
            return
        ways: dict[str, Alter] = {
            "a reply of NaN with 0 examples": altered_by(
                liar, lambda sent: with_count(filled(sent, value=np.nan), 0)
            ),
            "0 examples from every client": lambda sent: (
                with_count(sent, 0) if sent.reply and sent.kind == "train" else sent
            ),
        }
        for way, alter in ways.items():
            if harm := _harm(part, alter):
                bench.measured[way] = harm
                yield Finding(what=f"{way} {harm}", place=part.places.get("server"))


def _harm(part: Recording, alter: Alter) -> str:
    """What altered replies do to the server; empty where its model is finite."""
    try:
        after = model_after(part, alter)
    except _STOPS as error:
        return f"ends the server: {type(error).__name__}: {error}"
    bad = int((~np.isfinite(after)).sum())
    return f"makes {bad} of {len(after)} values of the next model NaN" if bad else ""

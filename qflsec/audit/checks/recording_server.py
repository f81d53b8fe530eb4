"""What one client of a recorded app can do to the server: its reply is replaced, and the server runs again."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from qflsec.audit.check import Bench, Check, NotApplicable
from qflsec.audit.flower.liar import altered_by, filled, first_client, model_after
from qflsec.audit.flower.recording import Recording, Sent, as_vector, count_of, with_count
from qflsec.audit.outcome import Finding
from qflsec.base import CheckCard, Source, register

__all__ = ["CountInfluence", "NonFiniteReply", "ReadableUpdates", "UnboundedClient"]

_FAR = (1e3, 1e6)
_BOUNDED = 10.0
_LIE = 1e6
_OWN = 0.99


@register("check", "non-finite-reply")
class NonFiniteReply(Check):
    """One client sends NaN."""

    looks_at = Recording
    card = CheckCard(
        name="non-finite-reply",
        idea="Replace one client's arrays by NaN, and see what the server makes of it.",
        source=Source(paper="IEEE 754, arithmetic of NaN and infinity", year=2019, where="section 6.2"),
        title="one client's NaN ends the training for everybody",
        severity="error",
        proves="With one reply of NaN in the first round the app's own server makes a model of NaN, or stops.",
        cannot=("It does not try values that overflow later, in the training.",),
        consequence="A single client ends the training for everybody with one message.",
        remedy="Drop replies that are not finite before they are aggregated, and count the client as corrupted.",
    )

    def run(self, part: Recording, bench: Bench) -> Iterator[Finding]:
        """Whether the next model is one."""
        liar = first_client(part)
        alter = altered_by(liar, partial(filled, value=np.nan))
        try:
            after = model_after(part, alter)
        except (ValueError, ArithmeticError, RuntimeError, AssertionError) as error:
            yield Finding(
                what=f"a reply of NaN from client {liar} ends the server: {type(error).__name__}: {error}",
                place=part.places.get("server"),
            )
            return
        bad = int((~np.isfinite(after)).sum())
        bench.measured["values that are not finite in the next model"] = bad
        if bad:
            yield Finding(
                what=f"a reply of NaN from one of {part.n_nodes} clients makes {bad} of {len(after)} values of the next model NaN",
                place=part.places.get("server"),
                evidence={"not_finite": bad, "values": len(after)},
            )


@register("check", "unbounded-client")
class UnboundedClient(Check):
    """One client sends ever larger values."""

    looks_at = Recording
    card = CheckCard(
        name="unbounded-client",
        idea="Replace one client's arrays by 1e3 and 1e6, and see how far the app's own server goes.",
        source=Source(
            paper="Blanchard et al., Machine learning with adversaries, arXiv:1703.02757",
            year=2017,
            where="lemma 1",
        ),
        title="one client can move the model without bound",
        severity="warning",
        proves="The next model moves in proportion to what one client sends.",
        cannot=("A bounded rule may still be moved by updates that look honest.",),
        consequence="A single corrupted client replaces the model by one of its own.",
        remedy="Bound the norm of each update at the server, or use a robust strategy such as the median.",
    )

    def run(self, part: Recording, bench: Bench) -> Iterator[Finding]:
        """Whether the next model follows one client."""
        liar = first_client(part)
        honest = as_vector(part.model(2))
        if not len(honest):
            raise NotApplicable("the server does not show the model that it makes of the replies")
        rows = np.stack([as_vector(update) for update in part.updates(1).values()])
        spread = max(1e-9, float(np.abs(rows - rows.mean(axis=0)).max()))
        moved = []
        for far in _FAR:
            make = altered_by(liar, partial(filled, value=far))
            moved.append(float(np.abs(model_after(part, make) - honest).max()))
        bench.measured.update(
            {f"moved by a reply of {far:g}": move for far, move in zip(_FAR, moved, strict=True)}
        )
        if not np.isfinite(moved).all() or (moved[1] > _BOUNDED * spread and moved[1] > moved[0] * _BOUNDED):
            yield Finding(
                what=f"a reply of {_FAR[1]:g} from one of {part.n_nodes} clients moves the model by {moved[1]:.3g}, one of "
                f"{_FAR[0]:g} by {moved[0]:.3g}; honest updates differ by {spread:.3g}",
                place=part.places.get("server"),
                evidence={"moved_1e3": moved[0], "moved_1e6": moved[1], "spread": spread},
            )


@register("check", "count-influence")
class CountInfluence(Check):
    """One client states a million times its examples."""

    looks_at = Recording
    card = CheckCard(
        name="count-influence",
        idea="Multiply the number of examples that one client states by 1e6, and see whose model the next one is.",
        source=Source(
            paper="McMahan et al., Communication-efficient learning, arXiv:1602.05629",
            year=2017,
            where="algorithm 1, the weights n_k / n",
        ),
        title="a client sets its own weight",
        severity="warning",
        proves="With one number changed the next model is that client's.",
        cannot=("Numbers under another name than num-examples are not tried.",),
        consequence="A single client decides the model alone, and none of its updates looks out of the ordinary.",
        remedy="Weigh clients alike, or bound at the server the number that each may state.",
    )

    def run(self, part: Recording, bench: Bench) -> Iterator[Finding]:
        """How much of the way to the liar's model the server goes."""
        liar = first_client(part)
        sent = part.readable(1)[liar]
        if count_of(sent) is None:
            raise NotApplicable("clients state no number of examples")
        own, honest = as_vector(sent.arrays), as_vector(part.model(2))
        if part.deltas:
            own += as_vector(part.model(1))
        way = float(np.linalg.norm(own - honest))
        if not len(honest) or way <= 1e-9 * (1 + float(np.linalg.norm(own))):
            raise NotApplicable(
                "the client's model is the next model already, so that its weight cannot be told"
            )
        after = model_after(
            part, altered_by(liar, lambda one: with_count(one, _LIE * (count_of(one) or 1.0)))
        )
        share = 1 - float(np.linalg.norm(own - after)) / way
        bench.measured["share of the way to the liar's model"] = share
        if share > _OWN:
            yield Finding(
                what=f"client {liar} states {_LIE:g} times its {count_of(sent):g} examples, and the next model is its own to "
                f"{100 * share:.2f} %",
                place=part.places.get("server"),
                evidence={"stated": _LIE * (count_of(sent) or 1.0), "share": share},
            )


@register("check", "readable-updates")
class ReadableUpdates(Check):
    """Updates that the server reads one by one."""

    looks_at = Recording
    card = CheckCard(
        name="readable-updates",
        idea="Subtract the model that a client got from what it sent.",
        source=Source(
            paper="Bonawitz et al., Practical secure aggregation for privacy-preserving machine learning, CCS",
            year=2017,
            where="section 1",
        ),
        title="the server reads each client's update on its own",
        severity="warning",
        proves="Each reply is a model in the clear, and it belongs to one client: the anonymity set is 1.",
        cannot=("Where clients clip and add noise, how much that hides is up to its accounting.",),
        consequence="Whatever an update says of a client's records, it says to the server, and to whoever reads its traffic.",
        remedy="Aggregate securely, so that the server learns the sum alone, or add noise at the client.",
    )

    def run(self, part: Recording, bench: Bench) -> Iterator[Finding]:
        """How many can be read."""
        replies = [sent for index in range(1, part.rounds + 1) for sent in part.replies(index).values()]
        if not replies:
            raise NotApplicable("no client answered a training message")
        readable = [sent for index in range(1, part.rounds + 1) for sent in _plain(part, index)]
        bench.measured["updates that the server reads"] = len(readable)
        if readable:
            yield Finding(
                what=f"{len(readable)} of {len(replies)} replies are models in the clear, of one client each"
                f"{', and the next model is their mean' if part.averages else ''}",
                place=part.places.get("train"),
                evidence={"readable": len(readable), "replies": len(replies), "anonymity_set": 1},
            )


def _plain(part: Recording, index: int) -> list[Sent]:
    """The replies of a round that are about as long as the model: masked ones are as random as their ring."""
    start = float(np.linalg.norm(as_vector(part.model(index))))
    return [
        sent
        for node, sent in part.readable(index).items()
        if np.linalg.norm(as_vector(part.updates(index)[node])) < 100 * (1 + start)
    ]

"""Ledger rows of Gaussian noise on whole updates: at a trusted server, or by each client on its own message.

*Central.* The server clips every update to norm S, adds up, and adds noise of standard deviation ``z S``; the
released model is post-processing of these noisy sums. Taking one client away moves a sum by at most S. Who
reads updates before the noise gets nothing from it, the server first of all. Sampling counts only where it
is Poisson and the observer can tell of no honest client whether it took part (:mod:`qflsec.threat.rosters`); the
network sees who sends, even sealed. The clients, and how many records each has, are public: adjacency is zero-out.

The bound asks nothing of how an update was made, but that it follows from what the client holds and was sent. So it
holds with ``client_sampling = "poisson"`` and ``optimizer_state = "run"`` too, although a client's momentum then depends
on which rounds it was drawn in: the draws are independent of each other and of the data, a client that is not drawn
sends nothing and moves no sum, and a client taken away takes its state with it, which no other client has read. Each
round is a sampled Gaussian mechanism for whatever the state has become; over what it may have become, given the models
so far, divergences are jointly convex, so that the mixture spends no more; and adaptive composition counts all rounds.

*Local.* A client clips its update to S and adds noise of standard deviation ``z S`` before it sends it. Two
data sets of the client make updates that differ by at most 2 S, so under replace-one adjacency the noise
multiplier is ``z / 2``. Everything later is post-processing, so the bound holds against everybody. Sampling
of clients earns nothing here: a client that is not drawn adds no noise either, so the sum is not the sampled
Gaussian mechanism of the accountants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from qflsec.accounting import Adjacency, LedgerContext, LedgerRow, RowWriter
from qflsec.accounting.group_privacy import GroupShare
from qflsec.accounting.rows import SIMULATED
from qflsec.defenses.privacy.bounds import GaussianNoise, gaussian_rows
from qflsec.defenses.privacy.person_rows import person_row

__all__ = ["central_rows", "local_rows"]

_REAL_NUMBERS = "the proof takes numbers as real: floating point is not in it"


def central_rows(noise: GaussianNoise, context: LedgerContext) -> tuple[LedgerRow, ...]:
    """The rows of noise that a trusted server adds to sums, against one observer.

    Args:
        noise: The noise.
        context: The observer and the training.
    """
    observer, training = context.observer, context.training
    if not context.honest or not observer.reads_anything:
        return ()
    writer = RowWriter.of(noise.layer, context)
    if observer.threat.server or observer.reads_clients:
        who = "the server itself" if observer.threat.server else "an observer who reads what clients send"
        return (writer.not_covered(f"no epsilon against {who}: updates are read before the noise"),)
    sampled = training.client_sampling == "poisson" and not observer.knows_rosters
    sampling = "no credit for sampling"
    if training.client_sampling == "all":
        sampling = "none: all clients in every round"
    elif sampled:
        sampling = f"Poisson, rate {training.participation:.4g}, who was drawn stays between the server and the clients"
    rows = _rows(
        noise,
        context,
        rate=training.participation if sampled else 1.0,
        # clients and their numbers of records are public: what is hidden is what a client sent
        adjacency="zero-out",
        words="take away all that one honest client sent",
        trusted="the server, to clip, to add the noise and to keep updates to itself",
        sampling=sampling,
    )
    rate = training.participation if sampled else 1.0

    def share(kind: tuple[int, ...]) -> list[GroupShare]:
        return [GroupShare(records=len(kind), rate=rate, steps=training.rounds)]

    return (
        *rows,
        *_people(noise, context, rows[0], share),
        writer.not_covered(f"{_REAL_NUMBERS}; nor is which updates the server dropped"),
    )


def local_rows(noise: GaussianNoise, context: LedgerContext) -> tuple[LedgerRow, ...]:
    """The rows of noise that each client adds to its own messages, against one observer.

    Args:
        noise: The noise.
        context: The observer and the training.
    """
    if not context.honest or not context.observer.reads_anything:
        return ()
    claims: tuple[tuple[Adjacency, float, str], ...] = (
        ("replace-one", 0.5, "any two data sets of an honest client, equal in size"),
        ("zero-out", 1.0, "an honest client's data set, or an update of zero in its place"),
    )
    rows: list[LedgerRow] = []
    for adjacency, factor, words in claims:
        scaled = replace(noise, noise_multiplier=noise.noise_multiplier * factor)
        found = _rows(
            scaled,
            context,
            adjacency=adjacency,
            words=words,
            trusted="nobody but the client itself",
            sampling="no credit for sampling",
            alone=True,
        )
        rows += [*found, *_people(scaled, context, found[0], _own_messages(context))]
    return (*rows, RowWriter.of(noise.layer, context).not_covered(_REAL_NUMBERS))


def _own_messages(context: LedgerContext) -> Callable[[tuple[int, ...]], list[GroupShare]]:
    """One unit at each client of a person: every client adds noise of its own."""
    share = GroupShare(records=1, steps=context.training.rounds)
    return lambda kind: [share] * len(kind)


def _people(
    noise: GaussianNoise,
    context: LedgerContext,
    alike: LedgerRow,
    shares: Callable[[tuple[int, ...]], Sequence[GroupShare]],
) -> tuple[LedgerRow, ...]:
    """The row for people at several clients; who is at one is covered by the row of that client."""
    people = context.training.people
    kinds = [kind for kind in people.at(context.honest) if len(kind) > 1]
    return (person_row(alike, noise.noise_multiplier, people, kinds, shares),) if kinds else ()


def _rows(
    noise: GaussianNoise,
    context: LedgerContext,
    *,
    rate: float = 1.0,
    adjacency: Adjacency,
    words: str,
    trusted: str,
    sampling: str,
    alone: bool = False,
) -> tuple[LedgerRow, ...]:
    rounds = context.training.rounds
    return gaussian_rows(
        noise,
        observer=context.observer.name,
        rate=rate,
        steps=rounds,
        unit="client",
        units=len(context.honest),
        adjacency=adjacency,
        protects=f"over {rounds} rounds for each honest client as a whole ({adjacency}: {words})",
        alone=alone,
        trusted=trusted,
        released="every message of a client"
        if context.observer.reads_clients
        else "the models of all rounds",
        sampling=sampling,
        notes=(
            SIMULATED if context.seeds.noise else "",
            "numbers of records are public" if adjacency == "replace-one" else "",
        ),
    )

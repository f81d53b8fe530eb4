"""Ledger rows of Gaussian noise on whole updates: at a trusted server, or by each client on its own message.

*Central.* The server clips every update to norm S, adds up, and adds noise of standard deviation ``z S``; the
released model is post-processing of these noisy sums. Taking one client away moves a sum by at most S. Who
reads updates before the noise gets nothing from it, the server first of all. Sampling counts only where it
is Poisson and the observer cannot see who took part; the network sees who sends, even sealed.

*Local.* A client clips its update to S and adds noise of standard deviation ``z S`` before it sends it. Two
data sets of the client make updates that differ by at most 2 S, so under replace-one adjacency the noise
multiplier is ``z / 2``. Everything later is post-processing, so the bound holds against everybody. Sampling
of clients earns nothing here: a client that is not drawn adds no noise either, so the sum is not the sampled
Gaussian mechanism of the accountants.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.accounting.accountants import DpBound
from qflsec.defenses.privacy.bounds import SIMULATED, delta_note, gaussian_bounds, uncovered

__all__ = ["ClientNoise", "central_rows", "local_rows"]

_REAL_NUMBERS = "the proof takes numbers as real: floating point is not in it"


@dataclass(frozen=True, kw_only=True)
class ClientNoise:
    """Gaussian noise on clipped updates.

    Attributes:
        layer: The layer that adds it.
        noise_multiplier: Standard deviation of the noise in units of the clip norm.
        delta: The delta at which epsilon is stated.
        mechanism: The mechanism and its sensitivity, in words.
    """

    layer: str
    noise_multiplier: float
    delta: float
    mechanism: str


def central_rows(noise: ClientNoise, context: LedgerContext) -> tuple[LedgerRow, ...]:
    """The rows of noise that a trusted server adds to sums, against one observer.

    Args:
        noise: The noise.
        context: The observer and the run.
    """
    if not context.honest or not (context.sees_updates or context.sees_aggregates or context.sees_model):
        return ()
    if context.server or context.reads_clients:
        who = "the server itself" if context.server else "an observer who reads what clients send"
        return (
            uncovered(noise.layer, context, f"no epsilon against {who}: updates are read before the noise"),
        )
    sees_senders = context.wire or context.quantum_server
    sampled = context.client_sampling == "poisson" and not sees_senders
    rate = context.participation if sampled else 1.0
    # Who sees the roster or the senders knows of the client itself: what is hidden is what it sent.
    adjacency = "zero-out" if sees_senders or context.client_sampling == "fixed" else "add/remove"
    sampling = "no credit for sampling"
    if context.client_sampling == "all":
        sampling = "none: all clients in every round"
    elif sampled:
        sampling = f"Poisson, rate {rate:.4g}, who was drawn stays between the server and the clients"
    known = {
        bound.accountant: bound.epsilon
        for bound in gaussian_bounds(noise.noise_multiplier, 1.0, context.rounds, noise.delta)
    }
    rows = [
        _row(
            noise,
            context,
            bound,
            adjacency=adjacency,
            words="take away all that one honest client sent",
            unsampled=known.get(bound.accountant) if sampled else None,
            trusted="the server, to clip, to add the noise and to keep updates to itself",
            sampling=sampling,
        )
        for bound in gaussian_bounds(noise.noise_multiplier, rate, context.rounds, noise.delta)
    ]
    broken = "nor is a run that stops because an update is not finite"
    return (*rows, uncovered(noise.layer, context, f"{_REAL_NUMBERS}; {broken}"))


def local_rows(noise: ClientNoise, context: LedgerContext) -> tuple[LedgerRow, ...]:
    """The rows of noise that each client adds to its own messages, against one observer.

    Args:
        noise: The noise.
        context: The observer and the run.
    """
    if not context.honest or not (context.sees_updates or context.sees_aggregates or context.sees_model):
        return ()
    rows = []
    for adjacency, factor, words in (
        ("replace-one", 0.5, "any two data sets of an honest client, equal in size"),
        ("zero-out", 1.0, "an honest client's data set, or an update of zero in its place"),
    ):
        multiplier = noise.noise_multiplier * factor
        single = {
            bound.accountant: bound.epsilon for bound in gaussian_bounds(multiplier, 1.0, 1, noise.delta)
        }
        rows += [
            _row(
                noise,
                context,
                bound,
                adjacency=adjacency,
                words=words,
                trusted="nobody but the client itself",
                sampling="no credit for sampling",
                message=single.get(bound.accountant),
            )
            for bound in gaussian_bounds(multiplier, 1.0, context.rounds, noise.delta)
        ]
    return (*rows, uncovered(noise.layer, context, _REAL_NUMBERS))


def _row(
    noise: ClientNoise,
    context: LedgerContext,
    bound: DpBound,
    *,
    adjacency: str,
    words: str,
    trusted: str,
    sampling: str,
    unsampled: float | None = None,
    message: float | None = None,
) -> LedgerRow:
    if math.isinf(bound.epsilon):
        statement = "no noise, so epsilon is infinite: nothing is guaranteed"
    else:
        alone = "" if message is None else f", {message:.4g} for one message alone"
        statement = (
            f"epsilon {bound.epsilon:.4g} at delta {bound.delta:g} over {context.rounds} rounds{alone}, for each "
            f"honest client as a whole ({adjacency}: {words}), by {bound.accountant}"
        )
    notes = ["numbers of records are public"] if adjacency == "replace-one" else []
    if context.seeded_noise:
        notes.insert(0, SIMULATED)
    notes.append(delta_note(noise.delta, len(context.honest), "clients"))
    return LedgerRow(
        observer=context.observer,
        layer=noise.layer,
        guarantee="differential privacy",
        statement=statement,
        assumption="information-theoretic",
        trusted=trusted,
        released="every message of a client" if context.reads_clients else "the models of all rounds",
        bound="upper bound",
        epsilon=bound.epsilon,
        delta=bound.delta,
        epsilon_unsampled=unsampled,
        unit="client",
        adjacency=adjacency,
        mechanism=noise.mechanism,
        sampling=sampling,
        steps=context.rounds,
        accountant=f"{bound.accountant} ({bound.version})",
        note="; ".join(note for note in notes if note),
    )

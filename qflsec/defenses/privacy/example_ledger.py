"""Ledger rows of example-level Gaussian noise at the clients, for each observer.

Whoever reads a single client's noisy gradients gets the epsilon of that client's own noise. Whoever reads
only sums gets the same bound, because a sum is computed from the single gradients, and a second, smaller
one if the other honest clients in the sum are trusted to add their noise.

The second bound. In a round of one local step of SGD the observer reads ``sum_j a_j (S_j + N_j)`` over the
honest clients of the sum, where ``S_j`` is the clipped sum, ``N_j`` its noise of standard deviation
``sigma C``, and ``a_j = w_j / e_j`` the client's weight over its expected batch size. A record of client i
moves this by at most ``a_i C``, and the noise has standard deviation ``sigma C sqrt(sum_j a_j^2)``, so the
effective noise multiplier is ``sigma sqrt(sum_j a_j^2) / a_i``: ``sigma sqrt(k)`` where all ``a_j`` are
equal, which they are for full batches, since FedAvg weights by the number of records. The argument needs
the noise of the others to enter additively and afresh in every release; it fails for several local steps
(a client goes on from its own noisy model, not from the sum), for Adam, for layers that change single
updates, and for rules other than the weighted mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.accounting.accountants import DpBound
from qflsec.base import Assumption
from qflsec.defenses.privacy.bounds import SIMULATED, delta_note, gaussian_bounds, uncovered

__all__ = ["ExampleNoise", "example_rate", "example_rows", "summed_multiplier"]


@dataclass(frozen=True, kw_only=True)
class ExampleNoise:
    """Gaussian noise on sums of clipped per-record gradients.

    Attributes:
        layer: The layer that adds it.
        clip_norm: The largest L2 norm of a record's contribution, C.
        noise_multiplier: Standard deviation of the noise in units of C.
        delta: The delta at which epsilon is stated.
    """

    layer: str
    clip_norm: float
    noise_multiplier: float
    delta: float


def summed_multiplier(shares: tuple[float, ...], k: int) -> float:
    """By how much the noise of k clients in a sum outweighs that of one, for the worst client and sum.

    Args:
        shares: Each honest client's weight over its expected batch size, a_j.
        k: The number of honest clients in a sum; any k of them that contain the client may be in it.

    Returns:
        The smallest ``sqrt(sum_j a_j^2) / a_i``: ``sqrt(k)`` where the shares are equal.
    """
    worst = math.inf
    for index, own in enumerate(shares):
        others = sorted(shares[:index] + shares[index + 1 :])[: k - 1]
        worst = min(worst, math.sqrt(own**2 + sum(other**2 for other in others)) / own)
    return worst


def example_rows(noise: ExampleNoise, context: LedgerContext) -> tuple[LedgerRow, ...]:
    """The rows of this noise against one observer.

    Args:
        noise: The noise.
        context: The observer and the run.
    """
    if not context.honest or not (context.sees_updates or context.sees_aggregates or context.sees_model):
        return ()
    if context.sampling == "fixed":
        return (
            uncovered(noise.layer, context, "batches have a fixed size, for which no accountant here holds"),
        )
    single = _rows(noise, context, factor=1.0, k=1)
    k = _smallest_sum(context)
    if context.sees_updates or k < 2 or not _additive(context):
        summed: tuple[LedgerRow, ...] = ()
    else:
        shares = tuple(context.counts[i] / _expected(context, i) for i in context.honest)
        summed = _rows(noise, context, factor=summed_multiplier(shares, k), k=k)
    finite = uncovered(
        noise.layer,
        context,
        "the proof takes numbers as real: floating point and rounding before masks are not in it",
    )
    return (*single, *summed, finite)


def _additive(context: LedgerContext) -> bool:
    """Whether every release is a fresh sum of single noisy gradients; not known means no."""
    return context.local_steps == 1 and context.additive


def _smallest_sum(context: LedgerContext) -> int:
    if context.sees_aggregates:
        return context.smallest_k
    participants = max(1, round(context.participation * context.n_clients))
    return participants - len(context.corrupted)


def _expected(context: LedgerContext, index: int) -> float:
    """The expected batch size of a client."""
    count = context.counts[index]
    return float(count if context.batch_size is None else min(context.batch_size, count))


def example_rate(batch_size: int | None, counts: Sequence[int]) -> float:
    """The largest sampling rate of a client's records: that of the client with the fewest.

    Clients hold different records, so what is released of one client's records costs the others nothing:
    the epsilon of all clients together is the largest of theirs and not the sum.

    Args:
        batch_size: The expected batch size; None for full batches.
        counts: The number of records of each client.
    """
    return 1.0 if batch_size is None else min(1.0, batch_size / min(counts))


def _rows(noise: ExampleNoise, context: LedgerContext, *, factor: float, k: int) -> tuple[LedgerRow, ...]:
    rate = example_rate(context.batch_size, [context.counts[index] for index in context.honest])
    steps = context.rounds * context.local_steps
    effective = noise.noise_multiplier * factor
    bounds = gaussian_bounds(effective, rate, steps, noise.delta)
    known = {bound.accountant: bound.epsilon for bound in gaussian_bounds(effective, 1.0, steps, noise.delta)}
    return tuple(
        LedgerRow(
            observer=context.observer,
            layer=noise.layer,
            guarantee="differential privacy",
            statement=_statement(bound),
            assumption=_assumption(context, k),
            trusted=_trusted(k),
            released=_released(context),
            bound="upper bound",
            epsilon=bound.epsilon,
            epsilon_unsampled=known.get(bound.accountant) if rate < 1 else None,
            delta=bound.delta,
            unit="example",
            adjacency=bound.adjacency,
            mechanism=_mechanism(noise, effective, k),
            sampling=_sampling(context, rate),
            steps=steps,
            accountant=f"{bound.accountant} ({bound.version})",
            note=_note(noise, context, k),
        )
        for bound in bounds
    )


def _statement(bound: DpBound) -> str:
    if math.isinf(bound.epsilon):
        return "no noise, so epsilon is infinite: nothing is guaranteed"
    return (
        f"epsilon {bound.epsilon:.4g} at delta {bound.delta:g} for each record of an honest client "
        f"(add or remove one), by {bound.accountant}"
    )


def _assumption(context: LedgerContext, k: int) -> Assumption:
    """A sum over sealed updates is all that this observer sees only while the seals hold."""
    return "computational" if k > 1 and (context.server or context.wire) else "information-theoretic"


def _trusted(k: int) -> str:
    if k == 1:
        return "nobody but the client itself"
    return f"the client itself, and the other {k - 1} honest clients of each sum to add their noise"


def _released(context: LedgerContext) -> str:
    if context.sees_updates:
        return "single updates and models of all rounds"
    if context.sees_aggregates:
        return f"sums over {context.smallest_k} or more honest clients and models of all rounds"
    return "the final model (accounted as if all rounds were seen)"


def _mechanism(noise: ExampleNoise, effective: float, k: int) -> str:
    base = f"Gaussian noise on the sum of gradients clipped to L2 norm {noise.clip_norm:g} (the sensitivity)"
    if k == 1:
        return f"{base}, noise multiplier {effective:g}"
    return f"{base}, noise multiplier {noise.noise_multiplier:g}, in a sum over {k} clients at least {effective:.4g}"


def _sampling(context: LedgerContext, rate: float) -> str:
    if context.sampling == "full":
        return "none: all records in every step"
    return f"Poisson, rate at most {rate:.4g}, which records were drawn stays with the client"


def _note(noise: ExampleNoise, context: LedgerContext, k: int) -> str:
    notes = ["numbers of records are public"]
    if context.seeded_noise:
        notes.insert(0, SIMULATED)
    if k > 1 and context.seeded_secrets and (context.server or context.wire):
        notes.append("seeded keys: the seals protect nothing")
    records = sum(context.counts[index] for index in context.honest)
    notes.append(delta_note(noise.delta, records, "records"))
    return "; ".join(note for note in notes if note)

"""Ledger rows of example-level Gaussian noise at the clients, for each observer.

Whoever reads a single client's noisy gradients gets the epsilon of that client's own noise. Whoever reads
only sums gets the same bound, because a sum is computed from the single gradients, and a second, smaller
one if the other honest clients in the sum are trusted to add their noise.

The second bound. In a round of one local step of SGD the observer reads ``sum_j a_j (S_j + N_j)`` over the
honest clients of the sum, where ``S_j`` is the clipped sum, ``N_j`` its noise of standard deviation
``sigma C``, and ``a_j = x_j w_j / e_j`` the client's weight over its expected batch size, times what it multiplies its learning
rate by. A record of client i
moves this by at most ``a_i C``, and the noise has standard deviation ``sigma C sqrt(sum_j a_j^2)``, so the
effective noise multiplier is ``sigma sqrt(sum_j a_j^2) / a_i``: ``sigma sqrt(k)`` where all ``a_j`` are
equal, which they are for full batches where the mean weights by the number of records; an aggregation that
counts every client the same is covered less, and so are clients that step further than others. The argument needs the noise of the others to enter additively
and afresh in every release; it fails for several local steps (a client goes on from its own noisy model, not
from the sum), for momentum and Adam, for layers and aggregations that change, clip or reject single updates, for rules
other than the weighted mean, and for clients that keep a part of the model to themselves: that part follows the
client's own noise alone, and steers the gradients of all its records in later rounds. How many clients are in a sum
is what a run saw, not what was to be expected.

Epochs. A client that goes through its records in shuffled batches uses each in one step of every epoch, and which
step depends on no record. Given all orders, the steps without a record are the same in both neighbouring runs whatever
went before, so that an epoch costs the record one Gaussian mechanism and R rounds of E epochs cost R E of them; an average
over orders, the same in both runs, costs no more (a divergence is convex in the pair). That the order is secret earns
nothing here: theorems for Poisson batches do not hold for shuffled ones, whose epsilon can be larger (Chua et al.: How
private are DP-SGD implementations?, ICML 2024). A person's k records are reckoned to be in one batch.

Sums of fixed point add numbers that each client rounded first, to the nearest step or at random without bias. A sum of
rounded numbers is no function of the sum, and where the noise of a client is below half a step the others' noise protects
nothing. Let one client's noise have the standard deviation s steps. Its rounded number n has the probability (g * b)(n): the
density g of its noisy number, smoothed by a step (or a triangle) b and read at whole numbers. By Poisson summation the
discrete convolution of k such sequences is the convolution of the densities, read at whole numbers, up to terms of the size
exp(-2 pi^2 s^2 t^2 / (s^2 + t^2)) for the two least noises s and t; and that convolution is the distribution of the rounded
sum of the noisy numbers and of k - 1 independent draws from b, which is post-processing of the noisy sum. From s = t = 4
steps on these terms are below 10^-68, a delta that no budget notices; below that no row counts the others' noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qflsec.accounting import LedgerContext, LedgerRow, Observer, RowWriter, Training
from qflsec.accounting.group_privacy import GroupShare
from qflsec.accounting.rows import SIMULATED
from qflsec.defenses.privacy.bounds import GaussianNoise, gaussian_rows
from qflsec.defenses.privacy.person_rows import person_row

__all__ = ["ExampleNoise", "example_rate", "example_rows", "summed_multiplier"]


_SAMPLING = {
    "full": "none: all records in every step",
    "shuffled": "no credit: each record is in one batch of every epoch, and a step counted here is an epoch",
}
_STEPS = 4.0
"""From so many steps of a grid on, rounding before the sum is as good as after it."""


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
        shares: What each honest client's noisy gradient counts in the sum, a_j.
        k: The number of honest clients in a sum; any k of them that contain the client may be in it.

    Returns:
        The smallest ``sqrt(sum_j a_j^2) / a_i``: ``sqrt(k)`` where the shares are equal.
    """
    worst = math.inf
    for index, own in enumerate(shares):
        if own == 0:  # adds no noise and has no record to protect
            continue
        others = sorted(shares[:index] + shares[index + 1 :])[: k - 1]
        worst = min(worst, math.sqrt(own**2 + sum(other**2 for other in others)) / own)
    return worst


def example_rows(noise: ExampleNoise, context: LedgerContext) -> tuple[LedgerRow, ...]:
    """The rows of this noise against one observer.

    Args:
        noise: The noise.
        context: The observer and the training.
    """
    observer, training = context.observer, context.training
    if not context.honest or not observer.reads_anything:
        return ()
    writer = RowWriter.of(noise.layer, context)
    if training.sampling == "fixed":
        return (writer.not_covered("batches have a fixed size, for which no accountant here holds"),)
    rows = _rows(noise, context)
    rows += _people(noise, context, rows[0])
    k = _mixed(observer, training)
    if k > 1 and training.additive and training.local_steps == 1 and training.sampling != "shuffled":
        coarse = _noise_in_steps(noise, context)
        rows += _rows(noise, context, k=k) if coarse >= _STEPS else (_too_coarse(writer, coarse),)
    finite = "the proof takes numbers as real: floating point is not in it"
    return (*rows, writer.not_covered(finite))


def _people(noise: ExampleNoise, context: LedgerContext, alike: LedgerRow) -> tuple[LedgerRow, ...]:
    """The row for people with several records, by the noise of each client alone: nobody else is trusted."""
    training = context.training
    kinds = training.people.at(context.honest)
    if not kinds:
        return ()
    rate = _rate(training, [training.counts[index] for index in context.honest])
    steps = training.rounds * training.local_steps

    def shares(kind: tuple[int, ...]) -> list[GroupShare]:
        return [GroupShare(records=records, rate=rate, steps=steps) for records in kind]

    return (person_row(alike, noise.noise_multiplier, training.people, kinds, shares),)


def _noise_in_steps(noise: ExampleNoise, context: LedgerContext) -> float:
    """The least noise of an honest client in its weighted update, in steps of the grid; infinite without a grid."""
    training = context.training
    least = min(
        (share for i, share in _shares(context) if training.counts[i]),
        default=0.0,
    )
    released = least * training.learning_rate * noise.noise_multiplier * noise.clip_norm
    # without noise there is nothing to count, and the rows say so
    return released / training.grid if training.grid and noise.noise_multiplier else math.inf


def _too_coarse(writer: RowWriter, steps: float) -> LedgerRow:
    return writer.not_covered(
        f"the noise of one client is {steps:.2g} steps of the aggregation's fixed point: below {_STEPS:g} rounding comes "
        "between the noises, and those of other clients are not counted"
    )


def _mixed(observer: Observer, training: Training) -> int:
    """How many honest clients' noise is in the sum of every round, as far as this observer's rows can count on it.

    A server reads every round's sum as such. Whoever reads differences of models over several rounds, or models
    alone, may face a round of fewer clients than these differences hold: then what the run saw says how many there
    are at least. A party that can drop, alter or invent messages and deviates decides that itself.
    """
    if observer.interferes:
        return 1
    if training.members is None and observer.threat.server and observer.smallest_k:
        return observer.smallest_k
    sure = training.sure_members(observer.clients)
    return min(observer.smallest_k or sure, sure)


def _shares(context: LedgerContext) -> Iterator[tuple[int, float]]:
    """What each honest client's noisy gradient counts in a sum that it is in; whoever is in none adds no noise to any."""
    training = context.training
    taking = None if training.members is None else frozenset().union(*training.members)
    for i in context.honest:
        if taking is None or i in taking:
            yield i, training.factors[i] * training.weights[i] / _expected(training, i)


def _expected(training: Training, index: int) -> float:
    """The expected batch size of a client."""
    count = max(1, training.counts[index])
    return float(count if training.batch_size is None else min(training.batch_size, count))


def example_rate(batch_size: int | None, counts: Sequence[int]) -> float:
    """The largest sampling rate of a client's records: that of the client with the fewest.

    What is released of one client's records costs records of other clients nothing: the epsilon of all clients
    together is the largest of theirs and not the sum. It is that of a record at one client; people who have several,
    or whose record several clients hold, have rows of their own.

    Args:
        batch_size: The expected batch size; None for full batches.
        counts: The number of records of each client.
    """
    return 1.0 if batch_size is None else min(1.0, batch_size / min(filter(None, counts), default=batch_size))


def _rate(training: Training, counts: Sequence[int]) -> float:
    """The rate at which records are drawn into a step, or into an epoch."""
    return example_rate(training.batch_size if training.sampling == "poisson" else None, counts)


def _rows(noise: ExampleNoise, context: LedgerContext, *, k: int = 1) -> tuple[LedgerRow, ...]:
    """The rows for the noise of one client alone, or of the ``k`` honest clients of a sum."""
    observer, training = context.observer, context.training
    counts = [training.counts[index] for index in context.honest]
    rate = _rate(training, counts)
    multiplier, trusted = noise.noise_multiplier, "nobody but the client itself"
    mechanism = (
        f"Gaussian noise on the sum of gradients clipped to L2 norm {noise.clip_norm:g} (the sensitivity), "
    )
    mechanism += f"noise multiplier {multiplier:g}"
    sealed = k > 1 and observer.listens
    if k > 1:
        multiplier *= summed_multiplier(tuple(share for _, share in _shares(context)), k)
        trusted = f"the client itself, and the other {k - 1} honest clients of each sum to add their noise"
        mechanism += f", in a sum over {k} clients at least {multiplier:.4g}"
    return gaussian_rows(
        GaussianNoise(layer=noise.layer, noise_multiplier=multiplier, delta=noise.delta, mechanism=mechanism),
        observer=observer.name,
        rate=rate,
        steps=training.rounds * training.local_steps,
        unit="example",
        units=sum(counts),
        # weights and sampling rates are made of the numbers of records, so a neighbouring run keeps these
        adjacency="zero-out",
        protects="for each record of an honest client (zero-out: take away what the record contributed)",
        # a sum over sealed updates is all that this observer sees only while the seals hold
        assumption="computational" if sealed else "information-theoretic",
        trusted=trusted,
        released=_released(observer),
        sampling=_SAMPLING.get(training.sampling)
        or f"Poisson, rate at most {rate:.4g}, which records were drawn stays with the client",
        notes=(
            SIMULATED if context.seeds.noise else "",
            "numbers of records are public, and stay as they are when a record is taken away",
            "seeded keys: the seals protect nothing" if sealed and context.seeds.secrets else "",
        ),
    )


def _released(observer: Observer) -> str:
    if observer.reads_updates:
        return "single updates and models of all rounds"
    if observer.reads_sums:
        return f"sums over {observer.smallest_k} or more honest clients and models of all rounds"
    return "the final model (accounted as if all rounds were seen)"

"""The copy-aware accountant: from one copy's guarantee to a whole training run's.

Everything here is proved in :mod:`qflsec.protocols.qdp.composition`. Where the noise leaves an outcome that one
record never shows, there is no epsilon, however few the shots: the account says so and gives the delta that is lost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from qflsec.protocols.qdp.approximate import delta_of_epsilon
from qflsec.protocols.qdp.channel import Channel, Complex
from qflsec.protocols.qdp.composition import (
    MOST_COPIES,
    binomial_delta,
    binomial_epsilon,
    composed_epsilon,
    renyi_epsilon,
    renyi_of_outcome,
    renyi_of_pair,
    vertices,
)
from qflsec.protocols.qdp.copies import Copies
from qflsec.protocols.qdp.errors import QdpError
from qflsec.protocols.qdp.pure import epsilon_of_kappa, kappa_of_epsilon, pure_epsilon
from qflsec.protocols.qdp.results import Adjacency, PureEpsilon

__all__ = ["RunAccount", "SingleCopy", "account_run", "single_copy"]

_MOST_OUTCOMES = 8
_SMALLEST_DELTA = 1e-8


@dataclass(frozen=True, kw_only=True, eq=False)
class SingleCopy:
    """What holds for one measured copy, whatever the circuit in front of the noise.

    Attributes:
        pure: The pure epsilon, its upper bound and its witness.
        variation: An upper bound on the change of any outcome's probability.
        variation_reason: What it rests on.
        outcome: For a measurement of two outcomes: the least and the greatest probability of the first, and its
            largest change.
    """

    pure: PureEpsilon
    variation: float
    variation_reason: str
    outcome: tuple[float, float, float] | None = None

    @property
    def epsilon(self) -> float:
        """The pure epsilon that is guaranteed."""
        return self.pure.upper

    @property
    def witness_chances(self) -> tuple[float, float]:
        """The probabilities of an outcome under two adjacent states that the circuit can produce."""
        return self.pure.witness.chances(self.pure.channel)


@dataclass(frozen=True, kw_only=True, eq=False)
class RunAccount:
    """The account of a run for one protected record.

    Attributes:
        single: The guarantee of one copy.
        copies: How many copies are measured.
        delta: The delta of the run.
        pure_epsilon: Pure epsilon of the run, at delta 0: an upper bound.
        lattice_epsilon: By the dominating pair's exact composition: an upper bound; None where it was not computed.
        renyi_epsilon: By Rényi divergences: an upper bound.
        attained_epsilon: What a threshold on the counts of n shots of one circuit attains for the witness: a lower
            bound on the truth.
        epsilon: The least of the upper bounds: the guarantee.
        method: Which of them it is.
        kind: ``"exact"`` where the bounds meet to a millionth, else ``"upper bound"``.
        refusal: Why there is no epsilon; None where there is one.

    Units:
        nats
    """

    single: SingleCopy
    copies: Copies
    delta: float
    pure_epsilon: float
    lattice_epsilon: float | None
    renyi_epsilon: float
    attained_epsilon: float
    epsilon: float
    method: Literal["pure composition", "dominating pair", "Rényi composition", "none"]
    kind: Literal["exact", "upper bound"]
    refusal: str | None

    def check(self) -> float:
        """The delta that the witness attains at ``attained_epsilon``, by the binomial distribution alone."""
        n = self.copies.total
        q, r = self.single.witness_chances
        if n is None or math.isinf(self.attained_epsilon):
            return 1.0 if n is None else _lost(max(binomial_delta(n, q, r, 0), binomial_delta(n, r, q, 0)))
        pairs = [
            pair for first, second in _attainable(self.single) for pair in ((first, second), (second, first))
        ]
        return max(binomial_delta(n, *pair, self.attained_epsilon) for pair in pairs)


def _lost(delta: float) -> float:
    return min(1.0, delta)


def single_copy(
    channel: Channel,
    tau: float,
    *,
    adjacency: Adjacency = "all",
    measurement: Sequence[Complex] | None = None,
    known_kappa: float | None = None,
    known_variation: float | None = None,
    seed: int = 0,
) -> SingleCopy:
    """The guarantee of one copy: pure epsilon and total variation.

    The variation is at most tau (kappa - 1) / (kappa + 1), since a difference of outcomes' probabilities b - a with
    b <= kappa a and 1 - a <= kappa (1 - b) is at most (kappa - 1) / (kappa + 1); for a fixed measurement of few
    outcomes it is computed.

    Args:
        channel: The noise before measurement.
        tau: The trace distance of adjacent states.
        adjacency: Whether adjacent states are all states within tau, or the pure ones.
        measurement: The effects of a fixed measurement; None where the observer may measure anything.
        known_kappa: A proved kappa, see :mod:`qflsec.protocols.qdp.closed_forms`.
        known_variation: A proved variation, such as (1 - p) tau for depolarising noise.
        seed: Of the search.

    Source:
        Nuradha and Wilde, Contraction of private quantum channels and private quantum hypothesis testing, IEEE
        Trans. Inf. Theory 2025 (contraction tanh(epsilon / 2)); derived above.

    Raises:
        QdpError: An argument out of range.
    """
    pure = _from_basis(channel, tau, adjacency, known_kappa) if measurement is None else None
    if pure is None:
        pure = pure_epsilon(
            channel, tau, adjacency=adjacency, measurement=measurement, known_kappa=known_kappa, seed=seed
        )
    outcome = None
    if measurement is not None and len(measurement) <= _MOST_OUTCOMES:
        found = delta_of_epsilon(channel, 0.0, tau, measurement=measurement)
        variation, reason = found.upper, "every set of outcomes"
        if len(measurement) == 2:
            ends = np.linalg.eigvalsh(channel.adjoint(np.asarray(measurement[0])))
            low, high = max(0.0, float(ends[0])), min(1.0, float(ends[-1]))
            outcome = (low, high, tau * (high - low))
    elif math.isinf(pure.upper):
        variation, reason = tau, "trace distance"
    elif pure.upper == 0:
        variation, reason = 0.0, "pure epsilon 0"
    else:
        kappa = kappa_of_epsilon(pure.upper, tau, adjacency=adjacency)
        variation, reason = tau * (kappa - 1) / (kappa + 1), "tau (kappa - 1) / (kappa + 1)"
    if known_variation is not None and known_variation < variation:
        variation, reason = known_variation, "proved closed form"
    return SingleCopy(pure=pure, variation=variation, variation_reason=reason, outcome=outcome)


def _from_basis(
    channel: Channel, tau: float, adjacency: Adjacency, known_kappa: float | None
) -> PureEpsilon | None:
    """The result with a proved kappa, without a search, where an outcome of the computational basis attains it."""
    if known_kappa is None:
        return None
    outcomes = [np.diag(row).astype(np.complex128) for row in np.eye(channel.dimension)]
    pure = pure_epsilon(channel, tau, adjacency=adjacency, measurement=outcomes)
    if pure.kappa != known_kappa and abs(pure.kappa - known_kappa) > 1e-9 * known_kappa:
        return None
    upper = epsilon_of_kappa(max(known_kappa, pure.kappa), tau, adjacency=adjacency)
    return replace(pure, upper=upper, measurement="any", reason="proved closed form")


def account_run(single: SingleCopy, copies: Copies, *, delta: float = 1e-5) -> RunAccount:
    """The epsilon of a run at delta: the least of three proved bounds, beside what a witness attains.

    Args:
        single: The guarantee of one copy.
        copies: How many copies of the protected record the run measures.
        delta: The delta of the run.

    Raises:
        QdpError: An argument out of range.
    """
    if not 0 < delta < 1:
        raise QdpError("bad 'delta'", got=delta, expected="between 0 and 1")
    n = copies.total
    if n is None or math.isinf(single.epsilon):
        return _refused(single, copies, delta)
    if single.epsilon == 0 or single.variation == 0:
        return _result(single, copies, delta, (0.0, None, 0.0, 0.0))
    pure = n * single.epsilon
    lattice = None
    if n <= MOST_COPIES and delta >= _SMALLEST_DELTA:
        lattice = composed_epsilon(n, single.epsilon, single.variation, delta)
    divergences = renyi_of_pair(single.epsilon, single.variation)
    if single.outcome is not None:  # both bound every order, and the smaller does too
        divergences = np.minimum(divergences, renyi_of_outcome(*single.outcome))
    renyi = renyi_epsilon(n, divergences, delta)
    return _result(single, copies, delta, (pure, lattice, renyi, _attained(single, n, delta)))


def _attainable(single: SingleCopy) -> tuple[tuple[float, float], ...]:
    """Pairs of an outcome's probabilities that adjacent states have."""
    if single.outcome is None or single.pure.adjacency == "pure":
        return (single.witness_chances,)
    return vertices(*single.outcome)


def _attained(single: SingleCopy, n: int, delta: float) -> float:
    return max(binomial_epsilon(n, q, r, delta) for q, r in _attainable(single))


def _result(
    single: SingleCopy, copies: Copies, delta: float, found: tuple[float, float | None, float, float]
) -> RunAccount:
    pure, lattice, renyi, attained = found
    bounds: dict[Literal["pure composition", "dominating pair", "Rényi composition"], float] = {
        "pure composition": pure,
        "dominating pair": math.inf if lattice is None else lattice,
        "Rényi composition": renyi,
    }
    method = min(bounds, key=lambda name: bounds[name])
    best = bounds[method]
    return RunAccount(
        single=single,
        copies=copies,
        delta=delta,
        pure_epsilon=pure,
        lattice_epsilon=lattice,
        renyi_epsilon=renyi,
        attained_epsilon=min(attained, best),
        epsilon=best,
        method=method,
        kind="exact" if best - attained <= 1e-6 * best else "upper bound",
        refusal=None,
    )


def _refused(single: SingleCopy, copies: Copies, delta: float) -> RunAccount:
    """No finite epsilon, and why; with few enough copies, total variation alone may stay below delta."""
    n = copies.total
    epsilon, lattice, reason = math.inf, math.inf, ""
    if n is None:
        reason = (
            "an analytic expectation value is the limit of infinitely many copies: noise on it protects nothing; "
            "release finite shots"
        )
    else:
        lost = -math.expm1(n * math.log1p(-single.variation)) if single.variation < 1 else 1.0
        if lost <= delta:
            epsilon = lattice = 0.0
        known = "at least" if single.pure.epsilon == math.inf else "up to"
        reason = (
            "the noise leaves no floor under the outcomes' probabilities, and shot noise alone is not differentially "
            f"private: over {n:,} copies delta is {known} {_floorless(single, n):.6g} at every epsilon"
        )
    return RunAccount(
        single=single,
        copies=copies,
        delta=delta,
        pure_epsilon=math.inf,
        lattice_epsilon=lattice,
        renyi_epsilon=math.inf,
        attained_epsilon=0.0
        if epsilon == 0
        else single.pure.epsilon
        if n is None
        else _worst(single, n, delta),
        epsilon=epsilon,
        method="none" if math.isinf(epsilon) else "dominating pair",
        kind="upper bound",
        refusal=reason if math.isinf(epsilon) else None,
    )


def _floorless(single: SingleCopy, n: int) -> float:
    q, r = single.witness_chances
    return (
        max(binomial_delta(n, q, r, 0.0), binomial_delta(n, r, q, 0.0))
        if min(q, r) > 1e-12
        else _never(q, r, n)
    )


def _never(q: float, r: float, n: int) -> float:
    seen = max(q, r)
    return -math.expm1(n * math.log1p(-seen)) if seen < 1 else 1.0


def _worst(single: SingleCopy, n: int, delta: float) -> float:
    """Infinite where the witness shows an outcome that the other state never shows, more often than delta."""
    q, r = single.witness_chances
    if min(q, r) <= 1e-12:
        return math.inf if _never(q, r, n) > delta else 0.0
    return binomial_epsilon(n, q, r, delta)

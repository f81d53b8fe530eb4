r"""Composition of many copies: what n measured copies of one record tell.

*Setting.* The noise comes last before each measurement, so that whatever the circuit in front (parameters move
between shots and rounds, chosen from earlier outcomes), adjacent records give adjacent states before the noise:
gates preserve the trace distance, and channels do not raise it. Every copy, given all earlier outcomes, is then
bounded by the same single-copy epsilon e and the same total variation d (the largest difference of an outcome's
probability). Both have to hold for every circuit; with a floor of the noise they do.

*Pure.* Ratios of conditional probabilities multiply: n e. If e bounds every measurement, N(rho) <= exp(e) N(sigma)
as operators; tensor products of such inequalities hold too, so that n e covers an observer who keeps all copies and
measures them together. The figures with a delta below cover copies that are measured one by one.

*Dominating pair.* The hockey-stick curve g -> sup E_g of one copy is convex, at most d at g = 1 and 0 from exp(e) on;
it lies below the chord. The chord is the curve of a pair of distributions on three outcomes,

    P = (c + d, 1 - 2 c - d, c),   Q = (c, 1 - 2 c - d, c + d),   c = d / (exp(e) - 1),

whose second half, g < 1, follows from E_g(P||Q) = 1 - g + g E_{1/g}(Q||P) and the symmetry of adjacency. A pair whose
curve is nowhere lower can be turned into the other by a random map that does not know which hypothesis holds
(Blackwell; in this form Kairouz, Oh and Viswanath 2015). Applied copy by copy, with maps that depend on earlier
outcomes, n independent draws from the pair turn into the whole adaptive run: what bounds the draws bounds the run.
The n-fold loss lies on a lattice and its distribution is exact.

*Renyi.* For alpha > 1 the functional sum P^alpha Q^(1 - alpha) is jointly convex in (P, Q), and a yes-no outcome's
(P, Q) is affine in the pair of probabilities (q, r). The feasible pairs, low <= q, r <= high and |q - r| <= d, form a
polygon, so that the maximum lies at one of its vertices: (low, low + d), (high, high - d) and their reverses (the two
on the diagonal give 0). Renyi divergences of adaptive steps add up, so n times the maximum bounds the run.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from qflsec.accounting.gaussian import epsilon_of_mu
from qflsec.protocols.qdp.errors import QdpError

__all__ = [
    "MOST_COPIES",
    "binomial_delta",
    "binomial_epsilon",
    "composed_delta",
    "composed_epsilon",
    "gaussian_epsilon",
    "mixed_vertices_delta",
    "renyi_epsilon",
    "renyi_of_outcome",
    "renyi_of_pair",
    "vertices",
]

Floats = npt.NDArray[np.float64]
MOST_COPIES = 2_000_000
"""Copies up to which the lattice is computed."""
_ORDERS: Floats = 1 + np.logspace(-4, 4, 801)
_MARGIN = 1e-12
"""Added to delta times sqrt(n): more than the rounding of the transform."""


def _pair(epsilon: float, variation: float) -> tuple[float, float, float]:
    """The dominating pair's weights of loss +, 0, - under P."""
    if not epsilon > 0 or not 0 <= variation <= 1:
        raise QdpError("bad single-copy guarantee", got=f"epsilon {epsilon}, variation {variation}")
    d = min(variation, math.tanh(epsilon / 2))
    c = 0.0 if math.isinf(epsilon) or epsilon > 700 else d / math.expm1(epsilon)
    return c + d, max(0.0, 1 - 2 * c - d), c


def _losses(n: int, epsilon: float, variation: float) -> Floats:
    """The probability under P of a total loss of k epsilon, for k from -n to n."""
    up, still, down = _pair(epsilon, variation)
    size = 2 * n + 1
    z = np.exp(-2j * np.pi * np.fft.rfftfreq(size))
    power = np.power(
        up * z * z + still * z + down, n
    )  # the generating function, shifted by n to start at k = -n
    return np.clip(np.fft.irfft(power, size), 0.0, None)


def composed_delta(n: int, epsilon: float, variation: float, at: float) -> float:
    """The delta of n adaptive copies at the epsilon ``at``, from above.

    Args:
        n: Copies.
        epsilon: Pure epsilon of one copy; infinite where there is no floor.
        variation: The largest difference of an outcome's probability for one copy.
        at: The epsilon of the run.

    Raises:
        QdpError: Too many copies, or an argument out of range.
    """
    _check_copies(n)
    if math.isinf(epsilon):
        return -math.expm1(n * math.log1p(-variation)) if variation < 1 else 1.0
    return _delta_of(_losses(n, epsilon, variation), n, epsilon, at)


def _delta_of(losses: Floats, n: int, epsilon: float, at: float) -> float:
    loss = epsilon * np.arange(-n, n + 1)
    gain = -np.expm1(np.minimum(at - loss, 0.0))
    return min(1.0, float(losses @ gain) + _MARGIN * math.sqrt(n))


def composed_epsilon(n: int, epsilon: float, variation: float, delta: float) -> float:
    """The epsilon of n adaptive copies at delta, from above; infinite without a floor.

    Without a floor (``epsilon`` infinite) the pair's delta is 1 - (1 - d)^n at every epsilon.

    Source:
        Zhu, Dong and Wang, Optimal accounting of differential privacy via characteristic function, AISTATS 2022
        (dominating pairs compose); the proof and the pair are derived above.

    Raises:
        QdpError: Too many copies, or a delta too small for the arithmetic.
    """
    _check_copies(n)
    _check_delta(delta)
    if math.isinf(epsilon):
        return 0.0 if composed_delta(n, epsilon, variation, 0.0) <= delta else math.inf
    if delta < 100 * _MARGIN * math.sqrt(n):
        raise QdpError(
            "delta is too small for the exact lattice", got=delta, fix="use the Rényi or the pure figure"
        )
    losses = _losses(n, epsilon, variation)
    return _least_epsilon(lambda at: _delta_of(losses, n, epsilon, at), delta, n * epsilon)


def renyi_of_pair(epsilon: float, variation: float, orders: Floats = _ORDERS) -> Floats:
    """The Rényi divergences of the dominating pair, which bound one copy under any measurement."""
    up, still, down = _pair(epsilon, variation)
    with np.errstate(divide="ignore", over="ignore"):
        terms = np.stack(
            [
                math.log(up) + (orders - 1) * epsilon,
                np.full_like(orders, math.log(still) if still > 0 else -math.inf),
                (math.log(down) if down > 0 else -math.inf) - (orders - 1) * epsilon,
            ]
        )
        return np.asarray(np.logaddexp.reduce(terms, axis=0) / (orders - 1), dtype=np.float64)


def vertices(low: float, high: float, change: float) -> tuple[tuple[float, float], ...]:
    """The vertices, off the diagonal, of the pairs of probabilities that a yes-no outcome can have.

    Raises:
        QdpError: They are no probabilities, or the outcome has no floor.
    """
    if not (0 <= low <= high <= 1 and 0 <= change <= high - low + 1e-12):
        raise QdpError("bad range of an outcome's probability", got=f"{low} to {high}, change {change}")
    if low <= 0 or high >= 1:
        raise QdpError(
            "shot noise alone is not differentially private: an outcome that one record never shows tells it apart",
            got=f"probabilities from {low:g} to {high:g}",
            expected="a floor above 0 and a ceiling below 1, such as depolarising noise before measurement gives",
            fix=f"with n shots delta is at least 1 - (1 - {change:g})^n at every epsilon",
        )
    pairs = ((low, low + change), (high, high - change))
    return (*pairs, *((r, q) for q, r in pairs))


def renyi_of_outcome(low: float, high: float, change: float, orders: Floats = _ORDERS) -> Floats:
    """The largest Rényi divergences of one copy's yes-no outcome, at the polygon's vertices."""
    values = []
    for q, r in vertices(low, high, change):
        yes = orders * math.log(q) + (1 - orders) * math.log(r)
        no = orders * math.log1p(-q) + (1 - orders) * math.log1p(-r)
        values.append(np.logaddexp(yes, no) / (orders - 1))
    return np.asarray(np.max(values, axis=0), dtype=np.float64)


def renyi_epsilon(n: int, divergences: Floats, delta: float, orders: Floats = _ORDERS) -> float:
    """Epsilon at delta of n copies from the Rényi divergences of one.

    Source:
        Canonne, Kamath and Steinke, The discrete Gaussian for differential privacy, NeurIPS 2020, proposition 12.
    """
    _check_delta(delta)
    spent = n * divergences + np.log1p(-1 / orders) - (math.log(delta) + np.log(orders)) / (orders - 1)
    return max(0.0, float(np.nanmin(spent)))


def binomial_delta(n: int, q: float, r: float, epsilon: float) -> float:
    """The delta between the counts of n shots with probabilities q and r, exactly; one direction.

    The ratio of the two distributions is monotone in the count, so that a threshold on the count is the best test
    (Neyman and Pearson). Terms of less than 1e-300 are left out.
    """
    from scipy.stats import binom

    if q < r:
        return binomial_delta(n, 1 - q, 1 - r, epsilon)
    if q == r:
        return 0.0
    if q >= 1:
        return max(0.0, -math.expm1(epsilon + n * math.log(r))) if r > 0 else 1.0
    if r <= 0:
        return -math.expm1(n * math.log1p(-q))
    yes, no = math.log(q / r), math.log1p(-q) - math.log1p(-r)
    tail = max(0, math.ceil((epsilon - n * no) / (yes - no) - 1e-12))
    window = max(tail, math.ceil(n * q)) + 60 * math.ceil(math.sqrt(n * q * (1 - q))) + 200
    counts = np.arange(tail, min(n, window) + 1)
    gain = -np.expm1(np.minimum(epsilon - counts * yes - (n - counts) * no, 0.0))
    return float(binom.pmf(counts, n, q) @ gain)


def binomial_epsilon(n: int, q: float, r: float, delta: float) -> float:
    """The epsilon at delta between the counts of n shots with probabilities q and r: exact for this pair.

    What a threshold on the count attains, in the worse direction. For all pairs within a floor it is a lower bound.

    Raises:
        QdpError: One of the two never shows an outcome that the other shows more often than delta allows.
    """
    _check_delta(delta)

    def spent(at: float) -> float:
        return max(binomial_delta(n, q, r, at), binomial_delta(n, r, q, at))

    if spent(0.0) <= delta:
        return 0.0
    low, high = min(q, r), max(q, r)
    vertices(low, high, high - low)
    return _least_epsilon(spent, delta, n * max(math.log(high / low), math.log1p(-low) - math.log1p(-high)))


def mixed_vertices_delta(n: int, low: float, change: float, epsilon: float) -> float:
    """The exact supremum of delta over n copies whose circuits are fixed beforehand and may all differ.

    The outcome's probability lies within ``low`` and 1 - ``low``. The product of the copies' distributions is affine
    in each copy's pair for fixed others, and E_g is jointly convex, so that each copy's pair may be moved to a vertex:
    j copies at (low + d, low) and n - j at (low, low + d), up to names of outcomes. All j are tried. Circuits that
    depend on earlier outcomes are bounded by :func:`composed_delta` instead.
    """
    from scipy.stats import binom

    vertices(low, 1 - low, change)
    q, r = low + change, low
    yes, no = math.log(q / r), math.log1p(-q) - math.log1p(-r)
    best = 0.0
    for j in range(n + 1):
        first, second = np.arange(j + 1)[:, None], np.arange(n - j + 1)[None, :]
        loss = first * yes + (j - first) * no - second * yes - (n - j - second) * no
        weight = binom.pmf(first, j, q) * binom.pmf(second, n - j, r)
        best = max(best, float((weight * -np.expm1(np.minimum(epsilon - loss, 0.0))).sum()))
    return best


def gaussian_epsilon(n: int, q: float, change: float, delta: float) -> float:
    """The epsilon of shot noise taken for Gaussian noise: AN APPROXIMATION that can fall below the truth.

    With mu = change sqrt(n / (q (1 - q))) as for Gaussian noise; here to be compared with, never a guarantee.

    Source:
        Dong, Roth and Su, Gaussian differential privacy, JRSS B 84, 2022, corollary 1.
    """
    _check_delta(delta)
    return epsilon_of_mu(change * math.sqrt(n / (q * (1 - q))), delta)


def _least_epsilon(spent: Callable[[float], float], delta: float, most: float) -> float:
    """The least epsilon whose delta is small enough; rounded up."""
    from scipy.optimize import bisect

    if spent(0.0) <= delta:
        return 0.0
    if spent(most) > delta:
        return most
    return float(bisect(lambda at: spent(at) - delta, 0.0, most, xtol=1e-9, rtol=1e-12)) + 2e-9


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise QdpError("bad 'delta'", got=delta, expected="between 0 and 1")


def _check_copies(n: int) -> None:
    if not 1 <= n <= MOST_COPIES:
        raise QdpError("bad number of copies", got=n, expected=f"1 to {MOST_COPIES:,}")

"""GHZ states as a resource: visibility and error under noise, and what tests of the resource catch.

A random element of the stabiliser group of the GHZ state is measured on a copy: with probability 1/2 a product of
Z on an even set of qubits, otherwise X on all qubits with Y in place of X on an even set. The mean of the
projections on +1 over all ``2^n`` elements is ``(1 + |GHZ><GHZ|) / 2``, so that *every* state passes with
probability ``(1 + F) / 2``, where F is its fidelity with the GHZ state. A product state on the equator has F at most
``2^(1 - n)``.

Source:
    Pappa, Chailloux, Wehner, Diamanti, Kerenidis: Multipartite entanglement verification resistant against dishonest
    parties, PRL 108, 260502 (2012), arXiv:1112.5064, the test of angles that add up to a multiple of pi;
    Markham, Krause: A simple protocol for certifying graph states and applications in quantum networks,
    Cryptography 4(1), 3 (2020), arXiv:1801.05057, random elements of the stabiliser group.
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "escape_probability",
    "failure_rate",
    "ghz_fidelity",
    "product_failure_rate",
    "rmse",
    "rmse_one_quadrature",
    "untested_failure_bound",
    "visibility",
]


def visibility(n: int, depolarising: float) -> float:
    """The factor on the mean parity when each of ``n`` qubits is depolarised: ``(1 - p)^n``."""
    return (1.0 - depolarising) ** n


def ghz_fidelity(n: int, depolarising: float) -> float:
    """The fidelity of a GHZ state with itself after each qubit is replaced by a random one with probability p.

    Half of it are the populations of ``|0...0>`` and ``|1...1>``, ``(1 - p/2)^n + (p/2)^n``, half the coherence
    between them, ``(1 - p)^n``.
    """
    kept, flipped = 1.0 - depolarising / 2.0, depolarising / 2.0
    return 0.5 * (kept**n + flipped**n + visibility(n, depolarising))


def failure_rate(fidelity: float) -> float:
    """The probability that a random stabiliser test fails on a state: ``(1 - F) / 2``."""
    return 0.5 * (1.0 - fidelity)


def product_failure_rate(n: int) -> float:
    """The same for the product state ``|+>^n``: ``(1 - 2^(1 - n)) / 2``; no product state on the equator fails less."""
    return failure_rate(2.0 ** (1 - n))


def escape_probability(n: int, *, tests: int, allowed: int, fraction: float) -> float:
    """The probability that a source passes which hands out ``|+>^n`` in a fraction of the copies.

    Each copy is bad independently, the tests are a random choice of copies, and the good ones never fail; noise in
    them only makes the source fail more.

    Args:
        n: The number of clients.
        tests: The number of tests.
        allowed: The number of failures that is tolerated.
        fraction: The fraction of bad copies.
    """
    from scipy.stats import binom

    return float(binom.cdf(allowed, tests, fraction * product_failure_rate(n)))


def untested_failure_bound(*, copies: int, tests: int, allowed: int, epsilon: float) -> float:
    """The largest share of the untested copies that would fail a test, but for ``epsilon``, whatever the source does.

    Had every copy been tested, some K of them would have failed; which ones were tested is drawn when the states are
    there. A source with so large a K that ``allowed`` failures or fewer among the tests have a probability of at most
    ``epsilon`` passes with no more than that. The copies may depend on each other in any way. Twice the share bounds
    the mean infidelity of the untested copies in expectation.

    Args:
        copies: The number of copies.
        tests: How many of them are tested.
        allowed: How many failures are tolerated.
        epsilon: The probability with which the statement may be wrong.
    """
    from scipy.stats import hypergeom

    low, high = allowed, copies  # passing is likelier than epsilon at low, and not at high
    if hypergeom.cdf(allowed, copies, copies, tests) > epsilon:
        return 1.0
    while high - low > 1:
        middle = (low + high) // 2
        if hypergeom.cdf(allowed, copies, middle, tests) > epsilon:
            low = middle
        else:
            high = middle
    return min(1.0, low / (copies - tests)) if copies > tests else 0.0


def rmse_one_quadrature(total: float, *, n: int, depolarising: float, shots: int) -> float:
    """The error of a sum of angles that is read from the sine alone, to first order in ``1 / shots``.

    Units:
        radians
    """
    v = visibility(n, depolarising)
    return float(np.sqrt(1 - (v * np.sin(total)) ** 2) / (v * abs(np.cos(total)) * np.sqrt(shots)))


def rmse(total: float, *, n: int, depolarising: float, shots: int) -> float:
    """The error of a sum of angles that is read from both quadratures, to first order in ``1 / shots``.

    With means a and b of variance ``(1 - a^2) / shots`` and ``(1 - b^2) / shots``, the phase of ``a + ib`` has the
    variance ``(1 - 2 v^2 sin^2 cos^2) / (v^2 shots)``.

    Args:
        total: The sum.
        n: The number of clients.
        depolarising: The probability with which a qubit is replaced by a random one.
        shots: Copies for each quadrature.

    Units:
        radians
    """
    v = visibility(n, depolarising)
    cross = np.sin(total) * np.cos(total)
    return float(np.sqrt((1 - 2 * (v * cross) ** 2) / shots) / v)

"""Closed forms of teleportation through Werner pairs p |Phi+><Phi+| + (1 - p) I / 4, and of reading an angle off copies.

A pair's fidelity with |Phi+> is (1 + 3 p) / 4. Teleportation through it shrinks a qubit's Bloch vector by p, whatever the
state, and both classical bits are uniform.
"""

from __future__ import annotations

import math

from scipy.stats import binom

__all__ = ["angle_rmse", "chsh_threshold", "chsh_value", "ghz_fidelity", "haar_fidelity", "product_fidelity"]


def product_fidelity(p: float, n: int = 1) -> float:
    """Of a product of n pure qubits, each through a pair of its own: ((1 + p) / 2)^n."""
    return float(((1 + p) / 2) ** n)


def ghz_fidelity(p: float, n: int) -> float:
    """Of a GHZ state of n qubits: [((1 + p) / 2)^n + ((1 - p) / 2)^n + p^n] / 2, for n of at least 2."""
    return float((((1 + p) / 2) ** n + ((1 - p) / 2) ** n + p**n) / 2)


def haar_fidelity(p: float, n: int) -> float:
    """The mean over pure states of n qubits: (d F_e + 1) / (d + 1), d = 2^n, with the entanglement fidelity F_e = ((1 + 3 p) / 4)^n.

    Source:
        Nielsen: A simple formula for the average gate fidelity of a quantum dynamical operation, Physics Letters A 303, 2002.
    """
    return float((2**n * ((1 + 3 * p) / 4) ** n + 1) / (2**n + 1))


def chsh_value(p: float, *, tapped: float = 0.0) -> float:
    """The CHSH value of such pairs, 2 sqrt(2) p, less where a share is measured on its way in Z or X: (1 - tapped / 2) times it."""
    return 2 * math.sqrt(2) * p * (1 - tapped / 2)


def chsh_threshold(p: float, pairs: int, false_alarm: float) -> float:
    """The largest estimate of the CHSH value at which a test on so many pairs says that they are worse than Werner pairs of weight p.

    Outcomes agree as they should with probability a = (1 + p / sqrt 2) / 2 in each of the four settings, so that their number is
    binomial and S = 8 k / pairs - 4 with k agreements. The test fails where P(K <= k) is at most ``false_alarm``; exact.

    Args:
        p: The weight of the pairs that are promised.
        pairs: The pairs of all four settings together.
        false_alarm: How often good pairs may fail.
    """
    agree = (1 + p / math.sqrt(2)) / 2
    least = int(binom.ppf(false_alarm, pairs, agree))  # the first k whose probability reaches the rate
    worst = least if binom.cdf(least, pairs, agree) <= false_alarm else least - 1
    return 8 * worst / pairs - 4


def angle_rmse(p: float, copies: int) -> float:
    """The root mean squared error of an angle that is uniform on the circle, by atan2 of the means of half the copies each.

    rms^2 = (1 - p^2 / 4) / (p^2 copies / 2): the error is that of both means across the Bloch vector over its length p, whose
    variance is (1 - 2 p^2 sin^2 cos^2) / (p^2 copies / 2); the mean of 2 sin^2 cos^2 over the circle is 1/4. For few copies the
    error is larger.

    Units:
        radians
    """
    return math.sqrt((1 - p**2 / 4) / (p**2 * copies / 2))

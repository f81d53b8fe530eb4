r"""Pure epsilon of a channel, exact for every channel whose kappa is known.

Let E = N^dagger(M) be an effect before the channel, with extreme eigenvalues a <= b and kappa = b / a.

*All states within trace distance tau.* Tr(E rho) / Tr(E sigma) = 1 + Tr(E (rho - sigma)) / Tr(E sigma). The
numerator is at most tau (b - a), since rho - sigma is tau' <= tau times a difference of states, and the
denominator at least a: the ratio is at most 1 + tau (kappa - 1). It is attained by sigma = |min><min| and
rho = (1 - tau) |min><min| + tau |max><max|. Hence epsilon = ln[1 + tau (kappa - 1)] with the largest kappa.

*Pure states within trace distance tau.* Two pure states span a plane, in which E has eigenvalues within [a, b];
their chances depend on their heights cos(alpha), cos(beta) on the Bloch sphere about E's axis, and
|sin((alpha - beta) / 2)| <= tau. With c = (a + b) / 2 and d = (b - a) / 2, the ratio
(c + d cos alpha) / (c + d cos beta) at alpha, beta = mu -+ asin(tau) is (1 + y) / (1 - y), with
y = d tau sin mu / (c + d sqrt(1 - tau^2) cos mu), which is largest at cos mu = -d sqrt(1 - tau^2) / c. There
y / sqrt(1 - y^2) = d tau / sqrt(c^2 - d^2) = tau (kappa - 1) / (2 sqrt(kappa)), and epsilon = 2 artanh y. It grows
with kappa and with tau.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from qflsec.protocols.qdp.certificate import certified_kappa
from qflsec.protocols.qdp.channel import Channel, Complex
from qflsec.protocols.qdp.errors import QdpError
from qflsec.protocols.qdp.kappa import Kappa, kappa_of_effects, search_kappa
from qflsec.protocols.qdp.results import Adjacency, PureEpsilon, Status, Witness

__all__ = ["check_tau", "epsilon_of_kappa", "kappa_of_epsilon", "pure_epsilon"]

_AGREE = 1e-6


def check_tau(tau: float) -> float:
    """A trace distance.

    Raises:
        QdpError: It is none.
    """
    if not 0 < tau <= 1:
        raise QdpError("bad trace distance 'tau'", got=tau, expected="above 0, at most 1")
    return float(tau)


def epsilon_of_kappa(kappa: float, tau: float, *, adjacency: Adjacency = "all") -> float:
    """Pure epsilon from kappa.

    Source:
        Zhou and Ying, Differential privacy in quantum computation, CSF 2017, for depolarising noise, which the
        first formula contains; the proofs of both are above.

    Units:
        nats
    """
    check_tau(tau)
    if adjacency not in ("all", "pure"):
        raise QdpError("unknown adjacency", got=repr(adjacency), expected="'all' or 'pure'")
    if math.isinf(kappa):
        return math.inf
    if adjacency == "all":
        return math.log1p(tau * (kappa - 1))
    return 2 * math.asinh(tau * (kappa - 1) / (2 * math.sqrt(kappa)))


def kappa_of_epsilon(epsilon: float, tau: float, *, adjacency: Adjacency = "all") -> float:
    """The kappa with a pure epsilon: what noise has to reach."""
    check_tau(tau)
    if not epsilon > 0:
        raise QdpError("bad epsilon", got=epsilon, expected="above 0")
    if adjacency == "all":
        return 1 + math.expm1(epsilon) / tau
    half = math.sinh(epsilon / 2) / tau
    return (half + math.hypot(half, 1)) ** 2


def pure_epsilon(
    channel: Channel,
    tau: float,
    *,
    adjacency: Adjacency = "all",
    measurement: Sequence[Complex] | None = None,
    known_kappa: float | None = None,
    seed: int = 0,
) -> PureEpsilon:
    """The pure epsilon of one copy, with a pair of states that attains it.

    Args:
        channel: The noise, with every gate between the data and the measurement that matters.
        tau: The trace distance of adjacent states.
        adjacency: Whether adjacent states are all states within tau, or the pure ones.
        measurement: The effects of a fixed measurement; None where the observer may measure anything.
        known_kappa: A proved kappa, from :mod:`qflsec.protocols.qdp.closed_forms`.
        seed: Of the search.

    Raises:
        QdpError: An argument out of range.
    """
    check_tau(tau)
    if measurement is not None:
        found, upper, reason = kappa_of_effects(channel, measurement), math.nan, "eigenvalues of each outcome"
        upper = found.value
    else:
        found = search_kappa(channel, seed=seed)
        if known_kappa is not None:
            upper, reason = known_kappa, "proved closed form"
        elif math.isinf(found.value):
            upper, reason = math.inf, "an outcome that one state never shows"
        else:
            upper, reason = certified_kappa(channel), "eigenvalues of the Choi matrix"
    epsilon = epsilon_of_kappa(found.value, tau, adjacency=adjacency)
    most = epsilon_of_kappa(max(upper, found.value), tau, adjacency=adjacency)
    agree = most == epsilon or most - epsilon <= _AGREE * most
    status: Status = "exact" if agree else "lower bound"
    return PureEpsilon(
        epsilon=epsilon,
        upper=most,
        kappa=found.value,
        tau=tau,
        adjacency=adjacency,
        measurement="any" if measurement is None else "fixed",
        status=status,
        reason=reason,
        witness=_witness(found, tau, adjacency),
        channel=channel,
    )


def _witness(found: Kappa, tau: float, adjacency: Adjacency) -> Witness:
    top, bottom = found.most, found.least
    if adjacency == "all":
        sigma = np.outer(bottom, bottom.conj())
        rho = (1 - tau) * sigma + tau * np.outer(top, top.conj())
        return Witness(rho, sigma, found.effect)
    half = math.asin(tau)
    ratio = 1.0 if math.isinf(found.value) else (found.value - 1) / (found.value + 1)  # d / c
    mu = math.acos(-ratio * math.sqrt(1 - tau**2))
    if math.isinf(found.value):
        mu = math.pi - half  # the second state is |min>, which never shows the outcome
    states = []
    for angle in (mu - half, mu + half):
        vector = math.cos(angle / 2) * top + math.sin(angle / 2) * bottom
        states.append(np.outer(vector, vector.conj()))
    return Witness(states[0], states[1], found.effect)

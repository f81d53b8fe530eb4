r"""Epsilon and delta of a channel: the hockey-stick divergence over adjacent states.

With g = 1 + (e^epsilon - 1) / tau, delta = tau max(0, max over effects M of b - g a), where a and b are the extreme
eigenvalues of N^dagger(M). For, with s <= tau the trace distance, rho - sigma = s (rho' - sigma') for orthogonal
states, and for every effect E before the channel Tr E(rho - e^epsilon sigma) = s Tr E rho' - s Tr E sigma' -
(e^epsilon - 1) Tr E sigma <= s b - s a - (e^epsilon - 1) a, which grows with s, and is attained at s = tau by
rho' = |max>, sigma' = sigma = |min>, which are orthogonal. The maximum over M of b - g a is the contraction
coefficient of the divergence E_g over orthogonal pure pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from qflsec.base import numpy_stream
from qflsec.protocols.qdp.channel import Channel, Complex
from qflsec.protocols.qdp.errors import QdpError
from qflsec.protocols.qdp.kappa import check_measurement
from qflsec.protocols.qdp.pure import check_tau
from qflsec.protocols.qdp.results import Delta, Status, Witness

__all__ = ["delta_of_epsilon"]

_STARTS = 48
_STEPS = 1000
_MOST_OUTCOMES = 12
_AGREE = 1e-6


def delta_of_epsilon(
    channel: Channel,
    epsilon: float,
    tau: float,
    *,
    measurement: Sequence[Complex] | None = None,
    known_delta: float | None = None,
    seed: int = 0,
) -> Delta:
    """The delta of one copy at an epsilon, for all states within tau.

    For a fixed measurement every set of outcomes is tried, and delta is exact. For any measurement a search gives
    what its witness attains, which is a lower bound; without a closed form, the upper bound is the trace
    distance, and a pure epsilon with delta = 0 may be the better guarantee.

    Args:
        channel: The noise.
        epsilon: At which epsilon.
        tau: The trace distance of adjacent states.
        measurement: The effects of a fixed measurement; None where the observer may measure anything.
        known_delta: A proved value, from :mod:`qflsec.protocols.qdp.closed_forms`.
        seed: Of the search.

    Source:
        Hirche, Rouze and Stilck Franca, Quantum differential privacy: an information theory perspective, IEEE
        Trans. Inf. Theory 69, 2023 (divergence and contraction coefficient); the reduction to one effect is
        derived above.

    Raises:
        QdpError: An argument out of range, or a measurement with more outcomes than can be enumerated.
    """
    check_tau(tau)
    if not epsilon >= 0:
        raise QdpError("bad epsilon", got=epsilon, expected="at least 0")
    g = 1 + math.expm1(epsilon) / tau
    if measurement is not None:
        effect = _best_set(channel, check_measurement(channel, measurement), g)
        witness = _witness(channel, effect, tau)
        upper, reason = math.nan, "every set of outcomes"
    else:
        witness = _witness(channel, _search(channel, g, seed), tau)
        upper = tau if known_delta is None else known_delta
        reason = "trace distance" if known_delta is None else "proved closed form"
    first, second = witness.chances(channel)
    delta = max(0.0, first - math.exp(epsilon) * second)
    upper = delta if measurement is not None else max(upper, delta)
    status: Status = "exact" if upper - delta <= _AGREE * max(upper, 1e-9) else "lower bound"
    return Delta(
        delta=delta,
        upper=upper,
        epsilon=epsilon,
        tau=tau,
        measurement="any" if measurement is None else "fixed",
        status=status,
        reason=reason,
        witness=witness,
        channel=channel,
    )


def _gain(channel: Channel, effect: Complex, g: float) -> float:
    values = np.linalg.eigvalsh(channel.adjoint(effect))
    return float(values[-1] - g * values[0])


def _best_set(channel: Channel, effects: tuple[Complex, ...], g: float) -> Complex:
    if len(effects) > _MOST_OUTCOMES:
        raise QdpError(
            "too many outcomes to try every set",
            got=len(effects),
            expected=f"at most {_MOST_OUTCOMES}",
            fix="take measurement=None, which bounds every measurement",
        )
    sets = [
        np.sum(chosen, axis=0)
        for size in range(1, len(effects) + 1)
        for chosen in combinations(effects, size)
    ]
    return max(sets, key=lambda effect: _gain(channel, effect, g))


def _search(channel: Channel, g: float, seed: int) -> Complex:
    """Ascent: the extreme states of an effect, then the best effect for that pair."""
    rng, size = numpy_stream(seed, "delta"), channel.dimension
    best, value = np.zeros((size, size), dtype=np.complex128), 0.0
    for start in range(_STARTS):
        rank = 1 + start % (size - 1)
        raw = rng.normal(size=(size, rank)) + 1j * rng.normal(size=(size, rank))
        basis = np.linalg.qr(raw)[0]
        effect: Complex = basis @ basis.conj().T
        before = -math.inf
        for _ in range(_STEPS):
            values, vectors = np.linalg.eigh(channel.adjoint(effect))
            gain = float(values[-1] - g * values[0])
            if gain <= before + 1e-15:
                break
            before = gain
            top, bottom = vectors[:, -1], vectors[:, 0]
            difference = channel(np.outer(top, top.conj())) - g * channel(np.outer(bottom, bottom.conj()))
            found, directions = np.linalg.eigh(difference)
            positive = directions[:, found > 0]
            if not positive.shape[1]:
                break
            effect = positive @ positive.conj().T
        gain = _gain(channel, effect, g)
        if gain > value:
            best, value = effect, gain
    return best


def _witness(channel: Channel, effect: Complex, tau: float) -> Witness:
    _, vectors = np.linalg.eigh(channel.adjoint(effect))
    sigma: Complex = np.outer(vectors[:, 0], vectors[:, 0].conj())
    rho: Complex = (1 - tau) * sigma + tau * np.outer(vectors[:, -1], vectors[:, -1].conj())
    return Witness(rho, sigma, effect)

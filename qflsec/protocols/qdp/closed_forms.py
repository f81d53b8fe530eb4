"""Proved values of kappa and delta, and published formulas that are loose or false.

The proofs are in the docstrings; the tests hold every value against the search and, where there is one, the
certificate. Published formulas that fail are kept under ``published_``, for comparison alone.
"""

from __future__ import annotations

import math

from qflsec.protocols.qdp.errors import QdpError
from qflsec.protocols.qdp.pure import check_tau

__all__ = [
    "delta_global_depolarizing",
    "kappa_generalized_amplitude_damping",
    "kappa_global_depolarizing",
    "kappa_local_depolarizing",
    "kappa_phase_amplitude_damping",
    "kappa_projector_under_global_depolarizing",
    "published_kappa_generalized_amplitude_damping",
    "published_kappa_local_depolarizing",
    "published_kappa_phase_amplitude_damping",
]


def _share(p: float) -> float:
    if not 0 <= p <= 1:
        raise QdpError("'p' is a probability", got=p, expected="0 to 1")
    return float(p)


def _ratio(r: float) -> float:
    """(1 + r) / (1 - r), infinite at r = 1."""
    return math.inf if r >= 1 else (1 + r) / (1 - r)


def kappa_global_depolarizing(n_qubits: int, p: float) -> float:
    """1 + 2^n (1 - p) / p, for any measurement.

    N^dagger(|v><v|) = (1 - p) |v><v| + p / 2^n has the extreme eigenvalues 1 - p + p / 2^n and p / 2^n, whatever v.

    Source:
        Zhou and Ying, CSF 2017, theorem 3, is exact: epsilon = ln[1 + 2^n tau (1 - p) / p].
    """
    return math.inf if _share(p) == 0 else 1 + (1 << n_qubits) * (1 - p) / p


def kappa_projector_under_global_depolarizing(n_qubits: int, rank: int, p: float) -> float:
    """1 + (2^n / r)(1 - p) / p, for an outcome that is a projector of rank r < 2^n.

    A balanced outcome, such as one qubit's bit, has r = 2^(n - 1) and (2 - p) / p, whatever the dimension.
    """
    if not 1 <= rank < (1 << n_qubits):
        raise QdpError("bad rank of a projector", got=rank, expected=f"1 to {(1 << n_qubits) - 1}")
    return math.inf if _share(p) == 0 else 1 + (1 << n_qubits) / rank * (1 - p) / p


def kappa_local_depolarizing(n_qubits: int, p: float) -> float:
    """((2 - p) / p)^n, for noise on each qubit and any measurement.

    <v| N(f) |v> >= (p / 2)^n, from the term in which every qubit is replaced, and at most the largest eigenvalue
    of any output, which is multiplicative for depolarising channels: (1 - p / 2)^n. Product states and effects
    attain both.

    Source:
        King, The capacity of the quantum depolarizing channel, IEEE Trans. Inf. Theory 49, 221, 2003, theorem 1
        (multiplicativity of the maximal output norm).
    """
    return math.inf if _share(p) == 0 else math.pow((2 - p) / p, n_qubits)


def kappa_generalized_amplitude_damping(gamma: float, ground: float) -> float:
    """(1 + t) / (1 - t) with t^2 = (1 - gamma) / (1 - gamma (2 P - 1)^2), for one qubit and any measurement.

    On the Bloch ball the channel maps (x, y, z) to (sqrt(1 - gamma) x, sqrt(1 - gamma) y, (1 - gamma) z + gamma q)
    with q = 2 P - 1. An effect along the unit vector m has the extreme chances (1 + gamma q m_z +- |T m|) / 2, so
    that kappa is (1 + t) / (1 - t) with t the largest |T m| / (1 + gamma q m_z); with z = m_z,
    t^2 = (1 - gamma)(1 - gamma z^2) / (1 + gamma q z)^2, largest at z = -q.
    """
    q = 2 * _share(ground) - 1
    gamma = _share(gamma)
    if gamma == 0 or (gamma < 1 and abs(q) == 1):
        return math.inf
    return _ratio(math.sqrt((1 - gamma) / (1 - gamma * q * q))) if gamma < 1 else 1.0


def kappa_phase_amplitude_damping(gamma: float, lam: float) -> float:
    """(1 + r) / (1 - r), r = max(sqrt((1 - gamma)(1 - lambda)), 1 - gamma), at equal weights of |0> and |1>.

    Without a shift, t is the largest semi-axis of the image of the Bloch ball: the equator's or the poles'.
    """
    gamma, lam = _share(gamma), _share(lam)
    return _ratio(max(math.sqrt((1 - gamma) * (1 - lam)), 1 - gamma))


def delta_global_depolarizing(n_qubits: int, p: float, epsilon: float, tau: float) -> float:
    """max(0, (1 - e^epsilon) p / 2^n + (1 - p) tau), for any measurement.

    An effect M of trace m has b - g a <= (1 - p)(1) + (p m / 2^n)(1 - g) with eigenvalues of M in [0, 1], which falls
    with m, and rank one is best: tau (1 - p) - (e^epsilon - 1) p / 2^n.

    Source:
        Hirche, Rouze and Stilck Franca 2023, lemma for depolarising noise: exact.
    """
    return max(0.0, -math.expm1(epsilon) * _share(p) / (1 << n_qubits) + (1 - p) * check_tau(tau))


def published_kappa_local_depolarizing(n_qubits: int, p: float) -> float:
    """1 + 2^n (1 - p^n) / p^n: an upper bound only, loose from two qubits on."""
    power = math.pow(p, n_qubits)
    return 1 + (1 << n_qubits) * (1 - power) / power


def published_kappa_generalized_amplitude_damping(gamma: float) -> float:
    """1 + 2 sqrt(1 - gamma) / (1 - sqrt(1 - gamma)): right at equal weights alone, else too small, hence unsafe."""
    root = math.sqrt(1 - gamma)
    return 1 + 2 * root / (1 - root)


def published_kappa_phase_amplitude_damping(gamma: float, lam: float) -> float:
    """(1 + r) / (1 - r) with r = sqrt((1 - gamma)(1 - lambda)): too small where lambda > gamma, hence false."""
    return _ratio(math.sqrt((1 - gamma) * (1 - lam)))

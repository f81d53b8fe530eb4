"""An upper bound on kappa that holds for every channel, whatever a search found.

*One qubit.* On the Bloch ball the channel maps r to T r + s. An effect along the unit vector m has the extreme
chances (1 + m.s +- |T' m|) / 2, so that kappa = (1 + t) / (1 - t) with t the smallest number for which
t^2 (1 + m.s)^2 - |T' m|^2 >= 0 on the whole sphere. The minimum of a quadratic over a sphere has a dual without a
gap, so that one number proves the inequality for all m, and the bound is as tight as the arithmetic.

*More qubits.* With s the image of the maximally mixed state, let c s <= N(rho) <= C s for all rho; then kappa <= C / c,
since the chances of an effect M lie between c Tr(M s) and C Tr(M s). In units of s, <v| N(|f><f|) |v> is the
expectation value of the Choi matrix J in a product vector, and of its partial transpose in another. So C is at most
the smaller of the two largest eigenvalues, and c at least the larger of the two smallest. (A mixture of the two
matrices bounds nothing: it averages the values of two different states.) This is tight for depolarising noise.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from qflsec.protocols.qdp.channel import Channel

__all__ = ["certified_kappa"]

Floats = npt.NDArray[np.float64]
_SMALLEST = 1e-14
_ROUNDING = 1e-12
_PAULIS = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])


def certified_kappa(channel: Channel) -> float:
    """An upper bound on kappa over all effects; infinite where none was found.

    Source:
        One qubit: More and Sorensen, Computing a trust region step, SIAM J. Sci. Stat. Comput. 4, 553, 1983 (no
        duality gap on a sphere). More qubits: partial transposition as in Peres, PRL 77, 1413, 1996.
    """
    return _one_qubit(channel) if channel.n_qubits == 1 else _several_qubits(channel)


def _one_qubit(channel: Channel) -> float:
    images = np.stack([channel(pauli) for pauli in _PAULIS])
    turn = np.asarray(np.einsum("iab,jba->ij", _PAULIS, images).real / 2, dtype=np.float64)
    shift = np.asarray(
        np.einsum("iab,ba->i", _PAULIS, channel(np.eye(2, dtype=np.complex128))).real / 2, dtype=np.float64
    )
    if not _dominates(1 - _ROUNDING, turn, shift):
        return math.inf
    low, high = 0.0, 1 - _ROUNDING
    while high - low > _ROUNDING:
        middle = (low + high) / 2
        low, high = (low, middle) if _dominates(middle, turn, shift) else (middle, high)
    t = min(high + _ROUNDING, 1.0)
    return math.inf if t >= 1 else (1 + t) / (1 - t)


def _dominates(t: float, turn: Floats, shift: Floats) -> bool:
    """Whether t (1 + m.s) >= |T' m| is proved for all unit vectors m.

    m' A m + 2 b.m + t^2 >= 0 with A = t^2 s s' - T T' and b = t^2 s holds on the sphere if, for some nu below A's
    eigenvalues, nu - b' (A - nu)^-1 b + t^2 >= 0.
    """
    from scipy.optimize import minimize_scalar

    values, vectors = np.linalg.eigh(t * t * np.outer(shift, shift) - turn @ turn.T)
    b = t * t * (vectors.T @ shift)
    least, reach = float(values[0]), float(np.linalg.norm(b))

    def dual(nu: float) -> float:
        gaps = values - nu
        shares = np.where(np.abs(b) > 1e-16, b * b / np.maximum(gaps, 1e-300), 0.0)
        return nu - float(shares.sum()) + t * t

    found = minimize_scalar(
        lambda nu: -dual(nu), bounds=(least - reach - 1e-9, least), method="bounded", options={"xatol": 1e-15}
    )
    return max(dual(least), -float(found.fun)) >= 0


def _several_qubits(channel: Channel) -> float:
    size = channel.dimension
    reference = channel(np.eye(size, dtype=np.complex128) / size)
    values, vectors = np.linalg.eigh(reference)
    if values[0] <= _SMALLEST:
        return math.inf
    half = (vectors / np.sqrt(values)) @ vectors.conj().T
    scale = np.kron(half, np.eye(size))
    plain = scale @ channel.choi @ scale
    transposed = plain.reshape(size, size, size, size).transpose(0, 3, 2, 1).reshape(plain.shape)
    spectra = [np.linalg.eigvalsh(matrix) for matrix in (plain, transposed)]
    most = min(float(spectrum[-1]) for spectrum in spectra) * (1 + _ROUNDING * size**2)
    least = max(float(spectrum[0]) for spectrum in spectra) - _ROUNDING * size**2 * most
    return math.inf if least <= 0 else most / least

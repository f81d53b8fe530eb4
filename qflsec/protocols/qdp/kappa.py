"""The condition number of a channel's effects: what pure epsilon is made of.

kappa is the largest ratio of the extreme eigenvalues of N^dagger(M) over the effects M that the observer can
see. For a fixed measurement single outcomes suffice (:func:`kappa_of_effects`), and kappa is exact. For an
observer who may measure anything, rank-one effects suffice by the same argument; then kappa is a maximum over
unit vectors, which a search bounds from below (:func:`search_kappa`) and a certificate from above
(:mod:`qflsec.protocols.qdp.certificate`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qflsec.base import numpy_stream
from qflsec.protocols.qdp.channel import Channel, Complex
from qflsec.protocols.qdp.errors import QdpError

__all__ = ["Kappa", "check_measurement", "kappa_of_effect", "kappa_of_effects", "search_kappa"]

Floats = npt.NDArray[np.float64]
_STARTS = 24
_STRIDES = 2.0 ** np.arange(7)
"""How far beyond the next step a search looks, in steps."""
_STEPS = 3000
_SETTLED = 1e-14
_ZERO = 1e-12
"""An eigenvalue of an effect, over its largest, that counts as zero."""


@dataclass(frozen=True, eq=False)
class Kappa:
    """A ratio of extreme eigenvalues, with what attains it.

    Attributes:
        value: The ratio; infinite where some outcome is impossible for a state and possible for another.
        effect: The effect.
        most: A unit vector of the largest eigenvalue of N^dagger(effect).
        least: One of the smallest.
    """

    value: float
    effect: Complex
    most: Complex
    least: Complex


def kappa_of_effect(channel: Channel, effect: Complex) -> Kappa:
    """The ratio of the extreme eigenvalues of one effect before the channel."""
    values, vectors = np.linalg.eigh(channel.adjoint(effect))
    low, high = max(float(values[0]), 0.0), float(values[-1])
    value = 1.0 if high <= 0 else math.inf if low <= _ZERO * high else high / low
    return Kappa(value, effect, vectors[:, -1], vectors[:, 0])


def check_measurement(channel: Channel, effects: Sequence[Complex]) -> tuple[Complex, ...]:
    """The effects of a measurement as arrays.

    Raises:
        QdpError: They have another size, are not positive, or do not add up to the identity.
    """
    size = channel.dimension
    found = tuple(np.asarray(effect, dtype=np.complex128) for effect in effects)
    if not found or any(effect.shape != (size, size) for effect in found):
        raise QdpError("effects of another size", expected=f"({size}, {size}) each")
    if any(np.linalg.eigvalsh(effect).min() < -1e-9 for effect in found):
        raise QdpError("an effect that is not positive")
    if np.abs(sum(found) - np.eye(size)).max() > 1e-9:
        raise QdpError(
            "the effects do not add up to the identity",
            fix="name every outcome: a yes-no measurement is M and I - M, and either may tell more",
        )
    return found


def kappa_of_effects(channel: Channel, effects: Sequence[Complex]) -> Kappa:
    """The largest ratio over the outcomes of a measurement; exact.

    Sets of outcomes cannot do better: a ratio of sums is at most the largest of the single ratios (mediant
    inequality), for every pair of states.

    Raises:
        QdpError: The effects are no measurement.
    """
    return max(
        (kappa_of_effect(channel, e) for e in check_measurement(channel, effects)), key=lambda k: k.value
    )


def search_kappa(channel: Channel, *, seed: int = 0, starts: int = _STARTS) -> Kappa:
    """A lower bound on the largest ratio over all effects, by ascent from random starts.

    A step takes the best pair of states for the present effect |v><v|, and then the best effect for that pair:
    the largest generalised eigenvector of the two outputs. Neither step can lower the ratio.

    Args:
        channel: The channel.
        seed: Of the random starts.
        starts: How many; half of them are product vectors.
    """
    v = _random_vectors(numpy_stream(seed, "kappa"), channel.n_qubits, starts)
    impossible = _impossible_outcome(channel, v)
    if impossible is not None:
        return impossible
    before = np.zeros(starts)
    for _ in range(_STEPS):
        values, vectors = np.linalg.eigh(channel.adjoint(_projectors(v)))
        ratio = values[:, -1] / np.clip(values[:, 0], 1e-300, None)
        if (ratio <= before * (1 + _SETTLED)).all():
            break
        before = np.maximum(ratio, before)
        better = _best_effects(
            channel(_projectors(vectors[:, :, -1])), channel(_projectors(vectors[:, :, 0]))
        )
        v = _further(channel, v, better, lambda w: -w[..., -1] / np.clip(w[..., 0], 1e-300, None))
    best = int(np.argmax(before))
    return kappa_of_effect(channel, _projectors(v)[best])


def _random_vectors(rng: np.random.Generator, n_qubits: int, count: int) -> Complex:
    def draw(size: int, number: int) -> Complex:
        raw = rng.normal(size=(number, size)) + 1j * rng.normal(size=(number, size))
        found: Complex = raw / np.linalg.norm(raw, axis=1, keepdims=True)
        return found

    general = draw(2**n_qubits, count - count // 2)
    products = draw(2, count // 2)
    for _ in range(n_qubits - 1):
        products = np.einsum("ra,rb->rab", products, draw(2, count // 2)).reshape(len(products), -1)
    return np.concatenate([general, products])


def _projectors(v: Complex) -> Complex:
    found: Complex = np.einsum("ra,rb->rab", v, v.conj())
    return found


def _best_effects(high: Complex, low: Complex) -> Complex:
    """The unit vectors that maximise <v|high|v> / <v|low|v>."""
    values, vectors = np.linalg.eigh(low)
    root = vectors / np.sqrt(np.clip(values, 1e-300, None))[:, None, :]
    inner = np.einsum("rba,rbc,rcd->rad", root.conj(), high, root)
    top = np.linalg.eigh(inner)[1][:, :, -1]
    v = np.einsum("rab,rb->ra", root, top)
    found: Complex = v / np.linalg.norm(v, axis=1, keepdims=True)
    return found


def _further(channel: Channel, v: Complex, better: Complex, cost: Callable[[Floats], Floats]) -> Complex:
    """From each v to the better vector and beyond it, as far as the cost falls: steps shrink near an optimum."""
    phase = np.einsum("ra,ra->r", better.conj(), v)
    aligned = better * np.exp(1j * np.angle(phase))[:, None]
    tried = v[:, None] + _STRIDES[:, None] * (aligned - v)[:, None]
    tried /= np.linalg.norm(tried, axis=2, keepdims=True)
    flat = tried.reshape(-1, v.shape[1])
    values = np.asarray(np.linalg.eigvalsh(channel.adjoint(_projectors(flat))), dtype=np.float64)
    best = np.argmin(cost(values).reshape(len(v), -1), axis=1)
    found: Complex = tried[np.arange(len(v)), best]
    return found


def _impossible_outcome(channel: Channel, v: Complex) -> Kappa | None:
    """An effect that some state never shows and another does, if the descent finds one."""
    before = np.full(len(v), np.inf)
    for _ in range(_STEPS):
        values, vectors = np.linalg.eigh(channel.adjoint(_projectors(v)))
        if (values[:, 0] >= before * (1 - 1e-6)).all() or values[:, 0].min() < _ZERO / 100:
            break
        before = np.minimum(values[:, 0], before)
        better = np.linalg.eigh(channel(_projectors(vectors[:, :, 0])))[1][:, :, 0]
        v = _further(channel, v, better, lambda w: w[..., 0])
    found = max((kappa_of_effect(channel, one) for one in _projectors(v)), key=lambda k: k.value)
    return found if math.isinf(found.value) else None

"""Synthetic radar returns: walkers, cyclists and cars in range-Doppler maps, at a stated signal-to-noise ratio.

Nothing here is recorded. A target at range R returns the power of the radar equation, P G^2 lambda^2 sigma / ((4 pi)^3 R^4): all but
R is put into one constant, so that a target at the reference range has the signal-to-noise ratio ``snr_db`` in every sample of a
pulse, and another one less or more by 40 log10(R_0 / R) dB.

After range compression, pulse m of range gate g holds

    sum_k a_k delta(g, g_k) exp(i (2 pi f m + beta sin(2 pi mu m + phi) + theta_k)) + clutter + noise.

f = 2 v / (lambda PRF) is the Doppler frequency of the body in cycles per pulse; swinging limbs and pedals modulate the phase with depth
beta and frequency mu, which makes side lines (Bessel functions of beta) at f + n mu; scatterers k lie in gates g_k. Noise is complex
Gaussian with power 1. Clutter is complex Gaussian, ten times as strong, with a Gaussian Doppler spectrum around 0 (standard deviation
sigma_f), so that its correlation over tau pulses is exp(-2 (pi sigma_f tau)^2). Each gate's mean over the pulses is taken off, as a
canceller of what stands still does; a Hann window and a DFT over 16 pulses follow.

The features of a return are the root of the power in each of 16 Doppler bins, summed over gates, over the strongest of them; the Doppler centroid;
and the extent in range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qflsec.base import numpy_stream
from qflsec.data.raw import RawData

__all__ = ["RADAR_CLASSES", "make_radar", "range_doppler"]

PULSES, GATES = 16, 4
RECORDS = 800
"""Of each class."""
CLUTTER_DB = 10.0
_CLUTTER_SPREAD = 0.01

Complex = NDArray[np.complex128]
Column = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class _Target:
    """What tells a class apart; pairs are the ends of a uniform distribution, frequencies in cycles per pulse.

    Attributes:
        name: The class.
        doppler: Of the body, towards the radar or away.
        depth: Of the phase modulation, in radians.
        swing: Its frequency.
        gates: Range gates that the scatterers lie in, next to each other.
    """

    name: str
    doppler: tuple[float, float]
    depth: tuple[float, float]
    swing: tuple[float, float]
    gates: int


_TARGETS = (
    _Target(name="walker", doppler=(0.06, 0.16), depth=(1.0, 2.0), swing=(0.08, 0.14), gates=1),
    _Target(name="cyclist", doppler=(0.10, 0.24), depth=(0.3, 1.0), swing=(0.10, 0.20), gates=1),
    _Target(name="car", doppler=(0.14, 0.40), depth=(0.0, 0.0), swing=(0.0, 0.0), gates=2),
)
RADAR_CLASSES = tuple(target.name for target in _TARGETS)


def make_radar(snr_db: float) -> RawData:
    """2400 returns, the same scenes, clutter and noise every time; only the power of the targets follows the ratio.

    Args:
        snr_db: The signal-to-noise ratio of a target at the reference range, in a sample of a pulse (dB).

    Shapes:
        features: ``[2400, 18]``
    """
    amplitude = 10 ** (snr_db / 20)
    maps = [
        range_doppler(amplitude * _echo(target, RECORDS, stream) + _background(RECORDS, stream))
        for target in _TARGETS
        for stream in (numpy_stream(0, "data", "synthetic-radar", target.name),)
    ]
    labels = np.repeat(np.arange(len(_TARGETS)), RECORDS)
    order = numpy_stream(0, "data", "synthetic-radar", "order").permutation(len(labels))
    names = tuple(f"Doppler bin {k - PULSES // 2}" for k in range(PULSES))
    return RawData(
        features=_features(np.concatenate(maps))[order],
        labels=labels[order].astype(np.int64),
        feature_names=(*names, "Doppler centroid", "range extent"),
        class_names=RADAR_CLASSES,
        ranges=((0.0, 1.0),) * PULSES + ((-1.0, 1.0), (0.0, 1.0)),
    )


def range_doppler(pulses: Complex) -> Column:
    """Power in each range gate and Doppler bin, zero Doppler in the middle.

    Shapes:
        pulses: ``[N, G, M]``; returns: ``[N, G, M]``
    """
    window = np.hanning(PULSES + 2)[1:-1]
    still = pulses.mean(axis=-1, keepdims=True)
    spectrum = np.fft.fftshift(np.fft.fft((pulses - still) * window, axis=-1), axes=-1)
    power: Column = np.abs(spectrum) ** 2 / (window**2).sum()
    return power


def _echo(target: _Target, n: int, generator: np.random.Generator) -> Complex:
    """Returns whose power in a pulse is (R_0 / R)^4, over all gates.

    Shapes:
        returns: ``[n, G, M]``
    """
    pulse = np.arange(PULSES)
    doppler = generator.uniform(*target.doppler, size=n) * generator.choice([-1.0, 1.0], size=n)
    depth, swing = generator.uniform(*target.depth, size=n), generator.uniform(*target.swing, size=n)
    phase = generator.uniform(0, 2 * math.pi, size=(n, 1 + GATES))
    nearness = generator.uniform(0.8, 1.25, size=n) ** -2  # amplitude: the root of R^-4
    body = 2 * math.pi * doppler[:, None] * pulse
    limbs = depth[:, None] * np.sin(2 * math.pi * swing[:, None] * pulse + phase[:, :1])
    first = generator.integers(GATES - target.gates + 1, size=n)
    gate = np.arange(GATES) - first[:, None]
    inside = (gate >= 0) & (gate < target.gates)
    amplitude = inside * (nearness / math.sqrt(target.gates))[:, None] * np.exp(1j * phase[:, 1:])
    echo: Complex = amplitude[:, :, None] * np.exp(1j * (body + limbs))[:, None, :]
    return echo


def _background(n: int, generator: np.random.Generator) -> Complex:
    """Clutter and noise.

    Shapes:
        returns: ``[n, G, M]``
    """
    lag = np.subtract.outer(np.arange(PULSES), np.arange(PULSES))
    correlation = np.exp(-2 * (math.pi * _CLUTTER_SPREAD * lag) ** 2)
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    noise, clutter = (_gaussian((n, GATES, PULSES), generator) for _ in range(2))
    background: Complex = noise + 10 ** (CLUTTER_DB / 20) * clutter @ root.T
    return background


def _gaussian(shape: tuple[int, ...], generator: np.random.Generator) -> Complex:
    """Circular complex Gaussian numbers of power 1."""
    real, imaginary = generator.standard_normal((2, *shape))
    drawn: Complex = (real + 1j * imaginary) / math.sqrt(2)
    return drawn


def _features(power: Column) -> Column:
    """Doppler profile, Doppler centroid (1 is half the pulse rate) and extent in range (1 is evenly over all gates).

    Shapes:
        power: ``[N, G, M]``; returns: ``[N, M + 2]``
    """
    profile = np.sqrt(power.sum(axis=1))
    total = power.sum(axis=(1, 2))
    bins = (np.arange(PULSES) - PULSES // 2) / (PULSES // 2)
    centroid = (power.sum(axis=1) * bins).sum(axis=1) / total
    shares = power.max(axis=2) / power.max(axis=2).sum(axis=1, keepdims=True)
    extent = (1 / (shares**2).sum(axis=1) - 1) / (GATES - 1)
    moments = np.stack([centroid, extent], axis=1)
    return np.concatenate([profile / profile.max(axis=1, keepdims=True), moments], axis=1)

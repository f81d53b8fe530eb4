"""Key rates of BB84 for infinitely many pulses: what finite keys are compared with.

Single photons (Shor and Preskill), weak coherent pulses without decoys (Gottesman, Lo, Lütkenhaus and
Preskill), and with decoys (infinitely many, or vacuum and one weak intensity). None of these rates is a
claim about a finite key: that is :mod:`qflsec.protocols.bb84.key_length` and
:mod:`qflsec.protocols.bb84.decoy_length`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from qflsec.base.errors import ConfigError

__all__ = [
    "GYS",
    "WeakCoherentLink",
    "binary_entropy",
    "cut_off_km",
    "error_threshold",
    "gllp_rate_infinite_decoy",
    "gllp_rate_no_decoy",
    "gllp_rate_vacuum_weak",
    "multi_photon_probability",
    "shor_preskill_rate",
]


def binary_entropy(x: float) -> float:
    """Entropy of a coin, taken as 1 above one half: an error rate there bounds nothing.

    Args:
        x: A probability or an upper bound on an error rate.

    Units:
        Bits.
    """
    if x >= 0.5:
        return 1.0
    if x <= 0.0:
        return 0.0
    return -x * math.log2(x) - (1.0 - x) * math.log2(1.0 - x)


def shor_preskill_rate(qber: float, f_ec: float = 1.0) -> float:
    """Secret bits per sifted bit for single photons; negative where there is no key.

    Args:
        qber: Error rate, the same in both bases.
        f_ec: Efficiency of the error correction, at least 1.

    Source:
        Shor and Preskill, Phys. Rev. Lett. 85, 441 (2000): 1 - h(Q) - f h(Q).
    """
    return 1.0 - (1.0 + f_ec) * binary_entropy(qber)


def error_threshold(f_ec: float = 1.0) -> float:
    """Error rate at which the asymptotic rate vanishes: 0.1100 for f = 1, less for any real code.

    Args:
        f_ec: Efficiency of the error correction, at least 1.
    """
    from scipy.optimize import brentq

    if f_ec < 1.0:
        raise ConfigError("error correction cannot beat the Shannon limit", got=f_ec, expected="f_ec >= 1")
    return float(brentq(lambda q: shor_preskill_rate(q, f_ec), 1e-9, 0.5 - 1e-9, xtol=1e-12))


@dataclass(frozen=True, kw_only=True)
class WeakCoherentLink:
    """A fibre, its detectors and its source, in the standard model of decoy-state papers.

    Attributes:
        loss_db_per_km: Attenuation of the fibre.
        receiver_efficiency: Bob's optics and detectors together.
        background: Y0, the probability of a click without a photon, per pulse.
        misalignment: Probability that a photon ends in the wrong detector.
        f_ec: Efficiency of the error correction.
        sifting: Fraction of detected pulses that sifting keeps.

    Source:
        Ma, Qi, Zhao and Lo, Phys. Rev. A 72, 012326 (2005), section II.
    """

    loss_db_per_km: float
    receiver_efficiency: float
    background: float
    misalignment: float
    f_ec: float
    sifting: float = 0.5

    def transmittance(self, km: float) -> float:
        """Probability that one photon sent is one photon counted."""
        return self.receiver_efficiency * math.pow(10.0, -self.loss_db_per_km * km / 10.0)

    def gain(self, mu: float, km: float) -> float:
        """Q_mu: clicks per pulse of mean photon number ``mu``."""
        return self.background - math.expm1(-self.transmittance(km) * mu)

    def error_gain(self, mu: float, km: float) -> float:
        """E_mu Q_mu: wrong clicks per pulse of mean photon number ``mu``."""
        return self.background / 2.0 - self.misalignment * math.expm1(-self.transmittance(km) * mu)

    def single_photon_yield(self, km: float) -> float:
        """Y_1: clicks per pulse that held exactly one photon."""
        eta = self.transmittance(km)
        return self.background + eta - self.background * eta

    def single_photon_error(self, km: float) -> float:
        """e_1: error rate of the pulses that held exactly one photon."""
        wrong = self.background / 2.0 + self.misalignment * self.transmittance(km)
        return wrong / self.single_photon_yield(km)


GYS = WeakCoherentLink(
    loss_db_per_km=0.21, receiver_efficiency=0.045, background=1.7e-6, misalignment=0.033, f_ec=1.22
)
"""The 122 km experiment of Gobby, Yuan and Shields, Appl. Phys. Lett. 84, 3762 (2004)."""


def multi_photon_probability(mu: float) -> float:
    """Probability that a phase-randomised pulse of mean ``mu`` holds two photons or more."""
    return -math.expm1(-mu) - mu * math.exp(-mu)


def _gllp(link: WeakCoherentLink, mu: float, km: float, single_gain: float, single_error: float) -> float:
    """Source: Gottesman et al., Quantum Inf. Comput. 4, 325 (2004), as Ma et al. 2005 eq. 1 writes it."""
    gain = link.gain(mu, km)
    qber = link.error_gain(mu, km) / gain
    correction = gain * link.f_ec * binary_entropy(qber)
    return link.sifting * (single_gain * (1.0 - binary_entropy(single_error)) - correction)


def gllp_rate_infinite_decoy(link: WeakCoherentLink, mu: float, km: float) -> float:
    """Secret bits per pulse when the single-photon yield and error are known exactly."""
    single_gain = link.single_photon_yield(km) * mu * math.exp(-mu)
    return _gllp(link, mu, km, single_gain, link.single_photon_error(km))


def gllp_rate_vacuum_weak(link: WeakCoherentLink, mu: float, nu: float, km: float) -> float:
    """Secret bits per pulse with a vacuum and one weak decoy intensity.

    Args:
        link: The link.
        mu: Signal intensity.
        nu: Weak decoy intensity, below ``mu``.
        km: Length of the fibre.

    Raises:
        ConfigError: The intensities are not 0 < nu < mu.

    Source:
        Ma, Qi, Zhao and Lo, Phys. Rev. A 72, 012326 (2005), eqs. 34 (Y1) and 37 (e1).
    """
    if not 0.0 < nu < mu:
        raise ConfigError("intensities out of order", got=f"mu={mu}, nu={nu}", expected="0 < nu < mu")
    y0 = link.background
    weak, signal = link.gain(nu, km) * math.exp(nu), link.gain(mu, km) * math.exp(mu)
    y1 = mu / (mu * nu - nu**2) * (weak - signal * nu**2 / mu**2 - (mu**2 - nu**2) / mu**2 * y0)
    if y1 <= 0.0:
        return _gllp(link, mu, km, 0.0, 0.5)
    e1 = (link.error_gain(nu, km) * math.exp(nu) - y0 / 2.0) / (y1 * nu)
    return _gllp(link, mu, km, y1 * mu * math.exp(-mu), e1)


def gllp_rate_no_decoy(link: WeakCoherentLink, mu: float, km: float) -> float:
    """Secret bits per pulse when every multi-photon pulse must be taken as known to Eve.

    Without decoys she may block single photons and pass on the multi-photon pulses instead, at an
    unchanged error rate: nothing is left once their probability reaches the gain.
    """
    gain = link.gain(mu, km)
    untagged = 1.0 - multi_photon_probability(mu) / gain
    if untagged <= 0.0:
        return _gllp(link, mu, km, 0.0, 0.5)
    return _gllp(link, mu, km, untagged * gain, link.error_gain(mu, km) / gain / untagged)


def cut_off_km(rate: Callable[[float], float], *, longest: float = 500.0) -> float:
    """Distance at which a rate that falls with distance reaches zero.

    Args:
        rate: Secret bits per pulse as a function of kilometres.
        longest: Where to stop looking.

    Raises:
        ConfigError: The rate is not positive at zero distance, or not zero at the longest.
    """
    from scipy.optimize import brentq

    if rate(0.0) <= 0.0 or rate(longest) > 0.0:
        raise ConfigError(
            "no cut-off distance in range", got=f"rates {rate(0.0):.3g} and {rate(longest):.3g} at the ends"
        )
    return float(brentq(rate, 0.0, longest, xtol=1e-6))

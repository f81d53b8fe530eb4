"""Guards on released sums: what keeps a decrypted CKKS sum from telling the key, and what only seems to.

A decryption of CKKS is the message plus the noise of the ciphertext, and that noise gives the key away (Li and
Micciancio 2021). Gaussian flooding adds fresh noise, so large that whoever sees the sum could not tell it from
the exact sum plus the same noise. What it needs is a bound on the noise that it drowns.

The claim. Let the decryption err by at most ``B`` in each of the ``d`` released slots. They are rounded to a
grid of ``g <= B / 8``, so that they differ from the rounded exact sum by at most ``(B + g) / g`` steps, and get
discrete Gaussian noise of parameter ``sigma^2``. One release then has a Kullback-Leibler divergence of at most
``d (B + g)^2 / (2 sigma^2)`` from one that knows the exact sum only, and by the chain rule ``q`` releases, each
chosen after those before it, one of at most ``q d (B + g)^2 / (2 sigma^2)``. With

    sigma = sqrt(24 q d 2^s) (B + g)

that is ``2^-s / 48``, which is ``s`` bits in the sense of bit security, where a decision counts with the square
of its advantage; the plain statistical distance is, by Pinsker, at most ``2^(-s/2) / sqrt(96)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import numpy.typing as npt

from qflsec.base import ConfigError, Secrets
from qflsec.protocols.secagg.he.parameters import CkksParameters, slot_error
from qflsec.protocols.secagg.he.sampling import SecretIntegers, discrete_gaussian

__all__ = ["Estimate", "Flooding", "Guard", "apply_guard", "noise_bound"]

Guard = Literal["flooding", "rounding", "tiny-noise", "none"]
Estimate = Literal["heuristic", "worst-case"]
_DEVIATIONS = 8.0
_ERROR_LARGEST = 21  # the library's centred binomial errors
_FACTOR = 24.0
_DECODE_ULPS = {
    "heuristic": 2.0**-44,
    "worst-case": 2.0**-40,
}  # of the largest sum, for an FFT in double precision


def noise_bound(chosen: CkksParameters, n_clients: int, largest: float, estimate: Estimate) -> float:
    """A bound on the error of each real slot of a sum of fresh ciphertexts.

    Args:
        chosen: The parameters.
        n_clients: How many ciphertexts are added.
        largest: The largest absolute coordinate of each client.
        estimate: ``"heuristic"``: eight standard deviations of independent honest ciphertexts (missed with
            probability below 1e-14 for each slot, if the error is as Gaussian as it looks); ``"worst-case"``:
            the triangle inequality over all that the library can draw.

    Source:
        Cheon, Kim, Kim and Song, ASIACRYPT 2017, lemma 2. That bounds of the average case must not be used where
        an adversary chooses what is evaluated: Guo, Nabokov, Suvanto and Johansson, USENIX Security 2024.
    """
    rounding = _DECODE_ULPS[estimate] * n_clients * largest
    if estimate == "heuristic":
        return _DEVIATIONS * slot_error(chosen.degree, chosen.scale_bits, n_clients) + rounding
    n, special = chosen.degree, 2.0 ** (chosen.sizes[1] - 1)
    switched = n / 2 + n * n / 2
    fresh = _ERROR_LARGEST * (n + 2.0 * n * n) / special
    return n_clients * (switched + fresh) / 2.0**chosen.scale_bits + rounding


@dataclass(frozen=True, kw_only=True)
class Flooding:
    """Gaussian flooding of a stated number of releases.

    Attributes:
        bound: The error that is drowned, for each slot.
        n_values: The slots of one release.
        releases: The number of releases.
        bits: Bits of statistical security.

    Source:
        Li, Micciancio, Schultz and Sorrell: Securing approximate homomorphic encryption using differential
        privacy, CRYPTO 2022, eprint 2022/816: definition of Kullback-Leibler differential privacy, the Gaussian
        mechanism, and the theorem that composes it with bit security. The factor 24 is that of OpenFHE's
        implementation; the bound in the module's head is derived there.
    """

    bound: float
    n_values: int
    releases: int
    bits: int

    @property
    def grid(self) -> float:
        """The step of the grid: a power of two, at most an eighth of the bound."""
        return 2.0 ** (math.frexp(self.bound)[1] - 4)

    @property
    def sigma(self) -> float:
        """The parameter of the noise, in units of the released numbers."""
        return math.sqrt(_FACTOR * self.releases * self.n_values * 2.0**self.bits) * (self.bound + self.grid)

    @property
    def divergence(self) -> float:
        """The Kullback-Leibler divergence of all releases together."""
        shift = self.bound + self.grid
        return self.releases * self.n_values * shift**2 / (2 * self.sigma**2)

    @property
    def error(self) -> float:
        """What it adds to the error of a released number: eight standard deviations and half a step."""
        return _DEVIATIONS * self.sigma + self.grid / 2

    def apply(self, values: npt.NDArray[np.float64], secrets: Secrets) -> npt.NDArray[np.float64]:
        """The values on the grid, with noise; every result is a multiple of the grid.

        Shapes:
            values: ``(n_values,)``; returns: ``(n_values,)``
        """
        steps = np.rint(values / self.grid)  # exact: the grid is a power of two
        variance = Fraction(self.sigma / self.grid) ** 2
        noise = discrete_gaussian(SecretIntegers(secrets), variance, len(values))
        return np.asarray([(int(k) + e) * self.grid for k, e in zip(steps, noise, strict=True)])


def apply_guard(
    guard: Guard,
    values: npt.NDArray[np.float64],
    secrets: Secrets,
    *,
    flooding: Flooding | None,
    step: float,
) -> npt.NDArray[np.float64]:
    """What is released of a decrypted sum.

    Args:
        guard: The guard.
        values: The decrypted sum.
        secrets: The decrypting client's source of secrets.
        flooding: For ``"flooding"``.
        step: For ``"rounding"``, the grid; for ``"tiny-noise"``, the standard deviation.

    Shapes:
        values: ``(d,)``; returns: ``(d,)``
    """
    if guard == "flooding":
        if flooding is None:
            raise ConfigError("flooding without its parameters")
        return flooding.apply(values, secrets)
    if guard == "rounding":
        return np.rint(values / step) * step
    if guard == "tiny-noise":
        fine = step / 2**20
        noise = discrete_gaussian(SecretIntegers(secrets), Fraction(2**40), len(values))
        return values + np.asarray(noise) * fine
    return values

"""Length of a finite key from weak coherent pulses with two decoy intensities.

Detections are counted for each intensity in both bases and errors in Z; from them follow bounds on the
detections that came from vacuum and from single photons, and on the latter's phase errors in X.

The paper computes the length from what was counted. Here the length is agreed before the run, and the run
goes on only if the counts support at least that much: a fixed length with an acceptance test, as
Wiesemann et al., arXiv:2405.16578, ask for in their review of such proofs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qflsec.base import ConfigError
from qflsec.protocols.bb84.asymptotic import binary_entropy
from qflsec.protocols.bb84.key_length import LeakAccounting, check_epsilons
from qflsec.protocols.bb84.random_sampling import log_tail, unseen_errors

__all__ = [
    "DecoyBounds",
    "DecoyCounts",
    "DecoySource",
    "lim_bounds",
    "lim_length",
    "phase_error_deviation",
    "published_phase_error_deviation",
]

Triple = tuple[float, float, float]
_TERMS = 21.0
_ROUNDING = 1e-6
"""More than floating point can take off a whole number of errors."""


@dataclass(frozen=True, kw_only=True)
class DecoySource:
    """Three intensities of a phase-randomised source.

    Attributes:
        intensities: Mean photon numbers mu1 > mu2 > mu3 >= 0 with mu1 > mu2 + mu3.
        probabilities: Of choosing each.
    """

    intensities: Triple
    probabilities: Triple

    def __post_init__(self) -> None:
        mu1, mu2, mu3 = self.intensities
        if not (mu1 > mu2 + mu3 and mu2 > mu3 >= 0.0):
            raise ConfigError(
                "the decoy bounds do not hold",
                got=self.intensities,
                expected="mu1 > mu2 + mu3 and mu2 > mu3 >= 0",
            )
        if min(self.probabilities) <= 0.0 or not math.isclose(sum(self.probabilities), 1.0, abs_tol=1e-9):
            raise ConfigError(
                "impossible intensity probabilities",
                got=self.probabilities,
                expected="positive, with the sum 1",
            )

    def photon_probability(self, n: int) -> float:
        """tau_n: probability that a pulse of unknown intensity holds ``n`` photons."""
        pairs = zip(self.intensities, self.probabilities, strict=True)
        return sum(p * math.exp(-mu) * mu**n for mu, p in pairs) / math.factorial(n)


@dataclass(frozen=True, kw_only=True)
class DecoyCounts:
    """What was counted, by intensity; expected values may be fractions.

    Attributes:
        key: Raw-key bits (basis X).
        test: Test bits (basis Z).
        test_errors: Test bits that differ.
    """

    key: Triple
    test: Triple
    test_errors: Triple


@dataclass(frozen=True, kw_only=True)
class DecoyBounds:
    """What follows from the counts.

    Attributes:
        vacuum: s_X0, at least so many raw-key bits came from vacuum.
        single: s_X1, at least so many came from single photons.
        single_test: s_Z1, at least so many test bits came from single photons.
        single_test_errors: v_Z1, at most so many of those are wrong.
        phase_error: phi_X, the single photons' phase-error rate is at most this.
    """

    vacuum: float
    single: float
    single_test: float
    single_test_errors: float
    phase_error: float


def phase_error_deviation(eps_sec: float, rate: float, n_test: float, n_key: float) -> float:
    """gamma: how far the phase-error rate may exceed the error rate seen in the test basis.

    The larger of the published formula and of the exact bound for random sampling, each allowed to fail with
    probability eps_sec / 21. The formula approximates and misses where fewer than about thirty errors are seen; at
    none it gives 0. From there on it is the larger of the two.

    Args:
        eps_sec: Secrecy.
        rate: Error rate of the tested single photons.
        n_test: Single photons that were tested, or fewer.
        n_key: Single photons of the raw key, or fewer.
    """
    tested, key = math.floor(n_test), math.floor(n_key)
    seen = min(tested, math.floor(rate * n_test + _ROUNDING))
    if min(tested, key) < 1:
        return 1.0 - rate
    published = published_phase_error_deviation(eps_sec, rate, n_test, n_key)
    allowed = math.log(eps_sec / _TERMS)
    if log_tail(seen, math.ceil((rate + published) * key), tested, key) <= allowed:
        return published
    return unseen_errors(seen, tested, key, log_probability=allowed) / key - rate


def published_phase_error_deviation(eps_sec: float, rate: float, n_test: float, n_key: float) -> float:
    """The published gamma: no bound where fewer than about thirty errors are seen.

    Source:
        Lim et al., Phys. Rev. A 89, 022307 (2014), below eq. 5; after Fung, Ma, Chau (2010).
    """
    spread = rate * (1.0 - rate)
    if spread <= 0.0:
        return 0.0
    pooled = (n_test + n_key) / (n_test * n_key)
    argument = pooled / spread * _TERMS**2 / eps_sec**2
    return math.sqrt(pooled * spread / math.log(2.0) * math.log2(argument))


def _vacuum_and_single(source: DecoySource, counts: Triple, eps_sec: float) -> tuple[float, float]:
    """Eqs. 2 and 3: (s_0, s_1), each clipped at 0."""
    mu1, mu2, mu3 = source.intensities
    up, down = _interval(source, counts, sum(counts), eps_sec)
    tau0, tau1 = source.photon_probability(0), source.photon_probability(1)
    vacuum = max(0.0, tau0 * (mu2 * down[2] - mu3 * up[1]) / (mu2 - mu3))
    inner = down[1] - up[2] - (mu2**2 - mu3**2) / mu1**2 * (up[0] - vacuum / tau0)
    single = tau1 * mu1 * inner / (mu1 * (mu2 - mu3) - mu2**2 + mu3**2)
    return vacuum, max(0.0, single)


def _interval(
    source: DecoySource, counts: Triple, total: float, eps_sec: float
) -> tuple[list[float], list[float]]:
    """n+ and n-: upper and lower bounds by Hoeffding, rescaled to unit probability and vacuum weight."""
    deviation = math.sqrt(total / 2.0 * math.log(_TERMS / eps_sec))
    scales = [math.exp(mu) / p for mu, p in zip(source.intensities, source.probabilities, strict=True)]
    up = [scale * (count + deviation) for scale, count in zip(scales, counts, strict=True)]
    down = [scale * (count - deviation) for scale, count in zip(scales, counts, strict=True)]
    return up, down


def lim_bounds(source: DecoySource, counts: DecoyCounts, eps_sec: float) -> DecoyBounds:
    """Bounds on vacuum and single-photon events.

    Source:
        Lim, Curty, Walenta, Xu, Zbinden, Phys. Rev. A 89, 022307 (2014), eqs. 2 to 5.
    """
    vacuum, single = _vacuum_and_single(source, counts.key, eps_sec)
    _, single_test = _vacuum_and_single(source, counts.test, eps_sec)
    _, mu2, mu3 = source.intensities
    up, down = _interval(source, counts.test_errors, sum(counts.test_errors), eps_sec)
    errors = max(0.0, source.photon_probability(1) * (up[1] - down[2]) / (mu2 - mu3))
    phase_error = 0.5
    if single > 0.0 and single_test > 0.0 and errors < single_test / 2.0:
        rate = errors / single_test
        phase_error = min(0.5, rate + phase_error_deviation(eps_sec, rate, single_test, single))
    return DecoyBounds(
        vacuum=vacuum,
        single=single,
        single_test=single_test,
        single_test_errors=errors,
        phase_error=phase_error,
    )


def lim_length(
    *,
    source: DecoySource,
    counts: DecoyCounts,
    leak_ec: float,
    eps_sec: float,
    eps_cor: float,
    accounting: LeakAccounting = "both-parties",
) -> int:
    """Bits of key that the counts support; not positive where there is no key.

    Args:
        source: Intensities and their probabilities; all of them make key.
        counts: What was counted.
        leak_ec: Bits disclosed by error correction, counted as ``accounting`` says.
        eps_sec: Secrecy.
        eps_cor: Correctness.
        accounting: With ``"error-pattern-public"`` vacuum events give no key.

    Source:
        Lim, Curty, Walenta, Xu, Zbinden, Phys. Rev. A 89, 022307 (2014), eq. 1.
    """
    check_epsilons(eps_sec, eps_cor)
    bounds = lim_bounds(source, counts, eps_sec)
    vacuum = bounds.vacuum if accounting == "both-parties" else 0.0
    hidden = vacuum + bounds.single * (1.0 - binary_entropy(bounds.phase_error))
    return math.floor(hidden - leak_ec - 6.0 * math.log2(_TERMS / eps_sec) - math.log2(2.0 / eps_cor))

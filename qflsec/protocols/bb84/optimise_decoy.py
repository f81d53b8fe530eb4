"""Choosing intensities as well as basis bias for a decoy source, before the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qflsec.protocols.bb84.asymptotic import binary_entropy
from qflsec.protocols.bb84.channel import FibreChannel, coherent_error_gain, coherent_gain
from qflsec.protocols.bb84.decoy_length import DecoyCounts, DecoySource, Triple, lim_length
from qflsec.protocols.bb84.detector import DetectorModel
from qflsec.protocols.bb84.optimise import (
    MOST_TOLERATED,
    Agreed,
    Plan,
    Requirements,
    make_config,
    nothing_agreed,
)
from qflsec.protocols.bb84.source import WeakCoherentSource

__all__ = ["DecoyBlock", "expected_counts", "optimise_decoy_block", "plan_decoy"]

_WEAKEST = 2e-4
_STARTS = (
    (0.5, 0.1, 0.9, 0.7, 0.2),
    (0.5, 0.2, 0.7, 0.3, 0.4),
    (0.45, 0.15, 0.6, 0.1, 0.5),
    (0.5, 0.1, 0.3, 0.05, 0.55),
)


def expected_counts(
    source: DecoySource, channel: FibreChannel, detector: DetectorModel, *, in_x: float, in_z: float
) -> DecoyCounts:
    """Expected counts when both parties choose X for ``in_x`` pulses and Z for ``in_z``."""
    pairs = tuple(zip(source.intensities, source.probabilities, strict=True))
    gains = [p * coherent_gain(mu, channel, detector) for mu, p in pairs]
    errors = [p * coherent_error_gain(mu, channel, detector) for mu, p in pairs]
    return DecoyCounts(key=_scaled(gains, in_x), test=_scaled(gains, in_z), test_errors=_scaled(errors, in_z))


def _scaled(values: Sequence[float], factor: float) -> Triple:
    first, second, third = values
    return (first * factor, second * factor, third * factor)


def _decoy_source(x: Sequence[float]) -> DecoySource | None:
    """Intensities and probabilities of a point of the search, if it is one."""
    mu1, mu2, p_x, p1, p2 = x
    possible = _WEAKEST < mu2 < mu1 - _WEAKEST and mu1 < 2.0 and 0.0 < p_x < 1.0
    if not possible or min(p1, p2, 1.0 - p1 - p2) <= 1e-6:
        return None
    return DecoySource(intensities=(mu1, mu2, _WEAKEST), probabilities=(p1, p2, 1.0 - p1 - p2))


def _best_vector(value: Callable[[Sequence[float]], float]) -> list[float]:
    """Maximise by the simplex method from several starts, each taken up again where it stopped."""
    found = []
    for start in _STARTS:
        point = list(start)
        for _ in range(2):
            point = _climb(value, point, steps=800)
        found.append(point)
    return max(found, key=value)


def _climb(value: Callable[[Sequence[float]], float], start: list[float], *, steps: int) -> list[float]:
    from scipy.optimize import minimize

    def cost(x: npt.NDArray[np.float64]) -> float:
        return -value([float(each) for each in x])

    found = minimize(
        cost, np.array(start), method="Nelder-Mead", options={"maxiter": steps, "xatol": 1e-6, "fatol": 1e-14}
    )
    return [float(each) for each in found.x]


def plan_decoy(
    *, pulses: int, channel: FibreChannel, detector: DetectorModel, requirements: Requirements | None = None
) -> Plan:
    """The best basis bias, intensities and their probabilities for a decoy source with three intensities.

    The weakest intensity is held at 2e-4, about what a modulator can suppress.

    Args:
        pulses: Pulses to send.
        channel: The expected line.
        detector: Bob's detectors.
        requirements: What is asked.

    Raises:
        ConfigError: No choice gives a key.

    Source:
        Lim et al., Phys. Rev. A 89, 022307 (2014), section IV, for the search space.
    """
    asked = requirements or Requirements()

    def value(x: Sequence[float], *, room: bool) -> float:
        source = _decoy_source(x)
        if source is None:
            return -math.inf
        return _decoy_agreed(asked, source, pulses, x[2], line, room=room).length

    line = (channel, detector)
    best = _best_vector(lambda x: value(x, room=False))
    best = _climb(lambda x: value(x, room=True), best, steps=200)
    light = WeakCoherentSource(
        intensities=(best[0], best[1], _WEAKEST), probabilities=(best[3], best[4], 1.0 - best[3] - best[4])
    )
    first, second, third = light.stated_probabilities
    source = DecoySource(intensities=(best[0], best[1], _WEAKEST), probabilities=(first, second, third))
    agreed = _decoy_agreed(asked, source, pulses, best[2], line)
    return Plan(
        pulses=pulses,
        basis_probability=best[2],
        source=light,
        config=make_config(asked, agreed, decoy=source),
    )


def _decoy_agreed(
    asked: Requirements,
    source: DecoySource,
    pulses: int,
    p_x: float,
    line: tuple[FibreChannel, DetectorModel],
    *,
    room: bool = True,
) -> Agreed:
    """Block sizes, tolerance, budget and, with ``room``, a length that honest counts seldom fail to bear."""
    sent = expected_counts(source, *line, in_x=pulses * p_x**2, in_z=pulses * (1.0 - p_x) ** 2)
    n, k = asked.at_least(sum(sent.key)), asked.at_least(sum(sent.test))
    if min(n, k) < 1:
        return nothing_agreed(min(n, k))
    qber = sum(sent.test_errors) / sum(sent.test)
    counts = DecoyCounts(
        key=_scaled(sent.key, n / sum(sent.key)),
        test=_scaled(sent.test, k / sum(sent.test)),
        test_errors=_scaled(sent.test_errors, k / sum(sent.test)),
    )
    leak = asked.leak_budget(n, qber)

    def length(at: DecoyCounts) -> int:
        return lim_length(
            source=source,
            counts=at,
            leak_ec=leak,
            eps_sec=asked.eps_sec,
            eps_cor=asked.eps_cor,
            accounting=asked.accounting,
        )

    spread = _standard_deviation(length, counts) if room else 0.0
    return Agreed(
        n=n,
        k=k,
        q_tol=min(asked.at_most_errors(k, qber) / k, MOST_TOLERATED),
        qber=qber,
        leak_budget=leak,
        length=math.floor(length(counts) - asked.deviations * spread),
    )


def _standard_deviation(value: Callable[[DecoyCounts], float], counts: DecoyCounts) -> float:
    """Spread of a function of independent Poisson counts, to first order."""
    variance = 0.0
    parts = [counts.key, counts.test, counts.test_errors]
    for part, means in enumerate(parts):
        for i, mean in enumerate(means):
            step = math.sqrt(mean)
            below = min(step, mean)  # no count is negative
            up, down = (
                value(_with(parts, part, _scaled([m + by * (j == i) for j, m in enumerate(means)], 1.0)))
                for by in (step, -below)
            )
            variance += ((up - down) * step / (step + below)) ** 2 if mean else 0.0
    return math.sqrt(variance)


def _with(parts: list[Triple], part: int, changed: Triple) -> DecoyCounts:
    key, test, test_errors = (changed if i == part else each for i, each in enumerate(parts))
    return DecoyCounts(key=key, test=test, test_errors=test_errors)


@dataclass(frozen=True, kw_only=True)
class DecoyBlock:
    """The best parameters for a raw key of given size, without room for fluctuations.

    Attributes:
        source: Intensities and probabilities.
        basis_probability: Of choosing X.
        pulses: Expected number of pulses until the raw key is full.
        length: Bits of key.
    """

    source: DecoySource
    basis_probability: float
    pulses: float
    length: int

    @property
    def rate(self) -> float:
        """Bits of key per pulse; 0 where there is none."""
        return max(self.length, 0) / self.pulses


def optimise_decoy_block(
    *,
    n_key: float,
    channel: FibreChannel,
    detector: DetectorModel,
    f_ec: float = 1.16,
    eps_per_bit: float = 1e-15,
    eps_cor: float = 1e-15,
) -> DecoyBlock:
    """The rate for a raw key of ``n_key`` bits, as papers plot it: by expected counts and a nominal f_EC.

    Args:
        n_key: Raw-key bits.
        channel: The line.
        detector: Bob's detectors.
        f_ec: Nominal efficiency of error correction; one-way, so that only Alice's bits count.
        eps_per_bit: eps_sec over the length of the key.
        eps_cor: Correctness.

    Source:
        Lim et al., Phys. Rev. A 89, 022307 (2014), section IV (kappa is ``eps_per_bit``).
    """

    def block(x: Sequence[float]) -> DecoyBlock | None:
        source = _decoy_source(x)
        if source is None:
            return None
        one = expected_counts(source, channel, detector, in_x=x[2] ** 2, in_z=(1.0 - x[2]) ** 2)
        pulses = n_key / sum(one.key)
        counts = DecoyCounts(
            key=_scaled(one.key, pulses), test=_scaled(one.test, pulses), test_errors=_scaled(one.test_errors, pulses)
        )  # fmt: skip
        leak = f_ec * n_key * binary_entropy(sum(one.test_errors) / sum(one.test))
        length = n_key
        for _ in range(12):
            eps_sec = min(0.5, eps_per_bit * max(length, 1.0))
            length = lim_length(source=source, counts=counts, leak_ec=leak, eps_sec=eps_sec, eps_cor=eps_cor)
        return DecoyBlock(source=source, basis_probability=x[2], pulses=pulses, length=int(length))

    def value(x: Sequence[float]) -> float:
        made = block(x)
        if made is None:
            return -math.inf
        return made.rate if made.length > 0 else made.length / n_key

    best = block(_best_vector(value))
    assert best is not None
    return best

"""Choosing basis bias, intensities, block sizes and tolerances for an expected channel, before the run.

The plans leave room for honest fluctuations, so that a run on the expected channel succeeds but for a stated
probability (by normal approximation: it is a matter of availability, no security rests on it).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from qflsec.base import ConfigError, finite
from qflsec.protocols.bb84.agreement import PostprocessConfig, TagMode
from qflsec.protocols.bb84.asymptotic import binary_entropy
from qflsec.protocols.bb84.cascade_variants import DEFAULT_SCHEDULE, schedule
from qflsec.protocols.bb84.channel import FibreChannel, photon_error_gain, photon_gain
from qflsec.protocols.bb84.decoy_length import DecoySource
from qflsec.protocols.bb84.detector import DetectorModel
from qflsec.protocols.bb84.key_length import LeakAccounting, leak_bits, tomamichel_length
from qflsec.protocols.bb84.source import SinglePhotonSource, WeakCoherentSource

__all__ = [
    "MOST_TOLERATED",
    "Agreed",
    "Plan",
    "Requirements",
    "make_config",
    "nothing_agreed",
    "plan_single_photon",
]

MOST_TOLERATED = 0.49


@finite
@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What is asked of a plan.

    Attributes:
        eps_sec: Secrecy.
        eps_cor: Correctness.
        accounting: How two-way error correction is counted.
        schedule: Schedule of Cascade.
        tags: How messages are authenticated.
        abort_probability: About how often a run on the expected channel may abort.
    """

    eps_sec: float = 1e-10
    eps_cor: float = 1e-15
    accounting: LeakAccounting = "both-parties"
    schedule: str = DEFAULT_SCHEDULE
    tags: TagMode = "transcript"
    abort_probability: float = 1e-3

    def __post_init__(self) -> None:
        if not 0.0 < self.abort_probability < 1.0:
            raise ConfigError(
                "impossible abort probability", got=self.abort_probability, expected="between 0 and 1"
            )

    @property
    def tail(self) -> float:
        """Share of each check in the abort probability."""
        return self.abort_probability / 5.0

    @property
    def deviations(self) -> float:
        """The same as standard deviations."""
        from scipy.stats import norm

        return float(norm.isf(self.tail))

    def at_least(self, mean: float) -> int:
        """A count that one of this mean seldom falls below."""
        return math.floor(mean - self.deviations * math.sqrt(mean))

    def at_most_errors(self, n: int, qber: float) -> int:
        """Errors that ``n`` bits seldom exceed."""
        from scipy.stats import binom

        return int(binom.isf(self.tail, n, qber))

    def leak_budget(self, n: int, qber: float) -> int:
        """Bits of leak that reconciling ``n`` bits seldom exceeds."""
        worst = max(self.at_most_errors(n, qber), 1) / n
        plan = schedule(self.schedule)
        alice = math.ceil(plan.planned_efficiency(qber, n) * n * binary_entropy(worst))
        # without an error there is still one parity for each block of each pass
        alice = max(alice, sum(-(-n // size) for size in plan.block_sizes(qber, n)))
        return leak_bits(alice, alice, self.accounting)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Parameters of a run.

    Attributes:
        pulses: Pulses to send.
        basis_probability: Of choosing X, for both parties.
        source: Alice's source.
        config: What post-processing agrees on.
    """

    pulses: int
    basis_probability: float
    source: SinglePhotonSource | WeakCoherentSource
    config: PostprocessConfig

    @property
    def bits_per_pulse(self) -> float:
        """Agreed length over pulses sent."""
        return self.config.length / self.pulses


def plan_single_photon(
    *, pulses: int, channel: FibreChannel, detector: DetectorModel, requirements: Requirements | None = None
) -> Plan:
    """The best basis bias for single photons, and what follows from it.

    Args:
        pulses: Pulses to send.
        channel: The expected line.
        detector: Bob's detectors.
        requirements: What is asked.

    Raises:
        ConfigError: No choice gives a key.
    """
    asked = requirements or Requirements()
    gain = photon_gain(1, channel, detector)
    qber = photon_error_gain(1, channel, detector) / gain

    def agreed(p_x: float) -> Agreed:
        n, k = asked.at_least(pulses * gain * p_x**2), asked.at_least(pulses * gain * (1.0 - p_x) ** 2)
        if min(n, k) < 1:
            return nothing_agreed(min(n, k))
        q_tol = min(asked.at_most_errors(k, qber) / k, MOST_TOLERATED)
        leak = asked.leak_budget(n, qber)
        length = tomamichel_length(
            n=n, k=k, q_tol=q_tol, leak_ec=leak, eps_sec=asked.eps_sec, eps_cor=asked.eps_cor
        )
        return Agreed(n=n, k=k, q_tol=q_tol, qber=qber, leak_budget=leak, length=length)

    best = _best_scalar(lambda p_x: agreed(p_x).length, 0.5, 0.999)
    config = make_config(asked, agreed(best))
    return Plan(pulses=pulses, basis_probability=best, source=SinglePhotonSource(), config=config)


@dataclass(frozen=True, kw_only=True)
class Agreed:
    """The numbers of an agreement, before it is known whether they make a key."""

    n: int
    k: int
    q_tol: float
    qber: float
    leak_budget: int
    length: int


def nothing_agreed(shortfall: int) -> Agreed:
    """An agreement without a key, worse the more pulses are missing."""
    return Agreed(n=1, k=1, q_tol=0.0, qber=0.0, leak_budget=1, length=shortfall - 1)


def make_config(asked: Requirements, agreed: Agreed, decoy: DecoySource | None = None) -> PostprocessConfig:
    """The agreement itself.

    Raises:
        ConfigError: It makes no key.
    """
    return PostprocessConfig(
        n=agreed.n,
        k=agreed.k,
        q_tol=agreed.q_tol,
        expected_qber=agreed.qber,
        leak_budget=agreed.leak_budget,
        length=agreed.length,
        decoy=decoy,
        eps_sec=asked.eps_sec,
        eps_cor=asked.eps_cor,
        accounting=asked.accounting,
        schedule=asked.schedule,
        tags=asked.tags,
    )


def _best_scalar(value: Callable[[float], float], low: float, high: float) -> float:
    """Maximise a rugged function of one variable by a grid that closes in."""
    for _ in range(4):
        step = (high - low) / 32.0
        best = max((low + i * step for i in range(33)), key=value)
        low, high = max(low, best - step), min(high, best + step)
    return best

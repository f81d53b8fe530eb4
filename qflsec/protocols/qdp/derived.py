r"""What an epsilon implies: a ceiling on membership inference, and radii of certified robustness.

*Ceiling.* See :mod:`qflsec.accounting.limits`.

*Radii.* The probability of outcome k changes within trace distance tau by at most tau times the spread of the
eigenvalues of N^dagger(M_k); the difference of two outcomes' probabilities by tau times the spread of
N^dagger(M_k - M_j). A class that leads by more than that stays in the lead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qflsec.accounting.limits import is_vacuous, membership_ceiling
from qflsec.protocols.qdp.accountant import RunAccount
from qflsec.protocols.qdp.channel import Channel, Complex
from qflsec.protocols.qdp.errors import QdpError
from qflsec.protocols.qdp.kappa import check_measurement, kappa_of_effects

__all__ = ["Ceiling", "CertifiedRadius", "certified_radius", "run_ceiling"]


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """The most that an attack on one record's participation can gain.

    Attributes:
        advantage: True positive rate less false positive rate, at most.
        vacuous: Whether it says nothing.
        tau: The trace distance of the records that it tells apart; 1 covers any two.
        covers: In words, what change of a record it is about.
    """

    advantage: float
    vacuous: bool
    tau: float
    covers: str

    def __str__(self) -> str:
        if self.vacuous:
            return f"vacuous: at most {self.advantage:.6g}, which forbids nothing ({self.covers})"
        return f"at most {self.advantage:.6g} ({self.covers})"


def run_ceiling(account: RunAccount) -> Ceiling:
    """The ceiling of a whole run: the better of its (epsilon, delta) and its pure epsilon.

    Replacing a record by another is covered where tau is as large as any two records can be apart; a smaller tau, as
    of one feature, bounds attacks that tell such a change and says nothing of membership.
    """
    tau = account.single.pure.tau
    figures = ((account.epsilon, account.delta), (account.pure_epsilon, 0.0))
    best = min(membership_ceiling(epsilon, delta) for epsilon, delta in figures)
    covers = (
        "replacing a record by any other"
        if tau >= 1
        else f"telling changes within trace distance {tau:g} only: no bound on membership unless any two records' "
        "states are that close"
    )
    return Ceiling(
        advantage=best,
        vacuous=all(is_vacuous(epsilon, delta) for epsilon, delta in figures),
        tau=tau,
        covers=covers,
    )


@dataclass(frozen=True, kw_only=True)
class CertifiedRadius:
    """How far a state may move before the predicted class can change.

    Attributes:
        tau: The trace distance within which the class stays; 0 where nothing is certified.
        by_spread: The radius from the spread of the eigenvalues.
        by_epsilon: The radius from pure epsilon: p_k > e^(2 epsilon) p_j.
    """

    tau: float
    by_spread: float
    by_epsilon: float

    @property
    def angle(self) -> float:
        """How far one feature of a product angle encoding may move, in radians."""
        return 2 * math.asin(min(1.0, self.tau))


def certified_radius(
    channel: Channel, measurement: Sequence[Complex], least: Sequence[float], greatest: Sequence[float]
) -> CertifiedRadius:
    """The trace distance within which the leading class stays in the lead, for one noisy model.

    Args:
        channel: The noise before measurement.
        measurement: The effects, one for each class.
        least: Lower bounds on the classes' probabilities, such as Clopper-Pearson's lower ends of counts.
        greatest: Upper bounds; both alike for exact probabilities. All bounds have to hold at once: of counts, each of
            the 2 c bounds of c classes gets its share of the probability to be wrong.

    Source:
        Du et al., Quantum noise protects quantum classifiers against adversaries, PRR 3, 023153, 2021 (the idea of
        the radius from epsilon); the spread is derived above and never worse for two classes.

    Raises:
        QdpError: The bounds do not fit the measurement.
    """
    effects = check_measurement(channel, measurement)
    if not len(effects) == len(least) == len(greatest) >= 2:
        raise QdpError("one probability for each class", got=f"{len(least)} and {len(greatest)}")
    if not all(0 <= a <= b <= 1 for a, b in zip(least, greatest, strict=True)):
        raise QdpError("bad bounds on probabilities", got=list(zip(least, greatest, strict=True)))
    k = int(np.argmax(least))
    others = [j for j in range(len(effects)) if j != k]
    if any(greatest[j] >= least[k] for j in others):
        return CertifiedRadius(tau=0.0, by_spread=0.0, by_epsilon=0.0)
    spread = min((least[k] - greatest[j]) / _spread(channel, effects[k] - effects[j]) for j in others)
    kappa = kappa_of_effects(channel, effects).value
    runner = max(greatest[j] for j in others)
    ratio = math.inf if runner == 0 else math.sqrt(least[k] / runner)
    epsilon = 0.0 if math.isinf(kappa) else math.inf if kappa <= 1 else (ratio - 1) / (kappa - 1)
    found = min(1.0, max(spread, epsilon))
    return CertifiedRadius(tau=found, by_spread=min(1.0, spread), by_epsilon=min(1.0, epsilon))


def _spread(channel: Channel, difference: Complex) -> float:
    values = np.linalg.eigvalsh(channel.adjoint(difference))
    return max(float(values[-1] - values[0]), 1e-300)

"""What Alice and Bob can do against attacks on the channel and on their devices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal, get_args

from qflsec.attacks.channel.trojan_horse import leaky_phase_error
from qflsec.base import ConfigError
from qflsec.protocols.bb84.asymptotic import binary_entropy
from qflsec.protocols.bb84.config import QuantumConfig
from qflsec.protocols.bb84.source import WeakCoherentSource

__all__ = ["COUNTERMEASURES", "MOST_INJECTED", "Countermeasure", "equip", "leakage_term"]

Countermeasure = Literal[
    "decoy-states", "detector-monitor", "random-assignment", "isolator", "authentication"
]
COUNTERMEASURES: tuple[Countermeasure, ...] = get_args(Countermeasure)
MOST_INJECTED = 1e11
"""Photons per pulse that a fibre bears at 1 GHz: 1e20 a second (Lucamarini et al. 2015, section III.B)."""
_ISOLATOR_DB = 130.0


def equip(config: QuantumConfig, countermeasures: Iterable[str]) -> QuantumConfig:
    """The same line with better devices; authentication acts on the public channel and changes none.

    Args:
        config: The line as it is.
        countermeasures: Names out of :data:`COUNTERMEASURES`.

    Raises:
        ConfigError: There is no such countermeasure.
    """
    names = set(countermeasures)
    if unknown := sorted(names - set(COUNTERMEASURES)):
        raise ConfigError(
            "unknown countermeasure", got=", ".join(unknown), expected=", ".join(COUNTERMEASURES)
        )
    source, detector = config.source, config.detector
    if "decoy-states" in names and source.n_intensities != 3:
        source = WeakCoherentSource(isolation_db=source.isolation_db)
    if "isolator" in names:
        source = replace(source, isolation_db=source.isolation_db + _ISOLATOR_DB)
    if "detector-monitor" in names:
        detector = replace(detector, monitor=True)
    if "random-assignment" in names:
        detector = replace(detector, random_assignment=True)
    return replace(config, source=source, detector=detector)


def leakage_term(
    *, n_single: float, phase_error: float, reflected: float, single_photon_yield: float
) -> float:
    """Bits of key that a leak of Alice's basis costs.

    The bound is asymptotic: it takes the phase error as given.

    Args:
        n_single: Raw-key bits that came from single photons.
        phase_error: Bound on their phase error rate were there no leak.
        reflected: Bound on the mean photons that come back to an adversary for each pulse.
        single_photon_yield: Probability that a single photon of Alice's is detected.

    Source:
        Lucamarini et al., Phys. Rev. X 5, 031030 (2015), Eqs. (6) and (7).
    """
    leaky = leaky_phase_error(phase_error, reflected, single_photon_yield)
    return n_single * (binary_entropy(leaky) - binary_entropy(phase_error))

"""A whole run of BB84 with countermeasures, and attacks as they are written on a command line."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from qflsec.attacks.channel import COUNTERMEASURES, ChannelAttack, equip, leakage_term
from qflsec.attacks.channel.countermeasures import MOST_INJECTED
from qflsec.attacks.channel.trojan_horse import leaky_phase_error, reflected_photons
from qflsec.base import ConfigError
from qflsec.lab.worlds.pairs.text import attack_from_words
from qflsec.protocols.bb84.asymptotic import binary_entropy
from qflsec.protocols.bb84.channel import photon_gain
from qflsec.protocols.bb84.key_length import sampling_deviation
from qflsec.protocols.bb84.optimise import Plan
from qflsec.protocols.bb84.run_config import BB84Config, agree

__all__ = ["DEVICE_COUNTERMEASURES", "attack_from_text", "prepare"]

DEVICE_COUNTERMEASURES = tuple(
    name for name in COUNTERMEASURES if name not in ("decoy-states", "authentication")
)
"""Those that a run can be without: authentication is part of every run, and decoy states are a source."""


def attack_from_text(text: str) -> ChannelAttack:
    """An attack such as ``intercept-resend:0.2`` or ``intercept-resend:fraction=0.2,basis=breidbart``.

    Raises:
        UnknownName: There is no such attack.
        ConfigError: It is no attack on the channel, or a parameter is impossible.
    """
    return attack_from_words(
        text,
        ChannelAttack,  # type: ignore[type-abstract]  # only asked for what it is a subclass of
        words="one on the quantum channel",
    )


def prepare(config: BB84Config, countermeasures: Iterable[str]) -> tuple[BB84Config, Plan]:
    """Better devices, and the agreement that goes with them.

    An isolator bounds what a Trojan horse learns of Alice's basis but does not make it nothing, so that the
    rest is taken off the agreed length.

    Args:
        config: What is asked of a run with plain devices.
        countermeasures: Names out of :data:`DEVICE_COUNTERMEASURES`.

    Raises:
        ConfigError: There is no such countermeasure, or no key can be expected.
    """
    names = tuple(countermeasures)
    if unknown := sorted(set(names) - set(DEVICE_COUNTERMEASURES)):
        raise ConfigError(
            "unknown countermeasure",
            got=", ".join(unknown),
            expected=", ".join(DEVICE_COUNTERMEASURES),
            fix="decoy states are a source, and every run is authenticated",
        )
    plan = agree(config)
    devices = equip(config.quantum(plan), names)
    better = replace(config, detector=devices.detector, isolation_db=devices.source.isolation_db)
    if "isolator" not in names:
        return better, plan
    length = plan.config.length - _leakage_bits(better, plan)
    return better, replace(plan, config=replace(plan.config, length=length))


def _leakage_bits(config: BB84Config, plan: Plan) -> int:
    """Bits that light reflected through the isolator may cost, whatever is observed."""
    agreed = plan.config
    reflected = reflected_photons(MOST_INJECTED, config.isolation_db)
    single_photon_yield = photon_gain(1, config.expected, config.detector)
    if agreed.decoy is None:
        deviation = sampling_deviation(agreed.n, agreed.k, agreed.eps_sec / 4)
        return math.ceil(
            leakage_term(
                n_single=agreed.n,
                phase_error=min(0.5, agreed.q_tol + deviation),
                reflected=reflected,
                single_photon_yield=single_photon_yield,
            )
        )

    def cost(error: float) -> float:
        return binary_entropy(leaky_phase_error(error, reflected, single_photon_yield)) - binary_entropy(
            error
        )

    # The decoy bounds on single photons and their errors are known only after the run: the worst of them.
    return math.ceil(agreed.n * max(cost(step / 2000) for step in range(1001)))

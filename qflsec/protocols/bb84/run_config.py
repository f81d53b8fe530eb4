"""What a whole run of BB84 is asked to be, and the agreement that follows from it before the first pulse."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from qflsec.base import ConfigError, finite
from qflsec.protocols.bb84.channel import (
    FibreChannel,
    coherent_error_gain,
    coherent_gain,
    photon_error_gain,
    photon_gain,
)
from qflsec.protocols.bb84.config import QuantumConfig
from qflsec.protocols.bb84.detector import DetectorModel
from qflsec.protocols.bb84.key_length import tomamichel_length
from qflsec.protocols.bb84.optimise import (
    MOST_TOLERATED,
    Agreed,
    Plan,
    Requirements,
    make_config,
    nothing_agreed,
    plan_single_photon,
)
from qflsec.protocols.bb84.optimise_decoy import plan_decoy
from qflsec.protocols.bb84.source import PhotonSource, SinglePhotonSource, WeakCoherentSource

__all__ = ["SOURCES", "BB84Config", "SourceName", "agree", "length_formula"]

SourceName = Literal["single-photon", "decoy", "weak-coherent"]
SOURCES: tuple[SourceName, ...] = get_args(SourceName)
_LASER_BIAS = 0.9
_FORMULAS: dict[SourceName, str] = {
    "single-photon": "Tomamichel, Lim, Gisin, Renner 2012, theorem 2",
    "decoy": "Lim, Curty, Walenta, Xu, Zbinden 2014, eq. 1, with an exact bound where few errors are seen",
    "weak-coherent": "none: the single-photon formula, which does not hold for laser pulses without decoys",
}


@finite
@dataclass(frozen=True, kw_only=True)
class BB84Config:
    """One run from the first pulse to the key.

    Attributes:
        source: ``"single-photon"``; ``"decoy"``, a laser with three intensities; or ``"weak-coherent"``, a
            laser with one, whose key length no proof covers: it is there to be attacked.
        pulses: Pulses to send.
        expected: The line as Alice and Bob expect it, from which everything is agreed.
        line: The line as it is; the expected one by default.
        detector: Bob's detectors.
        basis_probability: Probability of choosing X, the basis of the key; by default the best one. The
            intensities of a decoy source are chosen together with it.
        intensity: Mean photon number of the source ``"weak-coherent"``.
        isolation_db: Attenuation of light shone into Alice's device and reflected back out.
        requirements: What is asked of the key.
        block_size: Pulses that are in memory at once; a multiple of 8.

    Units:
        intensity: photons per pulse; isolation_db: dB.
    """

    source: SourceName = "single-photon"
    pulses: int = 10_000_000
    expected: FibreChannel = field(default_factory=FibreChannel)
    line: FibreChannel | None = None
    detector: DetectorModel = field(default_factory=DetectorModel)
    basis_probability: float | None = None
    intensity: float = 0.5
    isolation_db: float = 40.0
    requirements: Requirements = field(default_factory=Requirements)
    block_size: int = 1 << 20

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ConfigError("unknown source", got=repr(self.source), expected=" or ".join(SOURCES))
        if self.source == "decoy" and self.basis_probability is not None:
            raise ConfigError(
                "the basis bias of a decoy source is chosen with its intensities",
                got=self.basis_probability,
                fix="leave the basis bias out, or use another source",
            )
        QuantumConfig(
            n_pulses=self.pulses,
            block_size=self.block_size,
            basis_probability=0.5 if self.basis_probability is None else self.basis_probability,
        )
        WeakCoherentSource(
            intensities=(self.intensity,), probabilities=(1.0,), isolation_db=self.isolation_db
        )

    @property
    def proved(self) -> bool:
        """Whether a security proof covers the key's length."""
        return self.source != "weak-coherent"

    def quantum(self, plan: Plan) -> QuantumConfig:
        """The quantum phase of a plan, on the line as it is."""
        return QuantumConfig(
            n_pulses=self.pulses,
            basis_probability=plan.basis_probability,
            source=replace(plan.source, isolation_db=self.isolation_db),
            channel=self.line or self.expected,
            detector=self.detector,
            block_size=self.block_size,
        )


def length_formula(source: SourceName) -> str:
    """Where the length of the key comes from."""
    return _FORMULAS[source]


def agree(config: BB84Config) -> Plan:
    """Choose basis bias, intensities, block sizes, tolerance, budget and length for the expected line.

    Raises:
        ConfigError: No choice gives a key.
    """
    if config.source == "weak-coherent" or config.basis_probability is not None:
        return _plan_at(config, _LASER_BIAS if config.basis_probability is None else config.basis_probability)
    plan = plan_single_photon if config.source == "single-photon" else plan_decoy
    return plan(
        pulses=config.pulses,
        channel=config.expected,
        detector=config.detector,
        requirements=config.requirements,
    )


def _plan_at(config: BB84Config, p_x: float) -> Plan:
    """A plan for a given basis bias, by the single-photon formula.

    Of laser pulses it takes all for single photons: what photon-number splitting lives on.
    """
    asked, line = config.requirements, (config.expected, config.detector)
    source: PhotonSource = SinglePhotonSource()
    if config.source == "single-photon":
        gain, wrong = photon_gain(1, *line), photon_error_gain(1, *line)
    else:
        source = WeakCoherentSource(intensities=(config.intensity,), probabilities=(1.0,))
        gain, wrong = coherent_gain(config.intensity, *line), coherent_error_gain(config.intensity, *line)
    qber = wrong / gain
    n, k = (asked.at_least(config.pulses * gain * p**2) for p in (p_x, 1.0 - p_x))
    if min(n, k) < 1:
        agreed = nothing_agreed(min(n, k))
    else:
        q_tol = min(asked.at_most_errors(k, qber) / k, MOST_TOLERATED)
        leak = asked.leak_budget(n, qber)
        length = tomamichel_length(
            n=n, k=k, q_tol=q_tol, leak_ec=leak, eps_sec=asked.eps_sec, eps_cor=asked.eps_cor
        )
        agreed = Agreed(n=n, k=k, q_tol=q_tol, qber=qber, leak_budget=leak, length=length)
    config_made = make_config(asked, agreed)
    return Plan(pulses=config.pulses, basis_probability=p_x, source=source, config=config_made)

"""Specifications of channel matrices: attacks on BB84's channel against countermeasures."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from qflsec.attacks.channel import equip
from qflsec.base import ConfigError
from qflsec.lab.grid.schema import at, check
from qflsec.lab.grid.spec import Name, Table
from qflsec.lab.scoring.channel import ChannelRules
from qflsec.lab.worlds.pairs.spec import PairSpec
from qflsec.protocols.bb84 import (
    DetectorModel,
    FibreChannel,
    QuantumConfig,
    SinglePhotonSource,
    WeakCoherentSource,
)

__all__ = ["SOURCES", "ChannelMatrixSpec"]

SOURCES = {"single-photon": SinglePhotonSource, "weak-coherent": WeakCoherentSource}


class ChannelMatrixSpec(PairSpec):
    """A specification.

    Attributes:
        pulses: Pulses of each run.
        basis_probability: Of choosing X, for both parties.
        source: Alice's source: ``kind`` and its fields.
        channel: Fields of :class:`qflsec.protocols.bb84.FibreChannel`.
        detector: Fields of :class:`qflsec.protocols.bb84.DetectorModel`.
        rules: Fields of :class:`qflsec.lab.scoring.channel.ChannelRules`.
        countermeasures: Sets of countermeasures by name: the columns.
    """

    kind: Literal["channel"] = "channel"
    pulses: int
    basis_probability: float = 0.5
    source: Table = Field(default_factory=lambda: {"kind": "weak-coherent"})
    channel: Table = Field(default_factory=dict)
    detector: Table = Field(default_factory=dict)
    rules: Table = Field(default_factory=dict)
    countermeasures: dict[Name, tuple[str, ...]] = Field(min_length=1)

    def config(self) -> QuantumConfig:
        """The line without countermeasures.

        Raises:
            ConfigError: A table cannot be used.
        """
        source = dict(self.source)
        kind = source.pop("kind", None)
        if kind not in SOURCES:
            raise ConfigError("source.kind: unknown source", got=repr(kind), expected=" or ".join(SOURCES))
        with at("source"):
            light = SOURCES[kind](**check(SOURCES[kind], source, ""))
        with at("channel"):
            channel = FibreChannel(**check(FibreChannel, self.channel, ""))
        with at("detector"):
            detector = DetectorModel(**check(DetectorModel, self.detector, ""))
        return QuantumConfig(
            n_pulses=self.pulses,
            basis_probability=self.basis_probability,
            source=light,
            channel=channel,
            detector=detector,
            block_size=1 << 18,
        )

    def judging(self) -> ChannelRules:
        """How Alice and Bob judge a run.

        Raises:
            ConfigError: The table cannot be used.
        """
        return ChannelRules(**check(ChannelRules, self.rules, "rules"))

    def check(self) -> None:
        """Refuse a line, rules or countermeasures that cannot be used.

        Raises:
            ConfigError: One cannot.
        """
        self.judging()
        config = self.config()
        for column, names in self.countermeasures.items():
            with at(f"countermeasures.{column}"):
                equip(config, names)

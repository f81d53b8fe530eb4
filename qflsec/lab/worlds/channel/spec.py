"""Specifications of channel matrices: TOML files that cross attacks on BB84's channel with countermeasures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from qflsec.attacks.channel import ChannelAttack, equip
from qflsec.base import ConfigError
from qflsec.lab.grid.schema import at, check, read
from qflsec.lab.scoring.channel import ChannelRules
from qflsec.lab.worlds.side_spec import attacks_by_label, folder_presets, read_specification
from qflsec.protocols.bb84 import (
    DetectorModel,
    FibreChannel,
    QuantumConfig,
    SinglePhotonSource,
    WeakCoherentSource,
)

__all__ = ["HONEST", "ChannelAttackTable", "ChannelMatrixSpec", "channel_presets", "load_channel_spec"]

Table = dict[str, Any]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 .,_+-]*$", max_length=60)]
_STRICT = ConfigDict(extra="forbid", frozen=True)
_SOURCES = {"single-photon": SinglePhotonSource, "weak-coherent": WeakCoherentSource}
HONEST = "honest"
"""The label of the honest line, which is the first row of every matrix."""


class ChannelAttackTable(BaseModel):
    """A table ``[[attacks]]``.

    Attributes:
        name: The attack's registry name.
        label: Its name in the matrix; the registry name by default.
        params: The attack's own parameters.
    """

    model_config = _STRICT
    name: str
    label: Name | None = None
    params: Table = {}


class ChannelMatrixSpec(BaseModel):
    """A specification.

    Attributes:
        name: The matrix's name.
        description: What it is for.
        seeds: The seeds; every cell has one run for each.
        pulses: Pulses of each run.
        basis_probability: Of choosing X, for both parties.
        source: Alice's source: ``kind`` and its fields.
        channel: Fields of :class:`qflsec.protocols.bb84.FibreChannel`.
        detector: Fields of :class:`qflsec.protocols.bb84.DetectorModel`.
        rules: Fields of :class:`qflsec.lab.scoring.channel.ChannelRules`.
        countermeasures: Sets of countermeasures by name: the columns.
        attacks: The rows below that of the honest line.
    """

    model_config = _STRICT
    name: Name
    description: str = ""
    seeds: tuple[int, ...] = Field(min_length=1)
    pulses: int
    basis_probability: float = 0.5
    source: Table = {"kind": "weak-coherent"}
    channel: Table = {}
    detector: Table = {}
    rules: Table = {}
    countermeasures: dict[Name, tuple[str, ...]] = Field(min_length=1)
    attacks: tuple[ChannelAttackTable, ...] = Field(min_length=1)

    def with_seeds(self, *, seeds: tuple[int, ...] | None = None, offset: int = 0) -> ChannelMatrixSpec:
        """The same matrix over other seeds, each shifted by ``offset``."""
        chosen = tuple(seed + offset for seed in (self.seeds if seeds is None else seeds))
        return self.model_copy(update={"seeds": chosen})

    def config(self) -> QuantumConfig:
        """The line without countermeasures.

        Raises:
            ConfigError: A table cannot be used.
        """
        source = dict(self.source)
        kind = source.pop("kind", None)
        if kind not in _SOURCES:
            raise ConfigError("source.kind: unknown source", got=repr(kind), expected=" or ".join(_SOURCES))
        with at("source"):
            light = _SOURCES[kind](**check(_SOURCES[kind], source, ""))
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

    def rows(self) -> dict[str, ChannelAttack | None]:
        """The attacks by label, the honest line first.

        Raises:
            ConfigError: A table cannot be used, or two labels are equal.
        """
        return attacks_by_label(
            self.attacks,
            ChannelAttack,  # type: ignore[type-abstract]  # only asked for what it is a subclass of
            honest=HONEST,
            what="an attack on the quantum channel",
        )


def channel_presets() -> dict[str, Path]:
    """The channel matrices that come with the package, by name."""
    return folder_presets("channel")


def load_channel_spec(preset_or_file: str | Path) -> ChannelMatrixSpec:
    """A specification by the name of a preset or the path of a file, wholly checked.

    Raises:
        ConfigError: There is none, or it cannot be used; the message says where and how to mend it.
    """

    def parse(document: dict[str, Any]) -> ChannelMatrixSpec:
        spec = read(ChannelMatrixSpec, document, "")
        if len(set(spec.seeds)) != len(spec.seeds):
            raise ConfigError("seeds: a seed is listed twice", got=list(spec.seeds))
        spec.judging()
        spec.rows()
        for column, names in spec.countermeasures.items():
            with at(f"countermeasures.{column}"):
                equip(spec.config(), names)
        return spec

    return read_specification(preset_or_file, channel_presets(), parse, what="channel matrix")

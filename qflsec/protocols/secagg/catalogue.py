"""The aggregation protocols by name, as ``qflsec secagg`` and the benchmark run them.

Every protocol is a registered layer, so a new one needs no line here: an :class:`AggregationLayer` that is
registered as ``"ddp"`` can be run as ``--protocol ddp`` at once. A protocol whose control messages have names, or
whose usual parameters are not the layer's defaults, says so with :func:`describe`::

    describe("ddp", defaults={"noise_multiplier": 1.0}, namer=message_name, stages=SECAGG_STAGES)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from qflsec.base import ConfigError, find, names
from qflsec.federation import AggregationLayer, ClientLayer
from qflsec.protocols.secagg.messages import Kind, kind_of
from qflsec.protocols.secagg.one_round import Namer
from qflsec.protocols.secagg.plain import Plain

__all__ = ["SECAGG_STAGES", "Protocol", "describe", "message_name", "protocol", "protocol_names"]

SECAGG_STAGES: Mapping[str, str] = {
    "advertise": "advertise",
    "share": "parcels",
    "mask": "update",
    "agree": "statement",
    "reveal": "reveal",
}
"""Stages of ``secagg``, and the message that a client sends in each."""


def message_name(message: bytes) -> str:
    """What a message of ``secagg`` is called."""
    kind = kind_of(message)
    return Kind(kind).name.lower() if kind in set(Kind) else "control"


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a protocol is run by name.

    Attributes:
        name: The layer's registry name.
        defaults: Parameters that differ from the layer's defaults.
        stages: Where a client can drop out: a name, and the message that it then no longer sends.
        namer: What control messages are called.
    """

    name: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    stages: Mapping[str, str] = field(default_factory=lambda: {"mask": "update"})
    namer: Namer | None = None

    def layer(self, **options: Any) -> ClientLayer:  # noqa: ANN401 - each layer has options of its own
        """The layer with these options; those that are None are left to the layer.

        Raises:
            ConfigError: The layer has no such option, or refuses its value.
        """
        kind = find("layer", self.name)
        known = {part.name for part in fields(kind)}
        given = {key: value for key, value in options.items() if value is not None}
        unknown = sorted(set(given) - known)
        if unknown:
            raise ConfigError(
                f"the protocol {self.name!r} has no such option",
                got=", ".join(f"--{name}" for name in unknown),
                expected=", ".join(sorted(set(options) & known)) or "none of these options",
            )
        made = kind(**{**self.defaults, **given})
        assert isinstance(made, ClientLayer)
        return made

    def message_at(self, stage: str) -> str:
        """The message that a client which drops out at a stage no longer sends.

        Raises:
            ConfigError: The protocol has no such stage.
        """
        if stage not in self.stages:
            raise ConfigError(
                f"the protocol {self.name!r} has no stage {stage!r}", expected=" or ".join(self.stages)
            )
        return self.stages[stage]


_described: dict[str, Protocol] = {}


def describe(
    name: str,
    *,
    defaults: Mapping[str, Any] | None = None,
    stages: Mapping[str, str] | None = None,
    namer: Namer | None = None,
) -> None:
    """Say how a protocol is run by name, where the layer alone does not say it.

    Args:
        name: The layer's registry name.
        defaults: Parameters that differ from the layer's defaults.
        stages: Where a client can drop out, and the message that it then no longer sends.
        namer: What control messages are called.
    """
    plain = Protocol(name=name)
    _described[name] = Protocol(
        name=name,
        defaults=plain.defaults if defaults is None else defaults,
        stages=plain.stages if stages is None else stages,
        namer=namer,
    )


def protocol_names() -> tuple[str, ...]:
    """Every aggregation protocol, the baseline first."""
    found = [name for name in names("layer") if _aggregates(find("layer", name))]
    return ("plain", *(name for name in found if name != "plain"))


def protocol(name: str) -> Protocol:
    """The protocol of this name.

    Raises:
        ConfigError: There is none.
    """
    if name not in protocol_names():
        raise ConfigError("unknown protocol", got=repr(name), expected=", ".join(protocol_names()))
    return _described.get(name, Protocol(name=name))


def _aggregates(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, AggregationLayer | Plain)


describe("masked", defaults={"bits": 32, "fractional_bits": 16})
describe("ddp", stages=SECAGG_STAGES, namer=message_name)
describe("secagg", stages=SECAGG_STAGES, namer=message_name)
describe("validated", defaults={"max_norm": 4.0}, stages=SECAGG_STAGES, namer=message_name)
describe("validated-groups", stages=SECAGG_STAGES, namer=message_name)

"""What commands read from a specification of federated learning: pipelines and stacks by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from qflsec.base.errors import ConfigError

if TYPE_CHECKING:
    from qflsec.lab.worlds.federation.matrix import Matrix

__all__ = ["federated_matrix", "named"]

Value = TypeVar("Value")


def federated_matrix(spec: str) -> Matrix:
    """The matrix of a preset or file.

    Raises:
        ConfigError: It is one of another kind.
    """
    from qflsec.lab import build, load_spec
    from qflsec.lab.worlds.federation.world import FederationWorld

    world = build(load_spec(spec))
    if not isinstance(world, FederationWorld):
        raise ConfigError(
            "the specification has no models that are trained",
            got=spec,
            expected="a matrix of attacks on federated learning",
        )
    return world.matrix


def named(known: Mapping[str, Value], wanted: Sequence[str] | None, what: str) -> dict[str, Value]:
    """The values of these names; all of them where none is wanted.

    Args:
        known: All values by name.
        wanted: Names.
        what: What they are names of.

    Raises:
        ConfigError: A name is not known.
    """
    if strangers := [name for name in wanted or () if name not in known]:
        raise ConfigError(f"no such {what}", got=", ".join(strangers), expected=", ".join(known))
    return {name: known[name] for name in wanted or known}

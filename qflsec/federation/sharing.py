"""What clients share of a model: the rest each of them keeps, and nobody else ever holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeVar

import torch

from qflsec.base import ConfigError
from qflsec.models import Model

__all__ = ["Sharing"]

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """Which places of the flat parameter vector are shared.

    Attributes:
        places: The shared places, in order; None where all are.
        n_shared: How many are shared, S.
    """

    places: tuple[int, ...] | None
    n_shared: int

    @classmethod
    def of(cls, model: Model, personal: Sequence[str]) -> Sharing:
        """The sharing that leaves these blocks of the model's layout to each client.

        Args:
            model: The model.
            personal: Names of blocks, such as ``"after.0.weight"``, or what several start with, such as ``"after"``.

        Raises:
            ConfigError: A name is in no block, or nothing is left to share.
        """
        if not personal:
            return cls(places=None, n_shared=model.n_params)
        blocks = [name for name, _ in model.layout]
        for name in personal:
            if not any(_within(block, name) for block in blocks):
                raise ConfigError(
                    f"the model {model.name!r} has no parameters of this name",
                    got=repr(name),
                    expected=f"one of {', '.join(blocks)}, or what several of them start with",
                )
        shared = [
            place for block, place in _places(model) if not any(_within(block, name) for name in personal)
        ]
        if not shared:
            raise ConfigError("clients that share no parameter do not train together", got=list(personal))
        return cls(places=tuple(shared), n_shared=len(shared))

    def shared(self, full: torch.Tensor) -> torch.Tensor:
        """The shared part.

        Shapes:
            full: ``(..., P)``; returns: ``(..., S)``
        """
        return full if self.places is None else full[..., list(self.places)]

    def of_shared(self, each: Sequence[_T]) -> tuple[_T, ...]:
        """What belongs to the shared places, of a sequence with an entry for each place."""
        return tuple(each) if self.places is None else tuple(each[place] for place in self.places)

    def filled(self, own: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
        """The full vectors of clients that hold these shared values.

        Shapes:
            own: ``(..., P)``; shared: ``(..., S)``; returns: ``(..., P)``
        """
        if self.places is None:
            return shared
        full = own.clone()
        full[..., list(self.places)] = shared
        return full


def _within(block: str, name: str) -> bool:
    return block == name or block.startswith(f"{name}.")


def _places(model: Model) -> list[tuple[str, int]]:
    names = [name for name, shape in model.layout for _ in range(prod(shape))]
    return [(name, place) for place, name in enumerate(names)]

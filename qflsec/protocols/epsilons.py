"""How far distilled keys may be from ideal ones, and how that adds up over the keys that are used.

A block of key is within eps of an ideal one if the joint state of both copies and of everything that Eve has is within
trace distance eps of a state in which both ends hold one uniform string that Eve knows nothing of. Three facts follow:

- Whatever is done with the keys of a block, to all of them together, is one operation on that state, and no operation
  increases a trace distance. So a block's epsilon is counted once, however many keys were cut from it.
- It is counted whole as soon as one of its keys is used: a distillation that hands the whole block to Eve with probability
  eps, and is ideal otherwise, keeps its promise, and each single key of it is as badly known as all of them together.
- Blocks add up: put ideal ones in their place one after another, and the distances of the steps add (the union bound).

Source:
    Renner, Security of Quantum Key Distribution, PhD thesis, ETH Zurich (2005), section 2.2 (composability and the
    union bound of distances).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from uuid import UUID

from qflsec.base import ConfigError, finite

__all__ = ["Epsilons", "KeyBlock"]


@finite
@dataclass(frozen=True, kw_only=True)
class Epsilons:
    """How far the keys of one block may be from ideal ones.

    Attributes:
        eps_sec: Secrecy: how far they may be from uniform and unknown to Eve.
        eps_cor: Correctness: the probability that the two ends differ.
        eps_auth: The failure of the authentication of their distillation, its pads included.

    Raises:
        ConfigError: One is no probability.
    """

    eps_sec: float
    eps_cor: float
    eps_auth: float

    def __post_init__(self) -> None:
        for name in ("eps_sec", "eps_cor", "eps_auth"):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0.0 <= value <= 1.0):
                raise ConfigError(
                    f"{name!r} of a block of key is a probability", got=value, expected="0 to 1"
                )

    def __str__(self) -> str:
        return f"eps_sec {self.eps_sec:.1e}, eps_cor {self.eps_cor:.1e}, eps_auth {self.eps_auth:.1e}"

    @property
    def total(self) -> float:
        """All three together, by the union bound."""
        return self.eps_sec + self.eps_cor + self.eps_auth

    def within(self, most: Epsilons) -> bool:
        """Whether each of the three is at most that of ``most``."""
        return (
            self.eps_sec <= most.eps_sec and self.eps_cor <= most.eps_cor and self.eps_auth <= most.eps_auth
        )


@finite
@dataclass(frozen=True, kw_only=True)
class KeyBlock:
    """The distilled block that a key was cut from.

    Attributes:
        name: Its public name, equal at both ends.
        epsilons: How far its keys may be from ideal ones, all of them together.
        n_keys: How many keys were cut from it.
    """

    name: UUID
    epsilons: Epsilons
    n_keys: int

    def __post_init__(self) -> None:
        if self.n_keys < 1:
            raise ConfigError("a block without keys", got=self.n_keys, expected="1 or more")

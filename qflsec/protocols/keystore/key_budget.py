"""What an application accepts of the keys that it uses, and what it has taken upon itself so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from qflsec.protocols.epsilons import Epsilons
from qflsec.protocols.keystore.errors import WeakKeys
from qflsec.protocols.keystore.keys import QkdKey

__all__ = ["KeyAccount", "KeyBudget"]


@dataclass(frozen=True, kw_only=True)
class KeyBudget:
    """What an application accepts of the keys of one link.

    Attributes:
        block: The worst block that it takes keys from.
        blocks: How many blocks of that kind it may use altogether; more, if they are better.
    """

    block: Epsilons
    blocks: int

    @property
    def total(self) -> float:
        """How far all keys of the link together may be from ideal ones."""
        return self.blocks * self.block.total


class KeyAccount:
    """The blocks behind the keys that one application used on one link, in both directions.

    Args:
        budget: What it accepts.
    """

    def __init__(self, budget: KeyBudget) -> None:
        self._budget = budget
        self._blocks: dict[UUID, Epsilons] = {}

    @property
    def total(self) -> float:
        """How far the keys used so far may be from ideal ones: each block once."""
        return math.fsum(epsilons.total for epsilons in self._blocks.values())

    def admit(self, keys: Sequence[QkdKey]) -> None:
        """Take keys upon the account, before a bit of them is used; all or none.

        Raises:
            WeakKeys: The epsilons of a key are unknown or too large, or the blocks are too many.
        """
        blocks = dict(self._blocks)
        for key in keys:
            if key.block is None:
                raise WeakKeys(
                    f"key {key.key_id} says nothing of its epsilons, so that nothing can be claimed of it",
                    fix="state the epsilons of its block when it is stored",
                )
            epsilons = key.block.epsilons
            if not epsilons.within(self._budget.block) or blocks.get(key.block.name, epsilons) != epsilons:
                raise WeakKeys(
                    f"key {key.key_id} is too weak", got=epsilons, expected=f"at most {self._budget.block}"
                )
            blocks[key.block.name] = epsilons
        total = math.fsum(epsilons.total for epsilons in blocks.values())
        if total > self._budget.total:
            raise WeakKeys(
                f"the epsilons of {len(blocks)} blocks of key add up to too much", got=f"{total:.1e}",
                expected=f"at most {self._budget.total:.1e}", fix="use larger blocks of key, or better ones",
            )  # fmt: skip
        self._blocks = blocks

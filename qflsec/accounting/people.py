"""People behind records: how many records one person has, where, and what that makes of a record's guarantee.

A guarantee for a record or a client holds for a person who has one of them. Whoever has several needs rows of the
unit ``"person"``: from the mechanism where a layer knows it (:mod:`qflsec.defenses.privacy.person_rows`), else by the
conversion of group privacy (:mod:`qflsec.accounting.person_rows`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

__all__ = ["People"]

_MOST_KINDS = 32


@dataclass(frozen=True, kw_only=True)
class People:
    """Who stands behind the records of a training.

    Attributes:
        told_by: What tells people apart in the data, in words; empty where nobody looked.
        named: Whether the data name people; else equal records are one person's, and nobody knows of others.
        kinds: For every kind of person with more than one record, the number at each client; equal kinds once.
    """

    told_by: str = ""
    named: bool = False
    kinds: tuple[tuple[int, ...], ...] = ()

    def at(self, clients: Collection[int]) -> tuple[tuple[int, ...], ...]:
        """What people with more than one record have at some clients: those kinds that no other kind exceeds.

        A kind is the numbers of records at the clients that hold any, the largest first. Where many remain, one that
        exceeds them all stands for them.

        Args:
            clients: The clients that count.
        """
        found = {
            tuple(sorted((kind[client] for client in clients if kind[client]), reverse=True))
            for kind in self.kinds
        }
        several = sorted((kind for kind in found if sum(kind) > 1), reverse=True)
        most = [
            kind for kind in several if not any(other != kind and _covers(other, kind) for other in several)
        ]
        if len(most) <= _MOST_KINDS:
            return tuple(most)
        width = max(map(len, most))
        padded = [kind + (0,) * (width - len(kind)) for kind in most]
        return (tuple(max(column) for column in zip(*padded, strict=True)),)

    def words(self, kind: tuple[int, ...]) -> str:
        """What people of a kind have, in words."""
        where = "" if len(kind) == 1 else f" at {len(kind)} clients"
        return f"{sum(kind)} records{where} (told by {self.told_by})"


def _covers(kind: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return len(kind) >= len(other) and all(a >= b for a, b in zip(kind, other, strict=False))

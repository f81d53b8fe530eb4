"""What an inversion attack reads off a view: one update and the model that it starts from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from qflsec.attacks.needs import missing_items
from qflsec.federation import FederationConfig
from qflsec.threat import Item, View

__all__ = [
    "Observation",
    "disjoint_items",
    "missing_observation",
    "observe",
    "observe_rounds",
    "usable_item",
]

# In the order of preference: a mean of updates fits the model of the attack, a robust rule's step does not.
_KINDS = ("update", "aggregate", "step")


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One update, or a mean of updates, that contains the target's, or may contain it.

    Attributes:
        params: The model that the clients started from.
        update: What the target's local training added to it, on its own or averaged with others.
        round: The round.
        about: The clients whose updates are in it; None where the view does not say.
        size: How many they are at least, as far as the view says.

    Shapes:
        params: ``(P,)``; update: ``(P,)``
    """

    params: torch.Tensor
    update: torch.Tensor
    round: int
    about: frozenset[int] | None
    size: int = 1


def missing_observation(view: View, target: int, *, first: bool = False) -> str | None:
    """Why there is no observation; None where there is one.

    Args:
        view: The view.
        target: The client.
        first: Whether it must be of the first round in which the client is seen, since what its optimiser keeps from
            earlier ones is not known.
    """
    what = f"update or sum that contains client {target}"
    reason = missing_items(view, *_KINDS, what=what, about=target)
    if reason is None and not _usable(view, target):
        reason = f"no model that an {what} starts from can be read"
    if reason is None and first:
        seen = min(item.round for item in view.items if item.kind in _KINDS and item.may_hold(target))
        if observe(view, target).round > seen:
            reason = f"client {target}'s optimiser keeps its state, and its first update cannot be read as well as later ones"
    return reason


def observe(view: View, target: int) -> Observation:
    """The readable item that mixes the target with the fewest others, of these the earliest.

    Where no item names the target, it is one that may contain it: a view that does not say who took part leaves the
    attack to guess.

    A view is closed under subtraction, so a sum of which shares are known stands there without them; the
    number of clients is then the anonymity set. (A sum whose shares are all known has the anonymity set 0,
    and says less than the target's own update.) Early rounds come first because gradients of a model that
    has not been fitted are larger.
    """
    return usable_item(view, min(_best(view, target), key=lambda item: (*_rank(item), item.round)))


def observe_rounds(view: View, target: int) -> list[Observation]:
    """One item of each round that mixes the target with as few others as the best round does, earliest first."""
    usable = _best(view, target)
    least = min(_rank(item)[0] for item in usable)
    found: dict[int, Item] = {}
    for item in sorted(usable, key=lambda item: (item.round, *_rank(item))):
        if _rank(item)[0] == least:
            found.setdefault(item.round, item)
    return [usable_item(view, item) for item in found.values()]


def disjoint_items(
    view: View, clients: Iterable[int], training: FederationConfig, *, rounds: int
) -> list[Item]:
    """The smallest readable updates and sums of known honest clients, overlapping in no client, of the first rounds.

    Where an optimiser keeps its state, the first round alone can be used.

    Args:
        view: The view.
        clients: The honest clients.
        training: How they train.
        rounds: Of how many rounds at most, the earliest ones.
    """
    honest = frozenset(clients)
    held = [
        item
        for item in view.readable("update", "aggregate")
        if item.named and item.named <= honest and view.base_of(item) is not None
    ]
    seen = sorted({item.round for item in held})
    if training.keeps_state:
        seen = [one for one in seen if one == 0]
    found: list[Item] = []
    for one in seen[:rounds]:
        taken: frozenset[int] = frozenset()
        for item in sorted((i for i in held if i.round == one), key=lambda i: (len(i.named), i.kind)):
            if not item.named & taken:
                taken |= item.named
                found.append(item)
    return found


def _rank(item: Item) -> tuple[int, int]:
    return item.size or item.k, _KINDS.index(item.kind)


def _best(view: View, target: int) -> list[Item]:
    """Items that name the target, or where none does, those that may contain it."""
    usable = _usable(view, target)
    return [item for item in usable if item.about is not None] or usable


def usable_item(view: View, item: Item) -> Observation:
    """An item whose base can be read, as an observation."""
    params = view.base_of(item)
    assert params is not None  # callers see to it
    return Observation(
        params=params,
        update=item.vector,
        round=item.round,
        about=item.about,
        size=max(1, item.size or item.k),
    )


def _usable(view: View, target: int) -> list[Item]:
    return [
        item for item in view.readable(*_KINDS) if item.may_hold(target) and view.base_of(item) is not None
    ]

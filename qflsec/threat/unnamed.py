"""Steps of models of which a coalition cannot say whose updates are in them.

Whatever stands in such an item must be the same whoever took part: no names, no weight and no count beyond what
is public. Where the number of a round's clients is public and all count alike, the weight is public as well, and
the coalition takes off the updates that it knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from qflsec.threat.facts import LaneFacts
from qflsec.threat.rosters import KnownRosters
from qflsec.threat.versions import Origin, Path, Version
from qflsec.threat.view import MODELS, Item

__all__ = ["unnamed_model", "unnamed_steps"]


def unnamed_steps(
    after: Item,
    path: Path,
    models: Mapping[Version, Item],
    facts: LaneFacts,
    read: Mapping[int, Sequence[Item]],
    corrupted: frozenset[int],
) -> list[Item]:
    """What was trained between a model and the nearest readable ones before it, without names.

    Args:
        after: The model.
        path: What lies between.
        models: The models that are read.
        facts: What is known of the run.
        read: By round, the single updates that are read as such.
        corrupted: The corrupted clients.
    """
    value = path.difference(after.vector, {version: models[version].vector for version in path.start})
    origin = path.origins[0][0]
    size = _size(origin, facts)
    alone = len(path.origins) == 1
    step = Item(
        round=max(part.round for part, _ in path.origins),
        kind=_kind(path, size),
        form="plain",
        value=value / path.factor,
        weight=_weight(origin, size, facts) if alone else None,
        about=None,
        of=size if alone else None,
        base=next(iter(origin.bases)) if alone and len(origin.bases) == 1 else None,
        sender=after.sender,
        receiver=after.receiver,
        derived=True,
        k=max(_fewest(part, facts, corrupted, read.get(part.round, ())) for part, _ in path.origins),
    )
    known = [item for item in read.get(origin.round, ()) if item.named and item.named <= _counted(origin)]
    return [step, *_rest(step, known)]


def unnamed_model(item: Item, facts: LaneFacts, known: KnownRosters, corrupted: frozenset[int]) -> Item:
    """A model without names, where the coalition cannot name all who trained it; anything else as it is."""
    if item.kind not in MODELS or known.always is None:
        return item
    history = facts.versions.history(item.version) if item.version is not None else ()
    told = frozenset().union(*(origin.candidates for origin in history))
    # a model that was altered on its way has no history, and is taken as nobody's that can be named
    if known.names(history) and item.named <= told:
        return item
    fewest = [_fewest(origin, facts, corrupted) for origin in history if origin.candidates]
    return replace(item, about=None, k=max(fewest, default=1))


def _kind(path: Path, size: int | None) -> str:
    if len(path.origins) > 1:
        return "path"
    if not path.linear:
        return "step"
    return "update" if size == 1 else "aggregate"


def _size(origin: Origin, facts: LaneFacts) -> int | None:
    """How many clients are in a step, where that is public; a client that was left out makes it unknown."""
    size = facts.rosters.size
    return size if size == len(origin.trained) else None


def _weight(origin: Origin, size: int | None, facts: LaneFacts) -> float | None:
    """The weight behind a step, where it is the same for every roster of its size."""
    counts = {facts.counts[client] for client in origin.candidates}
    return size * next(iter(counts)) if size is not None and len(counts) == 1 else None


def _counted(origin: Origin) -> frozenset[int]:
    return frozenset(part.client for part in origin.trained)


def _fewest(origin: Origin, facts: LaneFacts, corrupted: frozenset[int], read: Sequence[Item] = ()) -> int:
    """How many honest clients with unknown shares there are at least: one, where nothing of their number is public."""
    if _size(origin, facts) is None:
        return 1
    return len(_counted(origin) - corrupted - frozenset().union(*(item.named for item in read)))


def _rest(step: Item, known: Sequence[Item]) -> list[Item]:
    """The step less the updates that the coalition knows."""
    if (
        step.kind != "aggregate"
        or step.weight is None
        or step.of is None
        or step.of <= len(known)
        or not known
    ):
        return []
    total, weight = step.vector.double() * step.weight, step.weight
    share = step.weight / step.of
    for item in known:
        total = total - item.vector.double() * share
        weight -= share
    rest = step.of - len(known)
    value = (total / weight).to(step.vector.dtype)
    kind = "update" if rest == 1 else "aggregate"
    return [replace(step, kind=kind, value=value, weight=weight, of=rest)]

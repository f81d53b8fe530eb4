"""Closure: what a coalition can compute from what it sees.

Without it an attack would be called blocked although its coalition only has to add or subtract: two models
whose line of descent is public give the coalition what was trained between them, and an aggregate less the
updates that it knows gives the remainder. Who trained between two models follows from the graph of versions
for whoever knows the rosters; for others the step has no names (:mod:`qflsec.threat.unnamed`). A model or an
update whose place in the graph is unknown is refused, never guessed. The number of examples of each client is
taken as known to every coalition: it is a small integer that can be enumerated, and withholding it would
overstate a protection.

What a coalition could do beyond this, and the closure does not:

- Rosters that its messages do not show are not inferred, neither from weights nor from the models themselves.
- A step of a rule that is no mean is taken as it is. Its k counts the clients that the rule was given; a rule such
  as a median passes on single numbers of one client, and says of nobody that it is mixed with others.
- Known sums are taken off a difference of models over several steps, whole ones only: it is not solved together
  with sums that share some of a step's clients.
- A model that an active network altered on its way is not in the view, although the network made it; nor is the
  first model in the view of parties that it was not sent to, although they may know it otherwise: then the first
  difference of models is theirs as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter

import numpy as np
import torch

from qflsec.base import QflsecError
from qflsec.threat.facts import LaneFacts
from qflsec.threat.part_sums import part_sums
from qflsec.threat.remainders import remainders
from qflsec.threat.rosters import KnownRosters
from qflsec.threat.solved import solved
from qflsec.threat.unnamed import unnamed_model, unnamed_steps
from qflsec.threat.versions import Origin, Path, Trained, Version
from qflsec.threat.view import MODELS, SUMS, Item

__all__ = ["close"]

_NUMBERS = MODELS | SUMS

Singles = Mapping[int, Sequence[Item]]
"""By round, the single updates that are read as such."""


def close(
    items: Sequence[Item], facts: LaneFacts, corrupted: frozenset[int], known: KnownRosters | None = None
) -> tuple[Item, ...]:
    """The items together with all that follows from them, each with its anonymity set.

    Args:
        items: What the coalition sees, and what its layers let it compute.
        facts: What is known of the run.
        corrupted: The corrupted clients.
        known: What the coalition knows of rosters; all by default.

    Raises:
        QflsecError: A readable model or update has no known place among the run's versions.
    """
    known = known or KnownRosters()
    seen = [_placed(item, facts) for item in items]
    found = [item for item in seen if item.form == "plain" and item.kind in _NUMBERS]
    read = len(found)
    found.extend(_next_models(found, facts, known))
    unnamed = _unnamed(found, facts, known, corrupted)
    found.extend(_steps(found, facts, known))
    singles = _singles(found)  # whatever is derived from here on is no update that was read as such
    found.extend(_residuals(found, singles, facts))
    found.extend(remainders(found, facts))
    follow = _singles(found, derived=True)
    if not facts.versions.is_chain and known.names(origin for _, origin in facts.versions.items()):
        sums = [item for item in (*seen, *found[read:]) if item.kind in SUMS]
        held = {_anonymity(item, singles, follow, corrupted) for item in sums}
        found.extend(solved(found, facts, corrupted, min(held - {0}, default=None)))
        follow = _singles(found, derived=True)
    found.extend(part_sums(_models(found), singles, facts))
    every = (*seen, *found[read:])
    counted = [
        item.with_k(
            _anonymity(item, singles, follow, corrupted) if item.kind in SUMS else len(item.named - corrupted)
        )
        for item in every
    ]
    if known.always is not None:
        counted = [unnamed_model(item, facts, known, corrupted) for item in counted]
    return tuple(sorted((*counted, *unnamed), key=attrgetter("round", "derived")))


def _placed(item: Item, facts: LaneFacts) -> Item:
    """The item, with the base of its round where a layer derived it; refused where its place is unknown."""
    if item.form != "plain":
        return item
    if item.kind in MODELS:
        if item.version is None:
            raise QflsecError(
                "a model was sent without its version", got=f"{item.kind} of round {item.round}"
            )
        _ = facts.versions[item.version]
    if item.kind == "aggregate" and len(item.named) == 1:
        item = replace(item, kind="update")  # the mean of one update
    if item.kind in SUMS and item.base is None and item.derived:
        return replace(item, base=facts.versions.base_of_round(item.round, item.named))
    if item.base is not None:
        _ = facts.versions[item.base]
    return item


def _models(items: Iterable[Item]) -> dict[Version, Item]:
    """The models that are read, each once."""
    models: dict[Version, Item] = {}
    for item in items:
        if item.kind in MODELS and item.form == "plain" and item.version is not None:
            models.setdefault(item.version, item)
    return models


def _next_models(items: Sequence[Item], facts: LaneFacts, known: KnownRosters) -> list[Item]:
    """Models that nobody sent to the coalition, but that it makes itself of what it knows."""
    models, sums = _models(items), _sums(items)
    found = []
    for version, origin in facts.versions.items():
        if version in models or not origin.bases or not origin.linear or not set(origin.bases) <= set(models):
            continue
        if not known.names([origin]):
            continue
        told, rest = _told(origin, sums, facts)
        if rest:
            continue
        value = sum((share * models[base].vector for base, share in origin.bases.items()), torch.zeros(()))
        last = next(models[base] for base in origin.bases)
        models[version] = replace(
            last,
            kind="model",
            round=origin.round + 1,
            value=value + origin.rate * told.to(value.dtype),
            about=last.named | frozenset(part.client for part in origin.trained),
            version=version,
            derived=True,
        )
        found.append(models[version])
    return found


def _sums(items: Iterable[Item]) -> dict[int, list[Item]]:
    """By round, the updates and the sums of updates that are read, smallest first."""
    sums: dict[int, list[Item]] = {}
    for item in items:
        if item.kind in {"update", "aggregate"} and item.form == "plain" and item.named:
            sums.setdefault(item.round, []).append(item)
    return {
        round_index: sorted(found, key=lambda item: len(item.named)) for round_index, found in sums.items()
    }


def _told(
    origin: Origin, sums: Mapping[int, Sequence[Item]], facts: LaneFacts
) -> tuple[torch.Tensor, tuple[Trained, ...]]:
    """The known part of a linear step, and whose updates are missing in it."""
    rest = {part.client: part for part in origin.trained}
    total = sum(part.weight for part in origin.trained)
    known = torch.zeros((), dtype=torch.float64)
    for item in sums.get(origin.round, ()):
        weight = sum(rest[client].weight for client in item.named if client in rest)
        # a sum that counts otherwise than the step does is no part of it
        if item.named <= set(rest) and facts.weight(item) == weight:
            known = known + item.vector.double() * (weight / total)
            for client in item.named:
                del rest[client]
    return known, tuple(rest.values())


def _unnamed(
    items: Sequence[Item], facts: LaneFacts, known: KnownRosters, corrupted: frozenset[int]
) -> list[Item]:
    """What was trained between models by clients that the coalition cannot all name."""
    models, read = _models(items), _singles(items)
    found: list[Item] = []
    for version, after in models.items():
        path = facts.versions.path(version, models)
        if path is not None and not known.names(origin for origin, _ in path.origins):
            found += unnamed_steps(after, path, models, facts, read, corrupted)
    return found


def _steps(items: Sequence[Item], facts: LaneFacts, known: KnownRosters) -> list[Item]:
    """What was trained between a model and the nearest readable ones before it."""
    models, sums, covered = _models(items), _sums(items), _covered(items)
    steps: list[Item] = []
    vectors = {version: item.vector for version, item in models.items()}
    for version, after in models.items():
        path = facts.versions.path(version, models)
        if path is None or not path.trained or not known.names(origin for origin, _ in path.origins):
            continue
        if path.linear and len(path.origins) > 1:
            step = _unknown_part(after, path, vectors, sums, facts)
            steps.extend([] if step is None else [step])
            continue
        step = _step(after, path, path.trained, path.difference(after.vector, vectors) / path.factor)
        place = step.round, step.base
        if not (path.linear and len(path.origins) == 1 and _follows(step.named, covered.get(place, []))):
            steps.append(step)
    return steps


def _step(after: Item, path: Path, trained: Iterable[Trained], value: torch.Tensor) -> Item:
    parts = frozenset(trained)
    bases = {part.base for part in parts}
    return Item(
        round=max(origin.round for origin, _ in path.origins),
        kind=_kind(path),
        form="plain",
        value=value,
        weight=sum(part.weight for part in parts),
        about=frozenset(part.client for part in parts),
        base=next(iter(bases)) if len(bases) == 1 else None,
        sender=after.sender,
        receiver=after.receiver,
        derived=True,
    )


def _unknown_part(
    after: Item,
    path: Path,
    vectors: Mapping[Version, torch.Tensor],
    sums: Mapping[int, Sequence[Item]],
    facts: LaneFacts,
) -> Item | None:
    """What several linear steps added to a model, less what is known of them; None where all is."""
    value = path.difference(after.vector, vectors)
    left: list[tuple[Origin, float]] = []
    missing: list[Trained] = []
    for origin, share in path.origins:
        known, rest = _told(origin, sums, facts)
        value = value - (origin.rate * share * known).to(value.dtype)
        if rest:
            left.append((replace(origin, trained=rest), share * _portion(rest, origin)))
            missing.extend(rest)
    if not left:
        return None
    remainder = Path(start=path.start, origins=tuple(left))
    return _step(after, remainder, missing, value / remainder.factor)


def _portion(rest: Iterable[Trained], origin: Origin) -> float:
    """What these updates together count in the mean of a step."""
    return sum(part.weight for part in rest) / sum(part.weight for part in origin.trained)


def _covered(items: Iterable[Item]) -> dict[tuple[int, Version | None], list[frozenset[int]]]:
    """By round and base, the clients of each sum that is read without any difference of models."""
    covered: dict[tuple[int, Version | None], list[frozenset[int]]] = {}
    for item in items:
        if item.kind == "aggregate" and item.form == "plain":
            covered.setdefault((item.round, item.base), []).append(item.named)
    return covered


def _follows(about: frozenset[int], sums: Sequence[frozenset[int]]) -> bool:
    """Whether a sum over these clients follows from the sums that are read."""
    if about in sums:
        return True
    everybody = sorted(about.union(*sums))
    rows = np.array([[float(client in clients) for client in everybody] for clients in (*sums, about)])
    return bool(np.linalg.matrix_rank(rows[:-1]) == np.linalg.matrix_rank(rows)) if sums else False


def _kind(path: Path) -> str:
    """A weighted mean of updates, the step of another rule, or what several steps did."""
    if len(path.origins) > 1 or not path.linear:
        return "path" if len(path.origins) > 1 else "step"
    return "update" if len(path.trained) == 1 else "aggregate"


def _residuals(items: Sequence[Item], singles: Singles, facts: LaneFacts) -> list[Item]:
    """Aggregates less the single updates that are known."""
    residuals: list[Item] = []
    for item in items:
        if item.kind != "aggregate" or item.form != "plain":
            continue
        known = _single_updates(singles, item)
        rest = item.named - frozenset(known)
        if not known or not rest:
            continue
        weight = facts.weight(item)
        total = item.vector.double() * weight
        for single in known.values():
            share = facts.weight(single)
            total = total - single.vector.double() * share
            weight -= share
        if weight <= 0:
            continue
        residuals.append(
            replace(
                item,
                kind="update" if len(rest) == 1 else "aggregate",
                value=(total / weight).to(item.vector.dtype),
                weight=weight,
                about=rest,
                base=facts.base(item.base, item.round, rest),
                derived=True,
            )
        )
    return residuals


def _singles(items: Iterable[Item], *, derived: bool = False) -> Singles:
    found: dict[int, list[Item]] = {}
    for item in items:
        if item.is_single and (derived or not item.derived):
            found.setdefault(item.round, []).append(item)
    return found


def _single_updates(singles: Singles, total: Item) -> dict[int, Item]:
    """The updates that are read as such and are in a sum: of the sum's clients, started from its base.

    A sum over several bases has none of its own; a client trains once in a round, so its update is in it.
    """
    return {
        next(iter(item.named)): item
        for item in singles.get(total.round, ())
        if total.base in {None, item.base} and item.named <= total.named
    }


def _anonymity(item: Item, singles: Singles, follow: Singles, corrupted: frozenset[int]) -> int:
    """How many honest clients hide in an item; where all of their updates are only derived, the last one is in it."""
    honest = item.named - corrupted
    if item.form != "plain" or item.kind not in SUMS or len(item.named) == 1:
        return len(honest)
    unread = len(honest - frozenset(_single_updates(singles, item)))
    return max(min(unread, 1), len(honest - frozenset(_single_updates(follow, item))))

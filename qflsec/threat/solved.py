"""What follows from mixed models by elimination.

Where models are means of models, lines of descent part and meet again, and an update may follow from several models
together although it follows from no difference of two. Every model that is read, and every sum of updates, is a linear
equation in what is not known: the models that nothing public leads to, and the updates of every round. Elimination finds
every update that they determine, exactly. Of the combinations that determine none, the one with the fewest honest
clients is found by trying sets of clients, smallest first, up to :data:`MOST_SETS` of them.

A step of a rule that is no mean is one unknown of all its clients. Numbers are those of the network: an update that
follows from many models at once follows with their rounding errors magnified, and is counted as known all the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from qflsec.threat.facts import LaneFacts
from qflsec.threat.sums import eliminate
from qflsec.threat.versions import Trained, Version, Versions
from qflsec.threat.view import MODELS, SUMS, Item

__all__ = ["MOST_SETS", "solved"]

Floats = npt.NDArray[np.float64]
Unknown = tuple[int, Trained] | Version
"""An update and its round; the step of a rule by the version that it made, or a model that nothing public leads to."""

MOST_SETS = 2_000
_ZERO = 1e-9


@dataclass(frozen=True, kw_only=True)
class _System:
    """Linear equations in what is not known.

    Attributes:
        unknowns: The columns.
        clients: Whose updates are in each; nobody's in a model.
        rows: The coefficients.
        values: What is read.
        made: What each version is made of.
        last: The last item that is read, for where it came from.
    """

    unknowns: tuple[Unknown, ...]
    clients: tuple[frozenset[int], ...]
    rows: Floats
    values: Floats
    made: Mapping[Version, Mapping[Unknown, float]]
    last: Item

    def row(self, made: Mapping[Unknown, float]) -> Floats:
        """Coefficients as a row."""
        return np.array([made.get(unknown, 0.0) for unknown in self.unknowns])

    def derived(self, value: Floats, **fields: Any) -> Item:  # noqa: ANN401 - the fields of an item
        """An item that follows from the equations."""
        vector = torch.from_numpy(value).to(self.last.vector.dtype)
        blank: dict[str, Any] = {"of": None, "version": None, "base": None, "granted": False}
        return replace(self.last, value=vector, derived=True, **{**blank, **fields})

    def columns(self, clients: Collection[int]) -> list[int]:
        """The columns with updates of some of these clients."""
        return [place for place, whose in enumerate(self.clients) if whose & frozenset(clients)]


def solved(
    items: Sequence[Item], facts: LaneFacts, corrupted: frozenset[int], smallest: int | None
) -> list[Item]:
    """Updates that the items determine together, and the combination of the fewest clients.

    Args:
        items: What the coalition holds; every model has a known version.
        facts: What is known of the run.
        corrupted: The corrupted clients.
        smallest: The smallest anonymity set of an honest client's update so far; None where there is none.

    Returns:
        Nothing where models form one line of descent: then every combination is a difference that is found without.
    """
    if facts.versions.is_chain:
        return []
    system = _system(items, facts)
    if system is None:
        return []
    reduced, makes = eliminate(system.rows)
    there = {(item.round, item.named) for item in items if item.kind == "update" and item.form == "plain"}
    found = []
    for row, combination in zip(reduced, makes, strict=True):
        where = np.flatnonzero(np.abs(row) > _ZERO)
        unknown = system.unknowns[int(where[0])]
        if len(where) != 1 or isinstance(unknown, str):
            continue
        if (unknown[0], frozenset({unknown[1].client})) not in there:
            found.append(_update(unknown, combination @ system.values / row[where[0]], system, facts))
    found += _bases([*items, *found], system, facts, reduced, makes @ system.values)
    honest = sorted(frozenset[int]().union(*system.clients) - corrupted)
    if any(item.kind == "update" and item.named <= set(honest) for item in found):
        return found
    return found + _fewest(system, honest, len(honest) + 1 if smallest is None else smallest)


def _coefficients(
    versions: Versions,
) -> tuple[dict[Version, dict[Unknown, float]], dict[Unknown, frozenset[int]]]:
    """What each version is made of, and whose updates are in each unknown."""
    made: dict[Version, dict[Unknown, float]] = {}
    whose: dict[Unknown, frozenset[int]] = {}
    for version, origin in versions.items():
        found: dict[Unknown, float] = {}
        for base, share in origin.bases.items():
            for unknown, coefficient in made[base].items():
                found[unknown] = found.get(unknown, 0.0) + share * coefficient
        if not origin.bases:
            found[version], whose[version] = 1.0, frozenset()
        elif not origin.linear and origin.trained:
            found[version], whose[version] = 1.0, frozenset(part.client for part in origin.trained)
        else:
            total = sum(part.weight for part in origin.trained)
            for part in origin.trained:
                key = origin.round, part
                found[key], whose[key] = origin.rate * part.weight / total, frozenset({part.client})
        made[version] = found
    return made, whose


def _system(items: Sequence[Item], facts: LaneFacts) -> _System | None:
    """The equations that a coalition reads, each once; None where it reads nothing."""
    made, whose = _coefficients(facts.versions)
    unknowns = tuple(whose)
    parts = {(key[0], key[1].client): key for key in unknowns if not isinstance(key, str)}
    equations: dict[object, tuple[dict[Unknown, float], Item]] = {}
    for item in items:
        if item.form != "plain" or not isinstance(item.value, torch.Tensor):
            continue
        if item.kind in MODELS and item.version is not None:
            equations.setdefault(item.version, (made[item.version], item))
        elif item.kind in {"update", "aggregate"} and item.named:
            keys = [parts.get((item.round, index)) for index in sorted(item.named)]
            told = [key for key in keys if key is not None]
            total = sum(key[1].weight for key in told)
            if len(told) == len(keys) and total == (total if item.weight is None else item.weight):
                row: dict[Unknown, float] = {key: key[1].weight / total for key in told}
                equations.setdefault((item.round, item.named), (row, item))
    if not equations:
        return None
    rows = [[row.get(unknown, 0.0) for unknown in unknowns] for row, _ in equations.values()]
    return _System(
        unknowns=unknowns,
        clients=tuple(whose.values()),
        rows=np.array(rows),
        values=np.stack([item.vector.double().numpy() for _, item in equations.values()]),
        made=made,
        last=max((item for _, item in equations.values()), key=lambda item: item.round),
    )


def _update(unknown: tuple[int, Trained], value: Floats, system: _System, facts: LaneFacts) -> Item:
    round_index, part = unknown
    return system.derived(
        value,
        kind="update",
        round=round_index,
        weight=facts.counts[part.client],
        about=frozenset({part.client}),
        base=part.base,
    )


def _bases(
    items: Sequence[Item], system: _System, facts: LaneFacts, reduced: Floats, values: Floats
) -> list[Item]:
    """Models that updates started from, which nobody sent but the equations determine."""
    read = {item.version for item in items if item.kind in MODELS and item.form == "plain"}
    wanted = {item.base for item in items if item.kind in SUMS and item.base is not None} - read
    pivots = [int(np.flatnonzero(np.abs(row) > _ZERO)[0]) for row in reduced]
    found = []
    for version in sorted(wanted):
        row = system.row(system.made[version])
        shares = row[pivots]
        if np.abs(shares @ reduced - row).max() > _ZERO:
            continue
        history = facts.versions.history(version)
        found.append(
            system.derived(
                shares @ values,
                kind="model",
                round=facts.versions[version].round + 1,
                weight=None,
                about=frozenset(part.client for origin in history for part in origin.trained),
                version=version,
            )
        )
    return found


def _fewest(system: _System, honest: Sequence[int], below: int) -> list[Item]:
    """A combination of fewer honest clients than any that is held; nothing where none is found."""
    models = [
        place
        for place, unknown in enumerate(system.unknowns)
        if isinstance(unknown, str) and not system.clients[place]
    ]
    for some in itertools.islice(_sets(honest, below), MOST_SETS):
        others = [index for index in honest if index not in some]
        off = sorted({*models, *system.columns(others)})
        inside = [place for place in system.columns(some) if place not in set(off)]
        free = _null(system.rows[:, off])
        left = free @ system.rows[:, inside]
        if not left.size or np.abs(left).max() <= _ZERO:
            continue
        row = int(np.abs(left).max(axis=1).argmax())
        return [_combination(free[row], left[row], inside, system)]
    return []


def _sets(honest: Sequence[int], below: int) -> Iterable[tuple[int, ...]]:
    return itertools.chain.from_iterable(
        itertools.combinations(honest, size) for size in range(1, min(below, len(honest) + 1))
    )


def _null(rows: Floats) -> Floats:
    """A basis of the combinations of rows that vanish.

    Shapes:
        rows: ``(m, n)``; returns: ``(r, m)``
    """
    if rows.shape[1] == 0:
        return np.eye(len(rows))
    left, singular, _ = np.linalg.svd(rows)
    rank = int((singular > _ZERO * max(1.0, float(singular.max(initial=0.0)))).sum())
    basis: Floats = left[:, rank:].T
    return basis


def _combination(makes: Floats, left: Floats, inside: Sequence[int], system: _System) -> Item:
    """What several steps of these clients added up to, in the scale of a mean."""
    used: Mapping[Unknown, float] = {
        system.unknowns[column]: value
        for column, value in zip(inside, left, strict=True)
        if abs(value) > _ZERO
    }
    scale = sum(abs(value) for value in used.values())
    about = [whose for unknown, whose in zip(system.unknowns, system.clients, strict=True) if unknown in used]
    return system.derived(
        makes @ system.values / scale,
        kind="path",
        round=max(system.last.round if isinstance(unknown, str) else unknown[0] for unknown in used),
        weight=None,
        about=frozenset[int]().union(*about),
    )

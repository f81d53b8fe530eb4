"""Versions of models: how each model of a run came about, for any topology.

Whoever reads two models learns what was trained between them. Which clients that were follows from the graph of
versions, for whoever knows the rosters (:mod:`qflsec.threat.rosters`). A star, a tree, a ring and a gossip network
differ in their graphs, not in the rule that :mod:`qflsec.threat.closure` reads off them.

A version is an affine combination of earlier versions and a step:

    model(v) = sum over b of bases[b] * model(b) + rate * step

where a linear step is the weighted mean of the updates in ``trained``, and any other step is an unknown
function of them.
"""

from __future__ import annotations

from collections.abc import Collection, ItemsView, Mapping
from dataclasses import dataclass, field

import torch

from qflsec.base import QflsecError

__all__ = ["Origin", "Part", "Path", "Trained", "Version", "Versions"]

Version = str
"""The name of a model."""


@dataclass(frozen=True, order=True, kw_only=True)
class Trained:
    """One client's part in a step.

    Attributes:
        client: The client.
        base: The version that its update started from.
        weight: What it counts in the mean.
        scale: What its update is multiplied with before; another value than 1 stands in steps with ``parts`` alone.
    """

    client: int
    base: Version
    weight: float
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some places of a step that is a mean of its own: over the clients that sent these.

    Attributes:
        places: The places in the vector of parameters.
        clients: The clients, weighted as elsewhere in the step.
    """

    places: tuple[int, ...]
    clients: frozenset[int]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """How a version came about.

    Attributes:
        round: The round of the step.
        bases: The coefficients of earlier versions; empty for a model that nothing public leads to.
        trained: Whose updates are in the step.
        rate: The factor of the step; 0 where models are mixed and nothing is trained.
        linear: Whether the step is the weighted mean of the updates.
        parts: Where places are means over different clients: who is in which. The step is not linear then.
        drawn_from: The clients that may have taken part, as everybody knows; those in ``trained`` by default.
    """

    round: int
    bases: Mapping[Version, float] = field(default_factory=dict)
    trained: tuple[Trained, ...] = ()
    rate: float = 1.0
    linear: bool = True
    parts: tuple[Part, ...] = ()
    drawn_from: frozenset[int] = frozenset()

    @property
    def candidates(self) -> frozenset[int]:
        """Everybody whose update may be in the step."""
        return self.drawn_from | frozenset(part.client for part in self.trained)


@dataclass(frozen=True, kw_only=True)
class Path:
    """What lies between a version and earlier ones.

    Attributes:
        start: The coefficients of the earlier versions.
        origins: The steps in between, each with its coefficient; the last step first.
    """

    start: Mapping[Version, float]
    origins: tuple[tuple[Origin, float], ...]

    @property
    def trained(self) -> frozenset[Trained]:
        """Whose updates are in it."""
        return frozenset(part for origin, _ in self.origins for part in origin.trained)

    @property
    def factor(self) -> float:
        """The factor of the steps all together."""
        return sum(origin.rate * share for origin, share in self.origins)

    @property
    def linear(self) -> bool:
        """Whether it is a weighted sum of updates."""
        return all(origin.linear for origin, _ in self.origins)

    def difference(self, after: torch.Tensor, models: Mapping[Version, torch.Tensor]) -> torch.Tensor:
        """What the steps added to the earlier models.

        Args:
            after: The model at the end.
            models: The models at the start.

        Shapes:
            after, models: ``(P,)``; returns the same
        """
        for version, share in self.start.items():
            before = models[version]
            after = after - (before if share == 1.0 else share * before)
        return after


@dataclass(kw_only=True)
class Versions:
    """The graph of a run's versions; it grows while the run goes on."""

    _origins: dict[Version, Origin] = field(default_factory=dict)
    _ages: dict[Version, int] = field(default_factory=dict)

    def add(self, version: Version, origin: Origin) -> None:
        """Note how a version came about.

        Raises:
            QflsecError: The version is known already, or one that it rests on is not.
        """
        if version in self._origins:
            raise QflsecError("two models of a run have the same version", got=version)
        unknown = sorted({*origin.bases, *(part.base for part in origin.trained)} - set(self._origins))
        if unknown:
            raise QflsecError(f"version {version!r} rests on versions that are not known", got=unknown)
        self._origins[version] = origin
        self._ages[version] = len(self._ages)

    def __contains__(self, version: object) -> bool:
        return version in self._origins

    def __getitem__(self, version: Version) -> Origin:
        """How a version came about.

        Raises:
            QflsecError: The version is not known, so nothing may be concluded from the model.
        """
        if version not in self._origins:
            raise QflsecError(
                "a message names a version of the model that the run does not know",
                got=repr(version),
                expected="a version that was added to the run's versions",
                fix="add its origin before the model is sent",
            )
        return self._origins[version]

    def items(self) -> ItemsView[Version, Origin]:
        """Every version and how it came about, each after those that it rests on."""
        return self._origins.items()

    @property
    def is_chain(self) -> bool:
        """Whether every model rests on one other at most, and at most one rests on it."""
        bases = [base for origin in self._origins.values() for base in origin.bases]
        return len(bases) == len(set(bases)) and all(
            len(origin.bases) <= 1 for origin in self._origins.values()
        )

    def base_of_round(self, round_index: int, clients: Collection[int]) -> Version | None:
        """The one version that the updates of these clients started from in a round; None where there are several."""
        found = {
            part.base
            for origin in self._origins.values()
            if origin.round == round_index
            for part in origin.trained
            if part.client in clients
        }
        return next(iter(found)) if len(found) == 1 else None

    def history(self, version: Version) -> tuple[Origin, ...]:
        """Every step that leads to a version."""
        found: dict[Version, Origin] = {}
        pending = [version]
        while pending:
            name = pending.pop()
            if name not in found:
                found[name] = self[name]
                pending.extend(found[name].bases)
        return tuple(found.values())

    def path(self, version: Version, readable: Collection[Version]) -> Path | None:
        """What lies between a version and the nearest readable ones before it.

        Args:
            version: The version.
            readable: The versions that the observer can read.

        Returns:
            None where some line of descent ends in a model that cannot be read.
        """
        start: dict[Version, float] = {}
        origins: list[tuple[Origin, float]] = []
        pending = {version: 1.0}
        while pending:
            # the youngest first: whatever leads to a version was found before it is its turn, so that its shares are one
            name = max(pending, key=self._ages.__getitem__)
            share = pending.pop(name)
            origin = self[name]
            if not origin.bases:
                return None
            origins.append((origin, share))
            for base, coefficient in origin.bases.items():
                into = start if base in readable else pending
                into[base] = into.get(base, 0.0) + share * coefficient
        return Path(start=start, origins=tuple(origins))

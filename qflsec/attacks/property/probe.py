"""Probing for a property of clients: learn from simulated clients what it does to an update, and read it off.

An item of the view mixes the updates of some clients. Regressed on simulated mixtures of as many, it says how much of
the property its clients have on average, with an error that simulated mixtures left out of the fit show. Over all
items these are linear equations in what each client has. They are solved with what is known without looking as the
prior: a single update speaks for its client, a sum over k for each of k a little, and the same sum over again for
nobody in particular.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qflsec.attacks.base import Inference
from qflsec.attacks.challenges import ClientClaim, PropertyChallenge
from qflsec.attacks.inversion.observation import disjoint_items
from qflsec.attacks.needs import missing_architecture, missing_items
from qflsec.base import ConfigError, finite
from qflsec.threat import Item, Records, View

__all__ = ["PropertyProbe", "Reading", "solved_shares"]

_PENALTIES = 10.0 ** torch.arange(-6, 3, dtype=torch.float64)
"""Ridge penalties to choose from, in units of the largest eigenvalue of the simulated updates."""


@finite
@dataclass(frozen=True, kw_only=True)
class PropertyProbe(Inference):
    """A probe that simulates clients with and without a property.

    Args:
        simulated: Simulated mixtures for each model and number of clients.
        rounds: The most rounds that are read, the earliest ones.

    Raises:
        ConfigError: A parameter is out of range.
    """

    simulated: int = 128
    rounds: int = 10

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        if self.simulated < 16:
            raise ConfigError("'simulated' is too small", got=self.simulated, expected="at least 16")
        if self.rounds < 1:
            raise ConfigError("'rounds' is too small", got=self.rounds, expected="at least 1")

    @abstractmethod
    def simulate(
        self,
        view: View,
        challenge: Any,  # noqa: ANN401 - the subclass names its own kind
        auxiliary: Records,
        item: Item,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Features of simulated mixtures like an item, and how much of the property is in each.

        Shapes:
            returns: ``(s, D)`` and ``(s,)``
        """

    @abstractmethod
    def features(self, updates: Tensor) -> Tensor:
        """What of an update the regression gets.

        Shapes:
            updates: ``(..., P)``; returns: ``(..., D)``
        """

    def kind(self, item: Item) -> object:
        """What, besides its model and its clients' numbers of records, simulated mixtures must have in common with it."""
        return None

    def read(self, item: Item) -> Tensor:
        """What the regression gets of an item; what of its update, by default.

        Shapes:
            returns: ``(D,)``
        """
        return self.features(item.vector.double())

    @property
    @abstractmethod
    def spread(self) -> float:
        """The variance, from client to client, of how much they have, for all that is known without looking."""

    def missing(self, view: View, challenge: Any) -> str | None:  # noqa: ANN401 - the subclass names its own kind
        """The architecture, auxiliary records, or an update or sum of known clients whose model can be read."""
        reason = missing_architecture(view) or missing_items(
            view, "update", "aggregate", what="update or sum"
        )
        if reason is None and view.granted.auxiliary is None:
            reason = "the adversary has no auxiliary records to simulate clients with"
        if reason is None and not self._items(view, challenge):
            reason = "no update or sum of known honest clients can be read with the model that it starts from"
        return reason

    def run(self, view: View, challenge: PropertyChallenge) -> ClientClaim:
        """How much every client has, at best guess."""
        auxiliary = view.granted.auxiliary
        assert auxiliary is not None  # missing() said so
        generator = challenge.generator()
        counts = dict(zip(challenge.clients, challenge.counts, strict=True))
        readers: dict[tuple[object, ...], Reading] = {}
        rows, values, errors = [], [], []
        for item in self._items(view, challenge):
            sizes = [counts[client] for client in sorted(item.named)]
            key = (item.base, self.kind(item), *sorted(sizes))
            if key not in readers:
                readers[key] = Reading(*self.simulate(view, challenge, auxiliary, item, generator))
            rows.append([counts[c] / sum(sizes) if c in item.named else 0.0 for c in challenge.clients])
            values.append(readers[key](self.read(item)))
            errors.append(readers[key].error)
        shares = solved_shares(
            torch.tensor(rows, dtype=torch.float64),
            torch.tensor(values, dtype=torch.float64),
            torch.tensor(errors, dtype=torch.float64),
            spread=self.spread,
        )
        return ClientClaim(scores=shares)

    def _items(self, view: View, challenge: PropertyChallenge) -> list[Item]:
        items = disjoint_items(view, challenge.clients, challenge.training, rounds=self.rounds)
        return [item for item in items if float(item.vector.norm()) > 0]


class Reading:
    """A ridge regression whose penalty, and whose error, are those of leaving one out.

    Args:
        inputs: Features of simulated mixtures.
        targets: How much of the property is in each.

    Attributes:
        error: The root mean squared error of simulated mixtures that were left out of the fit.
        penalty: The penalty on squared weights for which that is least.

    Source:
        Golub, Heath, Wahba: Generalized cross-validation as a method for choosing a good ridge parameter, Technometrics 21,
        1979 (leaving one out of a linear fit without fitting again).

    Shapes:
        inputs: ``(s, D)``; targets: ``(s,)``
    """

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        self._mean, self._level = inputs.double().mean(dim=0), targets.double().mean()
        centred, wanted = inputs.double() - self._mean, targets.double() - self._level
        u, s, vh = torch.linalg.svd(centred, full_matrices=False)
        projected, best = u.T @ wanted, torch.inf
        if float(s[0]) == 0.0:  # features that never differ say nothing
            best, self.penalty, self._weights = float(wanted.square().mean().sqrt()), 0.0, 0 * vh[0]
        for penalty in _PENALTIES * s[0].square():
            kept = s.square() / (s.square() + penalty)
            leverage = (u.square() @ kept + 1 / len(wanted)).clamp_max(1 - 1e-9)
            left = (wanted - u @ (kept * projected)) / (1 - leverage)
            error = float(left.square().mean().sqrt())
            if error < best:
                best, self.penalty = error, float(penalty)
                self._weights = vh.T @ (kept / s.clamp_min(1e-300) * projected)
        self.error = max(float(best), 1e-9)

    def __call__(self, features: Tensor) -> float:
        """How much of the property is in an item.

        Shapes:
            features: ``(D,)``
        """
        return float(self._level + (features - self._mean) @ self._weights)


def solved_shares(rows: Tensor, values: Tensor, errors: Tensor, *, spread: float) -> Tensor:
    """What each client has, from what mixtures of them have: the mean of a normal posterior.

    The prior mean is the mean of the readings, as all clients may have more or less than simulated ones.

    Args:
        rows: The weight of each client in each mixture; a row sums to 1.
        values: How much each mixture has.
        errors: The standard error of each.
        spread: The prior variance of a client.

    Shapes:
        rows: ``(m, n)``; values, errors: ``(m,)``; returns: ``(n,)``
    """
    precision = errors.clamp_min(1e-6).square().reciprocal()
    level = (precision * values).sum() / precision.sum()
    weighted = rows * precision[:, None]
    normal = rows.T @ weighted + torch.eye(rows.shape[1], dtype=rows.dtype) / spread
    shares: Tensor = level + torch.linalg.solve(normal, weighted.T @ (values - level))
    return shares

"""Membership of clients: whose records, all of them, were trained on?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qflsec.attacks.base import Inference
from qflsec.attacks.challenges import ClientClaim, ClientMembershipChallenge
from qflsec.attacks.inversion.observation import disjoint_items
from qflsec.attacks.membership.gradient_regression import as_columns, regressed
from qflsec.attacks.membership.likelihood import likelihood_ratio
from qflsec.attacks.membership.lira import LikelihoodInference
from qflsec.attacks.membership.shadowed import shadow_logits
from qflsec.attacks.needs import missing_architecture, missing_items
from qflsec.attacks.shadows import train_shadows
from qflsec.attacks.simulated_clients import expected_updates
from qflsec.attacks.trainer import ShadowRequest
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.threat import Item, View

__all__ = ["ClientLira", "ClientRegression"]

_KINDS = ("update", "aggregate", "step")


@register("attack", "client-regression")
@dataclass(frozen=True, kw_only=True)
class ClientRegression(Inference):
    """Score a record set by the weight that the update of a client with just these records has in what was sent.

    The adversary trains every candidate from the models that clients started from, as the public pipeline does, and solves
    each update, sum or step for weights that are not negative, by least squares; items of the same clients are solved
    together. One client's update is one candidate's, a sum over k is the weighted mean of k candidates', and
    a set that nobody trained on is in none. What a record's gradient is to one step, this is to any local training.

    Args:
        rounds: The most rounds that are read, the earliest ones.

    Raises:
        ConfigError: The number is below one.

    Source:
        Lawson, Hanson: Solving least squares problems, 1974, chapter 23 (the solver, as SciPy has it); the equations are this
        package's.
    """

    card = AttackCard(
        name="client-regression",
        idea="What was sent is a mean of clients' updates: solve for which record sets are behind it.",
        source=Source(
            paper="Lawson, Hanson: Solving least squares problems, 1974",
            year=1974,
            where="chapter 23: non-negative least squares; the equations are this package's",
        ),
        family="membership",
        goal="confidentiality",
        needs=(
            "updates, sums or steps of some rounds",
            "the models that they start from",
            "the model's architecture",
        ),
    )
    challenge_type = ClientMembershipChallenge
    reads = frozenset({"update", "aggregate", "step"})
    rounds: int = 10

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        if self.rounds < 1:
            raise ConfigError("'rounds' is too small", got=self.rounds, expected="at least 1")

    def missing(self, view: View, challenge: ClientMembershipChallenge) -> str | None:
        """The architecture, or an update, sum or step with the model that it starts from."""
        reason = missing_architecture(view) or missing_items(view, *_KINDS, what="update, sum or step")
        if reason is None and not self._items(view, challenge):
            return "no model that an update, a sum or a step starts from can be read"
        return reason

    def run(self, view: View, challenge: ClientMembershipChallenge) -> ClientClaim:
        """The mean over the rounds of how many clients' worth of updates each candidate explains."""
        generator = challenge.generator()
        by_roster: dict[object, list[Item]] = {}
        for item in self._items(view, challenge):
            by_roster.setdefault(item.named or (item.base, item.round), []).append(item)
        pulls: dict[object, Tensor] = {}
        scores, rounds = torch.zeros(len(challenge.candidates), dtype=torch.float64), set()
        for items in by_roster.values():
            for item in items:
                if item.base not in pulls:
                    pulls[item.base] = expected_updates(
                        view, challenge.training, item, challenge.candidates, generator
                    )
                rounds.add(item.round)
            weights = _explained(items, [pulls[item.base] for item in items])
            scores += len(items) * (items[0].size or items[0].k) * weights
        return ClientClaim(scores=scores / len(rounds))

    def _items(self, view: View, challenge: ClientMembershipChallenge) -> list[Item]:
        """The smallest sums of known honest clients; of a round without any, what holds most honest clients."""
        honest = set(range(challenge.training.n_clients)) - set(view.threat.clients)
        found = disjoint_items(view, honest, challenge.training, rounds=self.rounds)
        read = {item.round for item in found}
        rest: dict[int, Item] = {}
        for item in view.readable(*_KINDS):
            if item.round not in read and item.k > 0 and view.base_of(item) is not None:
                best = rest.get(item.round)
                rest[item.round] = item if best is None else max(best, item, key=lambda one: one.k)
        found += [rest[index] for index in sorted(rest)[: max(0, self.rounds - len(read))]]
        return [item for item in found if float(item.vector.norm()) > 0]


def _explained(items: Sequence[Item], pulls: Sequence[Tensor]) -> Tensor:
    """The weights with which candidates' updates are in items of the same clients, each item counting alike.

    Shapes:
        pulls: ``(n, P)`` each; returns: ``(n,)``
    """
    sizes = [item.vector.double().norm() for item in items]
    moved = torch.stack([item.vector.double() / size for item, size in zip(items, sizes, strict=True)])
    return regressed(
        moved, as_columns([pull / size for pull, size in zip(pulls, sizes, strict=True)]), refits=0
    )


@register("attack", "client-lira")
@dataclass(frozen=True, kw_only=True)
class ClientLira(LikelihoodInference):
    """Score a record set by a likelihood ratio of the mean confidence in its records, over shadow models.

    As ``lira``, with whole record sets in question: each shadow model was trained on half of them, and a set is in its
    training set as a whole or not at all. One client's records move a model more than one record does.

    Args:
        shadows: How many shadow models; an even number.
        online: Whether they are trained on the candidates, each in half of them; otherwise on the adversary's own
            records alone.
        variance: As of ``lira``.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Carlini, Chien, Nasr, Song, Terzis, Tramer: Membership inference attacks from first principles, IEEE S&P
        2022, arXiv:2112.03570, algorithm 1; that it is asked of whole clients, by their mean confidence, is this package's.
    """

    card = AttackCard(
        name="client-lira",
        idea="Compare the model's confidence in a client's records with that of shadow models with and without the client.",
        source=Source(
            paper="Carlini et al.: Membership inference attacks from first principles, IEEE S&P 2022, arXiv:2112.03570",
            year=2022,
            where="algorithm 1, asked of whole clients",
        ),
        family="membership",
        goal="confidentiality",
        needs=(
            "a model that the adversary can read and evaluate, at best the final one, or query access to it",
            "the model's architecture",
            "the pipeline, to train shadow models; own records where they are trained offline",
        ),
        adaptive=True,
    )
    challenge_type = ClientMembershipChallenge

    def shadow_request(self) -> ShadowRequest:
        """The shadow models that it uses."""
        return ShadowRequest(count=self.shadows, online=self.online, clients=True)

    def run(self, view: View, challenge: ClientMembershipChallenge) -> ClientClaim:
        """The logarithm of the likelihood ratio of every candidate."""
        pool, groups = challenge.pool, challenge.groups
        found = train_shadows(view, challenge, self.shadow_request())
        logits = view.logits(pool.features)
        assert logits is not None  # missing() said so
        first = torch.searchsorted(groups, torch.arange(challenge.n_questions))
        shadows = view.loss.confidence(shadow_logits(view, found, pool), pool.labels)
        return ClientClaim(
            scores=likelihood_ratio(
                _mean_by(view.loss.confidence(logits, pool.labels), groups),
                _mean_by(shadows, groups),
                found.inside[:, first],
                variance=self.variance,
            )
        )


def _mean_by(values: Tensor, groups: Tensor) -> Tensor:
    """The mean of each group.

    Shapes:
        values: ``(..., n)``; groups: ``(n,)``; returns: ``(..., g)``, float64
    """
    one = torch.nn.functional.one_hot(groups).double()
    return values.double() @ (one / one.sum(dim=0))

"""Membership by regression: with which weight is the gradient of each record in what the clients sent?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qflsec.attacks.base import Inference
from qflsec.attacks.challenges import MembershipChallenge, MembershipClaim
from qflsec.attacks.membership.descents import descents
from qflsec.attacks.membership.sum_alignment import SumAlignment, directions
from qflsec.attacks.membership.update_alignment import single_updates
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.threat import View

__all__ = ["GradientRegression", "regressed"]

_FLOOR = 1e-4
"""A parameter that fits all but exactly counts at most a hundred times as much as the one that fits worst."""

Move = tuple[Tensor, Tensor]


@register("attack", "gradient-regression")
@dataclass(frozen=True, kw_only=True)
class GradientRegression(Inference):
    """Score a candidate by the weight of its gradient in the updates, or in their sums, over all rounds together.

    A step of gradient descent on a batch is a sum of its records' gradients with equal weights, and so is the sum of
    such steps over clients. Each round adds an equation for each parameter, while the weights stay: with the candidates'
    gradients as columns, members have one weight and all others none. The attack solves for weights that are not
    negative, by least squares. Where records are mostly alike their gradients agree with every update, which is what a
    cosine sees; the regression asks what each adds to the others. Masks that leave the sum leave all of this.

    Noise need not be the same in every parameter. The equations are weighted by how well each parameter was fitted over
    the rounds, and solved again: noise on some layers only leaves the others as they are.

    It takes single updates where the view holds any, each client for itself, and otherwise the largest sum of each
    round. With several local steps, Adam, or members that are no candidates, the equations hold approximately.

    Args:
        refits: How often the equations are weighted anew.

    Raises:
        ConfigError: The number is negative.

    Source:
        Lawson, Hanson: Solving least squares problems, 1974, chapter 23 (the solver, as SciPy has it). That an update of
        gradient descent is a sum of gradients is derived above.
    """

    card = AttackCard(
        name="gradient-regression",
        idea="An update is a sum of its records' gradients: solve for which of them are in it.",
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
    challenge_type = MembershipChallenge
    reads = frozenset({"update", "aggregate", "step"})
    refits: int = 3

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        if self.refits < 0:
            raise ConfigError("'refits' is negative", got=self.refits, expected="0 or more")

    def missing(self, view: View, challenge: MembershipChallenge) -> str | None:
        """The architecture, an update or sum, or the model that it starts from."""
        return SumAlignment().missing(view, challenge)

    def run(self, view: View, challenge: MembershipChallenge) -> MembershipClaim:
        """The largest weight of every candidate in what one sender sent."""
        senders = _senders(view, challenge.target)
        # clients that start from the same models, whose tensors are one object each, share the equations' left side
        models = {id(params): params for moves in senders for params, _ in moves}
        found = descents(view.granted.model, list(models.values()), challenge.candidates)
        pulls = dict(zip(models, found, strict=True))
        columns: dict[tuple[int, ...], Tensor] = {}
        weights = []
        for moves in senders:
            start = tuple(id(params) for params, _ in moves)
            if start not in columns:
                columns[start] = as_columns([pulls[one] for one in start])
            moved = torch.stack([vector.double() for _, vector in moves])
            weights.append(regressed(moved, columns[start], refits=self.refits))
        return MembershipClaim(scores=torch.stack(weights).max(dim=0).values)


def as_columns(pulls: Sequence[Tensor]) -> Tensor:
    """The left side of the equations: for every move and parameter, what each candidate adds.

    Shapes:
        pulls: ``(n, P)`` for each of m moves; returns: ``(m, P, n)``
    """
    return torch.stack([part.T for part in pulls]).contiguous()


def regressed(moved: Tensor, columns: Tensor, *, refits: int) -> Tensor:
    """Weights w, not negative, of the least squares fit of every move by ``columns @ w``.

    Args:
        moved: Where models went.
        columns: Where the candidates pull them, as :func:`as_columns` has it.
        refits: How often the parameters are weighted anew by what was left of them.

    Shapes:
        moved: ``(m, P)``; columns: ``(m, P, n)``; returns: ``(n,)``, float64
    """
    weight = torch.ones(moved.shape[-1], dtype=torch.float64)
    weighted = torch.empty_like(columns)
    for fit in range(refits + 1):
        torch.mul(columns, weight[:, None], out=weighted)
        solution = _solved(weighted.flatten(end_dim=1).T @ columns.flatten(end_dim=1), weighted, moved)
        left = (moved - columns @ solution).square().mean(dim=0)
        if fit == refits or not float(left.max()) > 0:
            break
        weight = 1 / (left / left.max() + _FLOOR)
    return solution


def _solved(products: Tensor, weighted: Tensor, moved: Tensor) -> Tensor:
    """The weights, by as few rows as there are columns, whose products of columns are the same.

    Gradients have single precision: the digits that products lose are none of theirs, and what is left of directions in
    which the columns do not differ is rounding.

    Shapes:
        products: ``(n, n)``; weighted: ``(m, P, n)``; moved: ``(m, P)``; returns: ``(n,)``
    """
    from scipy.optimize import nnls

    values, vectors = torch.linalg.eigh(products)
    kept = values > values.max().clamp_min(0) * len(values) * torch.finfo(torch.float64).eps
    roots, vectors = values[kept].sqrt(), vectors[:, kept]
    answers = vectors.T @ (weighted.flatten(end_dim=1).T @ moved.flatten()) / roots
    if not len(roots):
        return torch.zeros(len(values), dtype=torch.float64)
    solution, _ = nnls((vectors * roots).T.numpy(), answers.numpy(), maxiter=50 * len(values))
    return torch.from_numpy(solution)


def _senders(view: View, target: int | None) -> list[list[Move]]:
    """What each client sent, where single updates are read; otherwise what the largest sums moved."""
    by_client: dict[int, list[Move]] = {}
    for item in single_updates(view, target):
        params = view.base_of(item)
        assert params is not None  # single_updates() saw to it
        by_client.setdefault(next(iter(item.named)), []).append((params, item.vector))
    return list(by_client.values()) or [directions(view)]

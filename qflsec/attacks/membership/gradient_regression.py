"""Membership by regression: with which weight is the gradient of each record in what the clients sent?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qflsec.attacks.base import Inference
from qflsec.attacks.challenges import MembershipChallenge, MembershipClaim
from qflsec.attacks.membership.sum_alignment import SumAlignment, directions
from qflsec.attacks.membership.update_alignment import single_updates
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.models import Model, per_sample_gradients
from qflsec.threat import Records, View

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
        model, candidates = view.granted.model, challenge.candidates
        known: dict[int, Tensor] = {}
        weights = [
            regressed(
                moves, [_pulls(model, params, candidates, known) for params, _ in moves], refits=self.refits
            )
            for moves in _senders(view, challenge.target)
        ]
        return MembershipClaim(scores=torch.stack(weights).max(dim=0).values)


def regressed(moves: Sequence[Move], pulls: Sequence[Tensor], *, refits: int) -> Tensor:
    """Weights w, not negative, of the least squares fit of every move by ``w @ pulls``.

    Args:
        moves: Models and where they went from there.
        pulls: The candidates' descent directions at these models.
        refits: How often the parameters are weighted anew by what was left of them.

    Shapes:
        pulls: ``(n, P)`` each; returns: ``(n,)``, float64
    """
    from scipy.optimize import nnls

    columns = torch.stack([part.T for part in pulls])
    targets = torch.stack([moved.double() for _, moved in moves])
    scale = torch.ones(targets.shape[-1], dtype=torch.float64)
    for fit in range(refits + 1):
        rows = (columns * scale[None, :, None]).reshape(-1, columns.shape[-1])
        # a triangle of n rows has the same least squares solution
        q, r = torch.linalg.qr(rows)
        solution, _ = nnls(r.numpy(), (q.T @ (targets * scale).reshape(-1)).numpy(), maxiter=50 * r.shape[1])
        weights = torch.from_numpy(solution)
        left = (targets - columns @ weights).square().mean(dim=0)
        if fit == refits or not float(left.max()) > 0:
            break
        scale = (left / left.max() + _FLOOR).rsqrt()
    return weights


def _senders(view: View, target: int | None) -> list[list[Move]]:
    """What each client sent, where single updates are read; otherwise what the largest sums moved."""
    by_client: dict[int, list[Move]] = {}
    for item in single_updates(view, target):
        params = view.base_of(item)
        assert params is not None  # single_updates() saw to it
        by_client.setdefault(next(iter(item.named)), []).append((params, item.vector))
    return list(by_client.values()) or [directions(view)]


def _pulls(model: Model, params: Tensor, candidates: Records, known: dict[int, Tensor]) -> Tensor:
    """The candidates' descent directions at a model; several clients start from the same."""
    if id(params) not in known:
        found = per_sample_gradients(model, params, candidates.features, candidates.labels)
        known[id(params)] = -found.double()
    return known[id(params)]

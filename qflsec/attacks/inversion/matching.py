"""Gradient matching as a least-squares problem: which records would have caused this update?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from qflsec.attacks.inversion.least_squares import row_jacobians
from qflsec.models import Execution, Model

__all__ = ["Match", "Matching"]

Match = Literal["euclidean", "cosine"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Matching:
    """The difference between an observed update and the update that guessed records would cause.

    The client is modelled as full-batch gradient descent: ``local_steps`` steps of ``learning_rate`` from
    ``params``, with a momentum buffer that begins at zero and the pull of FedProx. Updates are divided by minus the
    learning rate, so that one step gives the gradient and several give the sum of what was stepped along, through
    which is differentiated.

    Attributes:
        model: The model.
        params: Where the update starts, in double precision.
        observed: The observed update over minus the learning rate, in double precision.
        learning_rate: Of the client.
        local_steps: Of the client.
        momentum: Of the client.
        proximal: Of the client: FedProx's mu.
        match: ``"euclidean"`` compares the vectors, relative to the observed norm. ``"cosine"`` leaves the
            scale of the simulated update free, so that a client that scales its update (clipping) changes
            nothing: the squared residual is then the squared sine of the angle between the two, or 1 where
            the angle is obtuse.
        execution: How the attacker simulates the model.

    Shapes:
        params: ``(P,)``; observed: ``(P,)``

    Source:
        Zhu, Liu, Han: Deep leakage from gradients, NeurIPS 2019, equation 1 (``euclidean``). Geiping et al.:
        Inverting gradients, NeurIPS 2020, equation 4 (``cosine``; the sine has the same minimum, and is what
        remains of a linear factor in least squares) and section 5 (several local steps).
    """

    model: Model
    params: Tensor
    observed: Tensor
    learning_rate: float
    local_steps: int
    match: Match
    execution: Execution
    momentum: float = 0.0
    proximal: float = 0.0

    def objective(self, features: Tensor, labels: Tensor) -> Tensor:
        """The squared norm of the residual of each guess.

        Shapes:
            features: ``(R, B, F)``; labels: ``(R, B)``; returns: ``(R,)``
        """
        simulated = self._simulate(features, labels, create_graph=False)
        return self._residual(simulated).square().sum(dim=-1)

    def linearise(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The residual of each guess and its derivative in the guess's features.

        Shapes:
            features: ``(R, B, F)``; labels: ``(R, B)``; returns: ``(R, P)`` and ``(R, P, B * F)``
        """
        guess = features.detach().requires_grad_()
        simulated = self._simulate(guess, labels, create_graph=True)
        return self._normalise(simulated.detach(), row_jacobians(simulated, guess))

    def _simulate(self, features: Tensor, labels: Tensor, *, create_graph: bool) -> Tensor:
        start = self.params.expand(len(features), 1, -1).detach().requires_grad_()
        now, along, total = start, None, torch.zeros_like(start)
        for _ in range(self.local_steps):
            logits = self.model(now, features, execution=self.execution)
            loss = self.model.loss.per_sample(logits, labels).mean(dim=-1).sum()
            (gradient,) = torch.autograd.grad(loss, now, create_graph=create_graph)
            if self.proximal:
                gradient = gradient + self.proximal * (now - start)
            along = gradient if along is None or not self.momentum else self.momentum * along + gradient
            total = total + along
            now = now - self.learning_rate * along
        return total[:, 0, :]

    def _residual(self, simulated: Tensor) -> Tensor:
        target, size = _unit(self.observed)
        if self.match == "euclidean":
            return simulated / size - target
        direction, _ = _unit(simulated)
        return _cosine(direction, target) * direction - target

    def _normalise(self, simulated: Tensor, jacobian: Tensor) -> tuple[Tensor, Tensor]:
        """The residual and its derivative, given those of the simulated update."""
        residual = self._residual(simulated)
        target, observed_size = _unit(self.observed)
        if self.match == "euclidean":
            return residual, jacobian / observed_size
        direction, size = _unit(simulated)
        along = direction[..., None] * (direction[..., None, :] @ jacobian)
        turned = (jacobian - along) / size[..., None]
        cosine = _cosine(direction, target)[..., None]
        projected = direction[..., None] * (target @ turned)[..., None, :]
        return residual, cosine * turned + (cosine > 0) * projected


def _cosine(direction: Tensor, target: Tensor) -> Tensor:
    """The cosine between unit vectors, 0 where it is negative: a client does not turn its update round."""
    return (direction @ target)[..., None].clamp_min(0)


def _unit(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors and the norms; a zero vector stays zero."""
    size = vectors.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return vectors / size, size

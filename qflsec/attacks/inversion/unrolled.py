"""A client's local training as a differentiable function of guessed records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from qflsec.circuits import fubini_study
from qflsec.federation import FederationConfig, NaturalGradient
from qflsec.models import Execution, Model
from qflsec.models.base import Generators
from qflsec.models.natural_gradient import mean_metric, metric_circuit, precondition

__all__ = ["LocalRule", "draw_plans", "unroll"]

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8
_TINY = 1e-30


@dataclass(frozen=True, kw_only=True)
class LocalRule:
    """The client's optimiser in one round, which begins without a state.

    Attributes:
        learning_rate: The rate of the round.
        steps: Local steps; where there is a plan of batches, it says how many.
        optimizer: ``"sgd"`` or ``"adam"``.
        momentum: Of plain SGD.
        proximal: FedProx's mu.
        natural: The natural gradient, where that is stepped along.
    """

    learning_rate: float
    steps: int = 1
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: float = 0.0
    proximal: float = 0.0
    natural: NaturalGradient | None = None

    @classmethod
    def of(cls, training: FederationConfig, round_index: int, n_records: int) -> LocalRule:
        """The rule of a round for a client with so many records."""
        return cls(
            learning_rate=training.rate(round_index),
            steps=training.steps(n_records),
            optimizer=training.optimizer,
            momentum=training.momentum,
            proximal=training.proximal,
            natural=training.preconditioned,
        )

    @property
    def linear(self) -> bool:
        """Whether the update is a linear function of gradients at the received model, so that clients' updates add up."""
        return self.steps == 1 and self.optimizer == "sgd" and self.natural is None


def draw_plans(training: FederationConfig, n_records: int, count: int, generator: torch.Generator) -> Tensor:
    """Ways in which a client may have put its records into batches, as the records' weights in each step.

    The pipeline says how batches are drawn and not which came out, so an attacker guesses.

    Shapes:
        returns: ``(count, steps, n_records)``; ``(1, steps, n_records)`` where every step takes all records

    Args:
        training: How batches are drawn.
        n_records: Records of the client.
        count: How many ways to draw.
        generator: Of the draws.
    """
    size = n_records if training.batch_size is None else min(training.batch_size, n_records)
    steps = training.steps(n_records)
    if training.batches == "poisson":
        shape = (count, steps, n_records)
        used = (torch.rand(shape, generator=generator) < min(1.0, size / n_records)).double()
        return used / used.sum(dim=-1, keepdim=True).clamp_min(1.0)
    if size == n_records:
        return torch.full((1, steps, n_records), 1 / n_records, dtype=torch.float64)
    each = steps if training.batches == "fixed" else training.uses
    order = torch.rand(count, each, n_records, generator=generator).argsort(dim=-1).argsort(dim=-1)
    batches = 1 if training.batches == "fixed" else -(-n_records // size)
    of_batch = torch.stack([(order // size == place).double() for place in range(batches)], dim=2)
    weights = of_batch / of_batch.sum(dim=-1, keepdim=True)
    return weights.flatten(1, 2)


def unroll(
    model: Model,
    params: Tensor,
    features: Tensor,
    labels: Tensor,
    plan: Tensor,
    *,
    rule: LocalRule,
    execution: Execution,
    generator: Generators | None = None,
    softening: float = 0.0,
    create_graph: bool = False,
) -> Tensor:
    """What local training adds to the model, over minus the learning rate.

    Of one plain step that is the gradient; of several, the sum of what was stepped along.

    Args:
        model: The model.
        params: Where training starts.
        features: Guesses of the client's records.
        labels: The labels, or the weights of the classes for each record: the loss is their mixture then.
        plan: The records' weights in each step.
        rule: The optimiser.
        execution: How the attacker simulates the model.
        generator: Of the attacker's shots.
        softening: Added to Adam's denominators, in units of the gradient's root mean square. One step of Adam
            has the size of the learning rate whatever the gradient; this gives a search something to follow.
        create_graph: Keep the graph, to differentiate in features and labels; not of a natural gradient, whose metric has
            none.

    Shapes:
        params: ``(P,)``; features: ``(R, B, F)``; labels: ``(R, B)``, integers, or ``(R, B, K)``; plan: ``(R, steps, B)``;
        returns: ``(R, P)``
    """
    start = params.expand(len(features), 1, -1).detach().requires_grad_()
    now, total = start, torch.zeros_like(start)
    first, second = torch.zeros_like(start), torch.zeros_like(start)
    for place in range(plan.shape[1]):
        weights = plan[:, place]
        if rule.natural is not None:
            gradient = _natural(model, now, features, labels, weights, rule.natural, execution, generator)
        else:
            gradient = _gradient(
                model, now, features, labels, weights, execution, generator, create_graph=create_graph
            )
        if rule.proximal:
            gradient = gradient + rule.proximal * (now - start)
        if rule.optimizer == "adam":
            first = _BETA1 * first + (1 - _BETA1) * gradient
            second = _BETA2 * second + (1 - _BETA2) * gradient.square()
            upper, lower = first / (1 - _BETA1 ** (place + 1)), second / (1 - _BETA2 ** (place + 1))
            size = gradient.detach().square().mean(dim=-1, keepdim=True).sqrt()
            along = upper / ((lower + _TINY).sqrt() + _EPSILON + softening * size)
        else:
            first = rule.momentum * first + gradient
            along = first
        total = total + along
        now = now - rule.learning_rate * along
        if not create_graph:  # the next gradient needs the model alone
            now = now.detach().requires_grad_()
    return total[:, 0, :] if create_graph else total[:, 0, :].detach()


def _natural(
    model: Model,
    params: Tensor,
    features: Tensor,
    labels: Tensor,
    weights: Tensor,
    natural: NaturalGradient,
    execution: Execution,
    generator: Generators | None,
) -> Tensor:
    """The natural gradient of the mean loss, or the mean of those of single records."""
    circuit, dtype = metric_circuit(model), execution.complex_dtype
    assert circuit is not None  # the pipeline has checked
    if natural.of == "batch":
        gradient = _gradient(
            model, params, features, labels, weights, execution, generator, create_graph=False
        )
        metric = mean_metric(circuit, params[:, 0], features, weights, dtype=dtype)[:, None]
        return precondition(circuit, metric, gradient, kind=natural.metric, damping=natural.damping)
    each = params.detach().expand(-1, features.shape[1], -1).clone().requires_grad_()
    gradient = _gradient(model, each, features, labels, weights, execution, generator, create_graph=False)
    metric = fubini_study(circuit, params, features, dtype=dtype)
    found = precondition(circuit, metric, gradient, kind=natural.metric, damping=natural.damping)
    return found.sum(dim=1, keepdim=True)


def _gradient(
    model: Model,
    params: Tensor,
    features: Tensor,
    labels: Tensor,
    weights: Tensor,
    execution: Execution,
    generator: Generators | None,
    *,
    create_graph: bool,
) -> Tensor:
    logits = model(params, features, execution=execution, generator=generator)
    if labels.ndim == 2:
        losses = (weights * model.loss.per_sample(logits, labels)).sum()
    else:
        losses = torch.zeros((), dtype=logits.dtype)
        for label in range(model.n_classes):
            each = model.loss.per_sample(logits, torch.full(logits.shape[:-1], label))
            losses = losses + (weights * labels[..., label] * each).sum()
    (gradient,) = torch.autograd.grad(losses, params, create_graph=create_graph)
    return gradient

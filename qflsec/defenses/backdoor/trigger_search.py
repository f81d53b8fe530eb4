"""Trigger search: for each class the smallest change of features that turns clean records to it, and classes that stand apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from qflsec.base import ConfigError
from qflsec.models import Model

__all__ = ["FoundTrigger", "anomaly", "search_triggers", "suspected_targets"]

_WEIGHTS = (0.03, 0.1, 0.2, 0.4, 0.8)


@dataclass(frozen=True, kw_only=True, eq=False)
class FoundTrigger:
    """The smallest change that was found for one class.

    Attributes:
        target: The class.
        mask: How far each feature is replaced, from 0 to 1.
        values: By what.
        success: The share of the records that get the class with it.

    Shapes:
        mask, values: ``(F,)``
    """

    target: int
    mask: torch.Tensor
    values: torch.Tensor
    success: float

    @property
    def size(self) -> float:
        """The sum of the mask: how many features are replaced."""
        return float(self.mask.sum())

    def on(self, features: torch.Tensor) -> torch.Tensor:
        """Records with the change.

        Shapes:
            features: ``(n, F)``; returns the same
        """
        return features * (1.0 - self.mask) + self.mask * self.values


def search_triggers(
    model: Model,
    params: torch.Tensor,
    features: torch.Tensor,
    *,
    feature_range: tuple[float, float],
    success: float = 0.9,
    weights: Sequence[float] = _WEIGHTS,
    steps: int = 120,
    learning_rate: float = 0.15,
) -> tuple[FoundTrigger, ...]:
    """For each class the smallest mask, with values under it, that turns nearly all clean records to the class.

    The cross entropy to the class plus a weight times the sum of the mask is lowered by Adam, for several weights side by side; of
    all masks on the way that succeed the smallest one counts. Nothing is drawn.

    Args:
        model: The model.
        params: Its parameters.
        features: Clean records of whoever searches; labels are not needed.
        feature_range: The smallest and the largest value of a feature.
        success: The share of the records that have to get the class.
        weights: What the sum of the mask weighs.
        steps: How many steps are taken.
        learning_rate: Adam's.

    Returns:
        One for each class. Where no mask succeeds it is the full one, with the values of the last step and what they reach.

    Shapes:
        params: ``(P,)``; features: ``(n, F)``

    Raises:
        ConfigError: A value is out of range.

    Source:
        After Wang, Yao, Shan, Li, Viswanath, Zheng, Zhao, IEEE S&P 2019 (Neural Cleanse), with fixed weights in place of one that is
        adapted.
    """
    low, high = feature_range
    if not 0 < success <= 1 or steps < 1 or not weights or min(weights) < 0 or not low < high:
        raise ConfigError(
            "a setting of the search is out of range",
            got=f"success = {success}, steps = {steps}, weights = {tuple(weights)}, range {feature_range}",
            expected="success in (0, 1], steps of at least 1, weights of 0 or more, and a range",
        )
    n_classes, size = model.n_classes, features.shape[-1]
    shape = (n_classes, len(weights), 1, size)
    raw = [torch.zeros(shape, requires_grad=True) for _ in range(2)]
    wanted = torch.arange(n_classes)[:, None, None].expand(-1, len(weights), len(features))
    cost, descent = torch.tensor(weights), torch.optim.Adam(raw, lr=learning_rate)
    best = [
        FoundTrigger(target=k, mask=torch.ones(size), values=torch.zeros(size), success=0.0)
        for k in range(n_classes)
    ]
    for _ in range(steps):
        with torch.enable_grad():
            mask, values = torch.sigmoid(raw[0]), low + (high - low) * torch.sigmoid(raw[1])
            logits = model(params, features * (1.0 - mask) + mask * values)
            losses = torch.nn.functional.cross_entropy(
                logits.flatten(0, -2), wanted.flatten(), reduction="none"
            ).view(wanted.shape)
            total = losses.mean(dim=-1).sum() + (cost * mask.sum(dim=(-2, -1))).sum()
        reached = (logits.argmax(dim=-1) == wanted).double().mean(dim=-1)
        best = [
            _smaller(best[k], mask[k, :, 0].detach(), values[k, :, 0].detach(), reached[k], success)
            for k in range(n_classes)
        ]
        for one, gradient in zip(raw, torch.autograd.grad(total, raw), strict=True):
            one.grad = gradient
        descent.step()
    last = (low + (high - low) * torch.sigmoid(raw[1])).detach()
    return tuple(found if found.success else _full(model, params, features, found, last) for found in best)


def _smaller(
    best: FoundTrigger, masks: torch.Tensor, values: torch.Tensor, reached: torch.Tensor, success: float
) -> FoundTrigger:
    """The smallest of the masks that succeed, if it is smaller than the best so far."""
    sizes = torch.where(reached >= success, masks.sum(dim=-1), math.inf)
    place = int(sizes.argmin())
    if not float(sizes[place]) < (best.size if best.success else math.inf):
        return best
    return FoundTrigger(
        target=best.target, mask=masks[place], values=values[place], success=float(reached[place])
    )


def _full(
    model: Model, params: torch.Tensor, features: torch.Tensor, found: FoundTrigger, last: torch.Tensor
) -> FoundTrigger:
    """All features replaced by the values of the least weight."""
    values = last[found.target, 0, 0]
    with torch.no_grad():
        answers = model(params, values.expand_as(features)).argmax(dim=-1)
    share = float((answers == found.target).double().mean())
    return FoundTrigger(target=found.target, mask=found.mask, values=values, success=share)


def anomaly(sizes: torch.Tensor) -> torch.Tensor:
    """By how many normal standard deviations each size lies below the median, from the median absolute deviation.

    Args:
        sizes: The sizes.

    Returns:
        Positive below the median. Infinite where most sizes are equal and this one is another.

    Shapes:
        sizes: ``(K,)``; returns the same

    Raises:
        ConfigError: There are fewer than three: two lie equally far from their median, whatever they are.
    """
    if len(sizes) < 3:
        raise ConfigError(
            "sizes of so few classes have no outlier",
            got=len(sizes),
            expected="3 or more",
            fix="use 'suspects' or 'fine-pruning' for two classes",
        )
    wide = sizes.double()
    below = torch.quantile(wide, 0.5) - wide
    spread = 1.4826022185056018 * torch.quantile(
        below.abs(), 0.5
    )  # of a normal distribution: its standard deviation
    return torch.where(below == 0, 0.0, below / spread)


def suspected_targets(found: Sequence[FoundTrigger], *, threshold: float = 2.0) -> tuple[int, ...]:
    """The classes whose trigger is smaller than those of the others by more than chance.

    Args:
        found: One trigger for each class.
        threshold: The smallest :func:`anomaly` that counts.

    Raises:
        ConfigError: There are fewer than three classes.
    """
    far = anomaly(torch.tensor([one.size for one in found]))
    return tuple(one.target for one, index in zip(found, far.tolist(), strict=True) if index > threshold)

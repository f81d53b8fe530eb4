"""What training minimises: a loss is a property of the model, one value for each record."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from qflsec.base.errors import ConfigError

__all__ = ["CROSS_ENTROPY", "LOSSES", "CrossEntropy", "Hinge", "Loss", "MeanSquaredError"]


class Loss(ABC):
    """A loss, as a frozen value.

    A model answers with one logit for each class, and predicts the class of the largest. Networks of one output
    are trained in one of several conventions; :meth:`two_logits` says how that output becomes two logits, so
    that :meth:`per_sample` is the loss of the convention and the larger logit is its decision.

    Attributes:
        scale: What expectation values are multiplied by, where a model does not say.
    """

    scale: ClassVar[float] = 1.0

    @property
    @abstractmethod
    def name(self) -> str:
        """What a configuration calls it."""

    @final
    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of every record.

        Shapes:
            logits: ``(..., K)``.
            labels: ``(...)``, int64, or a shape that expands to it.
            returns: ``(...)``.

        Raises:
            ConfigError: The shapes do not fit.
        """
        lead = logits.shape[:-1]
        try:
            labels = labels.expand(lead)
        except RuntimeError as error:
            raise ConfigError(
                "labels do not fit the logits",
                got=f"labels {tuple(labels.shape)} for logits {tuple(logits.shape)}",
                expected=f"labels {tuple(lead)}",
            ) from error
        return self._losses(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)).reshape(lead)

    @abstractmethod
    def two_logits(self, output: Tensor) -> Tensor:
        """The logits of two classes from one output that is large for class 1.

        Shapes:
            output: ``(..., 1)``; returns: ``(..., 2)``.
        """

    @abstractmethod
    def confidence(self, logits: Tensor, labels: Tensor) -> Tensor:
        """How well the logits agree with the label, on a scale on which models differ about normally.

        Shapes:
            logits: ``(..., K)``; labels: ``(...)`` or a shape that expands to it; returns: ``(...)``, float64.
        """

    def to_config(self) -> dict[str, object]:
        """The fields of a model's configuration that name it."""
        return {"loss": self.name}

    def check(self, n_classes: int) -> None:  # noqa: B027 - those that come with the package need none
        """Try the loss on some records, before a model with this many classes is trained by it.

        Raises:
            ConfigError: It cannot be used.
        """

    @abstractmethod
    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The losses of rows.

        Shapes:
            logits: ``(N, K)``; labels: ``(N,)``; returns: ``(N,)``.
        """


def _margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The label's logit less the soft maximum of the others: ``log(p / (1 - p))`` of the softmax p.

    That is z_y - log sum_(k != y) e^z_k, which does not saturate as p does.

    Source:
        Carlini et al.: Membership inference attacks from first principles, IEEE S&P 2022, section IV.C.
    """
    right = one_hot(labels, logits.shape[-1]).bool()
    others = logits.double().masked_fill(right, -torch.inf)
    return logits.double().masked_fill(~right, 0.0).sum(dim=-1) - torch.logsumexp(others, dim=-1)


@dataclass(frozen=True, kw_only=True)
class CrossEntropy(Loss):
    """Cross entropy of the softmax.

    One output z gives the logits ``(-z/2, z/2)``: the loss is the binary cross entropy of z.
    """

    name = "cross-entropy"
    scale = 3.0  # expectation values lie in [-1, 1], too narrow for confident logits; 3 allows a probability of 0.95

    def two_logits(self, output: Tensor) -> Tensor:
        """Half of the output against minus one half."""
        half = output / 2
        return torch.cat([-half, half], dim=-1)

    def confidence(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The probability of the label on the logit scale."""
        return _margin(logits, labels)

    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels, reduction="none")


@dataclass(frozen=True, kw_only=True)
class MeanSquaredError(Loss):
    """Squared difference from the one-hot label, mean over the classes as in ``torch.nn.MSELoss``.

    One output z gives, for targets 0 and 1, the logits ``(1 - z, z)``: the loss is ``(z - y)^2`` with y in {0, 1},
    and class 1 is predicted where z > 1/2. For targets -1 and +1 it gives ``(-z, z)``: the loss is ``(z - t)^2``
    with t in {-1, +1}, and class 1 is predicted where z > 0.

    Args:
        targets: ``"zero-one"`` or ``"plus-minus"``.
    """

    targets: Literal["zero-one", "plus-minus"] = "zero-one"

    @property
    def name(self) -> str:
        """``mse`` or ``mse-plus-minus``."""
        return "mse" if self.targets == "zero-one" else "mse-plus-minus"

    def two_logits(self, output: Tensor) -> Tensor:
        """The output against what is left to 1, or against its negative."""
        return torch.cat([1 - output if self.targets == "zero-one" else -output, output], dim=-1)

    def confidence(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Minus the distance from the target: a loss far above it counts against membership as one far below."""
        return -self.per_sample(logits.double(), labels).sqrt()

    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        return (logits - _targets(logits, labels, self.targets)).square().mean(dim=-1)


@dataclass(frozen=True, kw_only=True)
class Hinge(Loss):
    """Hinge loss of one classifier for each class against all others, mean over the classes.

    Class k adds ``max(0, 1 - t_k z_k)`` with t_k = +1 for the label and -1 else. One output z gives the logits
    ``(-z, z)``: the loss is ``max(0, 1 - t z)``. A pipeline that adds up the classes' losses learns K times as fast.
    """

    name = "hinge"

    def two_logits(self, output: Tensor) -> Tensor:
        """The output against its negative."""
        return torch.cat([-output, output], dim=-1)

    def confidence(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The margin of the label's classifier over the others."""
        return _margin(logits, labels)

    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        return (1 - _targets(logits, labels, "plus-minus") * logits).clamp_min(0).mean(dim=-1)


def _targets(logits: Tensor, labels: Tensor, targets: str) -> Tensor:
    """One-hot labels, with -1 in the place of 0 for ``"plus-minus"``."""
    hot = one_hot(labels, logits.shape[-1]).to(logits.dtype)
    return hot if targets == "zero-one" else 2 * hot - 1


CROSS_ENTROPY = CrossEntropy()
LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (CROSS_ENTROPY, MeanSquaredError(), MeanSquaredError(targets="plus-minus"), Hinge())
}
"""The losses that need no file, by the name that a configuration calls them."""

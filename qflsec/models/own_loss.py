"""A user's own loss, from a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from qflsec.base.errors import ConfigError
from qflsec.base.randomness import stream
from qflsec.models.losses import CROSS_ENTROPY, Loss
from qflsec.models.user_file import load_named

__all__ = ["OwnLoss", "load_loss"]

_RECORDS = 6


@dataclass(frozen=True, kw_only=True)
class OwnLoss(Loss):
    """A function ``loss(logits, labels)`` of a user's, which gives one value for each record.

    One output z of a model becomes the logits ``(-z/2, z/2)``, as for cross entropy. A record's confidence is minus
    its loss.

    Args:
        function: Takes logits ``(N, K)`` and labels ``(N,)``, and returns losses ``(N,)``.
        path: ``"file.py:name"``.
        digest: SHA-256 of the file and of what it imports.
    """

    function: Callable[[Tensor, Tensor], Tensor] = field(compare=False, repr=False)
    path: str
    digest: str

    @property
    def name(self) -> str:
        """The path."""
        return self.path

    def two_logits(self, output: Tensor) -> Tensor:
        """Half of the output against minus one half."""
        return CROSS_ENTROPY.two_logits(output)

    def confidence(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Minus the loss."""
        return -self.per_sample(logits.double(), labels)

    def to_config(self) -> dict[str, object]:
        """The path, and the digest of what it stands for."""
        return {"loss": self.path, "loss_digest": self.digest}

    def __reduce__(self) -> tuple[Any, ...]:
        """The function does not pickle; it is loaded again."""
        return (load_loss, (self.path, self.digest))

    def check(self, n_classes: int) -> None:
        """Try the function on some records of a model with this many classes.

        Raises:
            ConfigError: It fails, is not finite, has no gradient, is no pure function, or mixes the records.
        """
        logits = torch.randn(_RECORDS, n_classes, generator=stream(0, "own-loss"))
        labels = torch.arange(_RECORDS) % n_classes
        leaf, kept = logits.clone().requires_grad_(), labels.clone()
        with torch.random.fork_rng(devices=[]):
            before = torch.get_rng_state()
            losses, again = self._losses(leaf, labels), self._losses(leaf, labels)
            alone = torch.cat([self._losses(leaf[i : i + 1], labels[i : i + 1]) for i in range(_RECORDS)])
            drew = not torch.equal(before, torch.get_rng_state())
        if not torch.isfinite(losses).all():
            raise self._wrong("is not finite", losses.tolist())
        if (
            drew
            or not torch.equal(losses, again)
            or not torch.equal(leaf, logits)
            or not torch.equal(labels, kept)
        ):
            raise self._wrong(
                "is no pure function of logits and labels", "it draws at random or changes something"
            )
        if not torch.allclose(losses, alone, atol=1e-5):
            raise self._wrong("of a record depends on the other records of a batch", losses.tolist())
        gradient = (
            torch.autograd.grad(losses.sum(), leaf, allow_unused=True)[0] if losses.requires_grad else None
        )
        if gradient is None or not bool(gradient.any()) or not torch.isfinite(gradient).all():
            raise self._wrong("has no gradient in the logits", "none, zero or not finite")

    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        try:
            losses = self._called(logits, labels)
        except Exception as error:
            sentence = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            raise self._wrong("fails", sentence) from error
        if not isinstance(losses, Tensor) or losses.shape != labels.shape:
            shape = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
            raise self._wrong(
                "gives not one value for each record",
                f"{shape} for {len(labels)} records",
                "reduction='none'",
            )
        return losses

    def _called(self, logits: Tensor, labels: Tensor) -> Any:  # noqa: ANN401 - what a user's function gives
        """The function's losses; in single precision where it holds constants, such as weights of classes, that have it."""
        if logits.dtype != torch.float64:
            return self.function(logits, labels)
        try:
            return self.function(logits, labels)
        except RuntimeError:
            losses = self.function(logits.float(), labels)
            return losses.double() if isinstance(losses, Tensor) else losses

    def _wrong(self, what: str, got: object, fix: str | None = None) -> ConfigError:
        return ConfigError(
            f"the loss {self.path.rpartition('/')[2]!r} {what}", got=got, fix=fix and f"use {fix}"
        )


def load_loss(path: str, digest: str | None = None) -> OwnLoss:
    """The loss of a file.

    Args:
        path: ``"file.py:name"``.
        digest: What the file must be.

    Raises:
        ConfigError: There is none, or the file has changed.
    """
    function, found = load_named(path, "loss", digest=digest)
    if not callable(function):
        raise ConfigError(f"{path.rpartition(':')[2]!r} is no function", got=type(function).__name__)
    return OwnLoss(function=function, path=path, digest=found)

"""An assertion on what a step of private training releases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from qflsec.base import ConfigError
from qflsec.models.check import PerSampleGradientError

__all__ = ["ReleaseGuard"]

_SLACK = 1e-4


class ReleaseGuard:
    """Refuses a sum of clipped gradients that is longer than its number of records allows.

    It stands before the noise, at every step: the sum of B clipped gradients has a norm of B C at most, whatever
    made them. A gradient that is not finite breaks the bound too; released, it would tell of its record. This takes
    one norm over the parameters, which is little beside the gradients of every record. ``recheck`` runs before steps
    1, 4, 16, 64 and so on: a long training pays for few checks.

    Args:
        clip_norm: The largest L2 norm of a record's gradient, C.
        recheck: Raises where the module's per-sample gradients are wrong.
    """

    def __init__(self, clip_norm: float, recheck: Callable[[], None]) -> None:
        self._clip_norm = clip_norm
        self._recheck = recheck
        self._records = 0
        self._passes = 0
        self._next_check = 1

    def before(self, parameters: Sequence[Any], n_records: int, clip_norm: float) -> None:
        """Before a pass's gradients are clipped and added to those of earlier passes of the same step.

        The clip norm may not change: noise follows the norm at the end of a step, which may be below that of its passes,
        and rows state one norm.

        Args:
            parameters: Parameters with Opacus' ``summed_grad``; None at the first pass of a step.
            n_records: The records of the pass.
            clip_norm: What the pass will be clipped to.

        Raises:
            ConfigError: The clip norm was changed.
            PerSampleGradientError: A recheck fails.
        """
        if clip_norm != self._clip_norm:
            raise ConfigError(
                "the clip norm was changed during the training",
                got=clip_norm,
                expected=f"{self._clip_norm:g} throughout",
                fix="start a new private training for another setting",
            )
        self._passes += 1
        if self._passes == self._next_check:
            self._next_check *= 4
            self._recheck()
        first = all(parameter.summed_grad is None for parameter in parameters)
        self._records = n_records + (0 if first else self._records)

    def after(self, parameters: Sequence[Any]) -> None:
        """Once the pass's gradients are in the sum.

        Args:
            parameters: The same, with the sum of clipped gradients.

        Raises:
            PerSampleGradientError: The sum exceeds its bound.
        """
        sums = [parameter.summed_grad for parameter in parameters]
        released = float(torch.nn.utils.get_total_norm(sums))
        bound = self._records * self._clip_norm
        slack = _SLACK + self._records * torch.finfo(sums[0].dtype).eps
        if not released <= bound * (1 + slack):
            raise PerSampleGradientError(
                "a step would release more than the stated clip norm allows, so that no row holds",
                got=f"norm {released:.6g} for {self._records} records clipped to {self._clip_norm:g}",
                expected=f"at most {bound:.6g}",
                fix="look for records and weights whose gradients are not finite, and for what changes gradients "
                "between backward() and step()",
            )

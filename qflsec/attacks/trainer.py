"""Training the pipeline under attack on records of one's own choice."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from qflsec.threat import Records

__all__ = ["Trainer"]


class Trainer(Protocol):
    """Trains models as the pipeline under attack does; the pipeline is public, so everybody can."""

    def __call__(self, pool: Records, members: Tensor, defenses: Any = None) -> Tensor:  # noqa: ANN401 - a stack
        """The final parameters of one model for each training set.

        Args:
            pool: Records.
            members: Which of them each model is trained on.
            defenses: The defenses in place; None trains without any.

        Shapes:
            members: ``(s, n)``, boolean; returns: ``(s, P)``
        """

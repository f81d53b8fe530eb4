"""Norm bound with noise, called weak differential privacy: short updates, and noise that covers little of one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from qflsec.base import ConfigError, DefenseCard, Source, register
from qflsec.defenses.robust.base import UpdateRule
from qflsec.defenses.robust.draws import Generator, normal
from qflsec.defenses.robust.guarantee import Robustness
from qflsec.defenses.robust.rows import Rows, Updates, like, norms_of
from qflsec.federation import RoundUpdates

__all__ = ["WeakDp", "weak_dp"]


def weak_dp(
    updates: Updates,
    *,
    f: int = 0,
    generator: Generator | None = None,
    max_norm: float = 3.0,
    noise_std: float = 0.002,
) -> Updates:
    """The mean of the rows, each scaled down to a norm, with Gaussian noise.

    Args:
        updates: A row for each client, NumPy or torch.
        f: The declared number of corrupted rows; it changes nothing.
        generator: Where the noise is drawn from; not needed where there is none.
        max_norm: The largest norm. The paper tries several; 3 and the noise below are FLPoison's.
        noise_std: The standard deviation of the noise on each coordinate of the mean.

    Shapes:
        updates: ``(n, d)``; returns: ``(d,)``

    Raises:
        UpdateError: There is no finite row, or the rows are no float32 or float64 matrix.
        ConfigError: A setting is out of range, or the generator is missing.

    Source:
        Sun, Kairouz, Suresh, McMahan, arXiv:1911.07963, section 5 ("weak differential privacy").
    """
    _check(max_norm, noise_std)
    if noise_std and generator is None:
        raise ConfigError(
            "'weak-dp' adds noise and needs a generator", fix="pass generator=..., or noise_std=0"
        )
    rows = Rows.of(updates, f)
    lengths = norms_of(rows.values)
    scale = np.minimum(1.0, max_norm / np.where(lengths > 0, lengths, 1.0))
    step = (scale @ rows.wide) / rows.n
    if noise_std and generator is not None:
        step = step + noise_std * normal(len(step), generator)
    return like(updates, step)


def _check(max_norm: float, noise_std: float) -> None:
    if not 0 < max_norm < np.inf:
        raise ConfigError("'max_norm' is out of range", got=max_norm, expected="positive and finite")
    if not 0 <= noise_std < np.inf:
        raise ConfigError("'noise_std' is out of range", got=noise_std, expected="0 or more, and finite")


@register("layer", "weak-dp")
@dataclass(frozen=True, kw_only=True)
class WeakDp(UpdateRule):
    """Updates scaled down to a norm, and noise that is too small for an epsilon worth the name.

    Attributes:
        max_norm: The largest L2 norm of an update.
        noise_std: The standard deviation of the noise on each coordinate of the step.

    Raises:
        ConfigError: A value is out of range.
    """

    topologies = frozenset({"star"})
    card = DefenseCard(
        name="weak-dp",
        idea="The server scales long updates down, averages them, and adds a little Gaussian noise.",
        source=Source(
            paper="Sun, Kairouz, Suresh, McMahan: Can you really backdoor federated learning?, arXiv:1911.07963",
            year=2019,
            where="section 5, weak differential privacy",
        ),
        claim="No client moves the mean by more than twice the bound over the number of clients.",
        assumption="none",
        hides="nothing",
        does_not=(
            "It does not give an epsilon: take dp-fedavg for one.",
            "It does not stop a manipulation that stays within the bound.",
        ),
        cost="one norm for each update; the server needs individual updates",
    )
    robustness = Robustness(breakdown="influence bounded, f any", needs=("randomness",))

    max_norm: float = 3.0
    noise_std: float = 0.002

    def __post_init__(self) -> None:
        _check(self.max_norm, self.noise_std)

    def act(self, batch: RoundUpdates, state: object) -> tuple[torch.Tensor, object]:
        """The noisy mean."""
        step = weak_dp(
            batch.updates, generator=batch.generator, max_norm=self.max_norm, noise_std=self.noise_std
        )
        return step, None

    def most(self, n: int) -> int:
        """Any number: the claim is on each of them."""
        return n

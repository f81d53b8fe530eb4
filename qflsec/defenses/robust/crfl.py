"""CRFL: the server clips the model itself and adds noise to it in every round."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from qflsec.base import ConfigError, DefenseCard, IncompatibleStack, Source, register
from qflsec.defenses.robust.draws import Generator, normal
from qflsec.defenses.robust.guarantee import Robustness
from qflsec.defenses.robust.rows import Array, Rows, Updates, like, norms_of
from qflsec.federation import NoiseLayer, Pipeline, RoundUpdates, SummedUpdates

__all__ = ["Crfl", "crfl"]


def crfl(
    updates: Updates,
    *,
    broadcast: Updates,
    f: int = 0,
    generator: Generator | None = None,
    max_norm: float = 2.0,
    noise_std: float = 0.01,
) -> Updates:
    """The step to the mean of the clients' models, clipped to a norm, with Gaussian noise.

    Args:
        updates: A row for each client, NumPy or torch: differences from the broadcast model.
        broadcast: The model that was sent out.
        f: The declared number of corrupted rows; it changes nothing.
        generator: Where the noise is drawn from; not needed where there is none, as in the last round of the paper.
        max_norm: rho, the largest norm of the model.
        noise_std: sigma, the standard deviation of the noise on each parameter.

    Returns:
        The difference between the new model and the broadcast one.

    Shapes:
        updates: ``(n, d)``; broadcast: ``(d,)``; returns: ``(d,)``

    Raises:
        UpdateError: There is no finite row, or the rows are no float32 or float64 matrix.
        ConfigError: A setting is out of range, or the generator is missing.

    Source:
        Xie, Chen, Chen, Li, ICML 2021, arXiv:2106.08283, algorithm 1. The certificate is
        :func:`qflsec.defenses.backdoor.certify_training`.
    """
    _check(max_norm, noise_std)
    rows = Rows.of(updates, f)
    start = broadcast.detach().cpu().numpy() if isinstance(broadcast, torch.Tensor) else broadcast
    step = rows.values.mean(axis=0, dtype=np.float64)
    return like(updates, _moved(start, step, max_norm, noise_std, generator))


def _moved(
    start: npt.NDArray[Any], step: Array, max_norm: float, noise_std: float, generator: Generator | None
) -> Array:
    """The step to the clipped, noisy model."""
    model = start.astype(np.float64) + step
    length = float(norms_of(model[None])[0])
    if length > max_norm:
        model = model * (max_norm / length)
    if noise_std:
        if generator is None:
            raise ConfigError(
                "'crfl' adds noise and needs a generator", fix="pass generator=..., or noise_std=0"
            )
        model = model + noise_std * normal(len(model), generator)
    return np.asarray(model - start)


def _check(max_norm: float | None, noise_std: float) -> None:
    if max_norm is not None and not 0 < max_norm < np.inf:
        raise ConfigError("'max_norm' is out of range", got=max_norm, expected="positive and finite")
    if not 0 <= noise_std < np.inf:
        raise ConfigError("'noise_std' is out of range", got=noise_std, expected="0 or more, and finite")


@register("layer", "crfl")
@dataclass(frozen=True, kw_only=True)
class Crfl(NoiseLayer):
    """The server clips the model itself to a norm, and adds noise to it in every round.

    Attributes:
        max_norm: The largest norm of the model; by default that of a model whose angles are all pi, so that no model of
            angles within half a turn is clipped.
        noise_std: The standard deviation of the noise on each parameter, in each round.

    Raises:
        ConfigError: A value is out of range.
    """

    card = DefenseCard(
        name="crfl",
        idea="The server clips the model to a norm and adds Gaussian noise to it in every round.",
        source=Source(
            paper="Xie, Chen, Chen, Li: CRFL: certifiably robust federated learning against backdoor attacks, ICML 2021, "
            "arXiv:2106.08283",
            year=2021,
            where="algorithm 1",
        ),
        claim="What a manipulation adds to the model drowns in later rounds' noise, and the model's norm is bounded.",
        assumption="heuristic",
        hides="nothing",
        does_not=(
            "It does not certify a record: that takes votes of many trainings, see 'certify_training'.",
            "It does not leave out the noise of the last round, as the paper does.",
            "It does not bound a single client.",
        ),
        cost="one norm and noise on every parameter; works on a sum as well",
    )
    robustness = Robustness(breakdown="influence bounded, f any", needs=("randomness",))

    max_norm: float | None = None
    noise_std: float = 0.01

    def __post_init__(self) -> None:
        _check(self.max_norm, self.noise_std)

    def check(self, pipeline: Pipeline) -> None:
        """Refuse a server learning rate: the layer makes the model, and not a step of some length.

        Raises:
            IncompatibleStack: It is not 1.
        """
        rate = pipeline.federation.server_learning_rate
        if rate != 1.0:
            raise IncompatibleStack(
                "'crfl' clips the model that the step leads to",
                got=f"server_learning_rate = {rate}",
                expected="1",
                fix="leave out 'server_learning_rate'",
            )

    def perturb(self, step: torch.Tensor, batch: RoundUpdates | SummedUpdates) -> torch.Tensor:
        """The step to the clipped, noisy model."""
        limit = math.pi * math.sqrt(len(step)) if self.max_norm is None else self.max_norm
        start = batch.broadcast.detach().cpu().numpy()
        moved = _moved(start, step.double().cpu().numpy(), limit, self.noise_std, batch.generator)
        return torch.from_numpy(moved).to(step)

"""DP-SGD at the clients: clip every record's gradient, sum, add Gaussian noise, at every local step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.accounting.limits import check_delta
from qflsec.base import DefenseCard, IncompatibleStack, Source, register
from qflsec.defenses.clipping import clip_to_norm
from qflsec.defenses.privacy.bounds import check_noise, multiplier_for, needs_noise
from qflsec.defenses.privacy.example_ledger import ExampleNoise, example_rate, example_rows
from qflsec.federation import CalibratedLayer, Clipping, ClippingLayer, Pipeline, Streams

__all__ = ["DpSgd", "noisy_clipped_sum"]


def noisy_clipped_sum(
    per_sample: torch.Tensor, mask: torch.Tensor, *, clip_norm: float, noise: torch.Tensor
) -> torch.Tensor:
    """The sum of clipped per-sample gradients, with noise.

    A record whose gradient is not finite contributes nothing: the bound must hold for every record.

    Args:
        per_sample: Per-sample gradients.
        mask: 1 for a record that was sampled.
        clip_norm: The largest L2 norm of a record's contribution, C.
        noise: Noise of standard deviation ``noise_multiplier * clip_norm``.

    Shapes:
        per_sample: ``(..., B, P)``; mask: ``(..., B)``; noise: ``(..., P)``; returns: ``(..., P)``
    """
    counted = (mask > 0) & torch.isfinite(per_sample).all(dim=-1)
    clipped = clip_to_norm(per_sample, clip_norm)
    return torch.where(counted[..., None], clipped, 0.0).sum(dim=-2) + noise


@register("layer", "dp-sgd")
@dataclass(frozen=True, kw_only=True)
class DpSgd(ClippingLayer, CalibratedLayer):
    """Differentially private SGD for the records of each client.

    Needs full or Poisson batches, or epochs, which earn no credit for sampling: the accountants' theorems hold for
    nothing else.

    Attributes:
        clip_norm: The largest L2 norm of a record's gradient, C.
        noise_multiplier: Standard deviation of the noise on the sum, in units of C; 1 where no target is set.
        target_epsilon: In place of the multiplier: the epsilon that the whole run is to have against whoever
            sees a single client's updates; the noise follows from the rounds, the local steps or epochs, and the
            sampling rate of the client with the fewest records.
        delta: The delta at which the ledger states epsilon; below one over the number of records.
        large_delta: Whether ``delta`` may be one over the number of records or more, so that one may be given away.

    Raises:
        ConfigError: A value is out of range, or both multiplier and target are set.
    """

    card = DefenseCard(
        name="dp-sgd",
        idea="Clients clip each record's gradient and add Gaussian noise to the sum, at every local step.",
        source=Source(
            paper="Abadi et al.: Deep learning with differential privacy, CCS 2016, arXiv:1607.00133",
            year=2016,
            where="Algorithm 1",
        ),
        claim="Example-level (epsilon, delta)-differential privacy for the records of every client that follows "
        "it, under zero-out adjacency, as numbers of records are public; the ledger states epsilon for each observer.",
        assumption="information-theoretic",
        hides="whether any one record was trained on, from everybody but the client itself, up to epsilon",
        does_not=(
            "It does not protect a client as a whole, nor a person with several records as it does one record.",
            "It does not bind a client that ignores it.",
            "It does not cover preprocessing, hyperparameter search or floating-point effects.",
        ),
        cost="per-sample gradients; noise that grows with the number of parameters; accuracy",
    )
    imports = ("qflsec.accounting.opacus_arithmetic",)
    alone = True

    clip_norm: float = 1.0
    noise_multiplier: float | None = None
    target_epsilon: float | None = None
    delta: float = 1e-5
    large_delta: bool = False

    def __post_init__(self) -> None:
        check_noise(
            clip_norm=self.clip_norm,
            noise_multiplier=self.noise_multiplier,
            target_epsilon=self.target_epsilon,
            delta=self.delta,
        )
        if self.noise_multiplier is None and self.target_epsilon is None:
            object.__setattr__(self, "noise_multiplier", 1.0)

    def calibrated(self, pipeline: Pipeline, counts: Sequence[int]) -> DpSgd:
        """The layer with the noise that its target needs in this run; itself where no target is set.

        Raises:
            ConfigError: No noise that the accountants can tell reaches the target.
        """
        if self.target_epsilon is None:
            return self
        config = pipeline.federation
        multiplier = multiplier_for(
            self.target_epsilon,
            self.delta,
            example_rate(config.batch_size if config.batches == "poisson" else None, counts),
            config.rounds * config.uses,
        )
        return replace(self, target_epsilon=None, noise_multiplier=multiplier)

    def check(self, pipeline: Pipeline) -> None:
        """Refuse fixed-size batches, and a delta that gives a record away.

        Raises:
            IncompatibleStack: Batches have a fixed size, or delta is too large for so many records.
        """
        check_delta(self, units=pipeline.data.members, unit="record")
        natural = pipeline.federation.natural_gradient
        if natural is not None and natural.of == "batch":
            raise IncompatibleStack(
                "'dp-sgd' has no epsilon for a natural gradient whose metric is a mean over the records: one record would "
                "change what all others add, and no noise covers the metric",
                got="natural_gradient of='batch'",
                fix="set of = 'record', so that each record is preconditioned by its own metric before it is clipped",
            )
        if pipeline.federation.batches == "fixed":
            raise IncompatibleStack(
                "'dp-sgd' has no epsilon for batches of a fixed size",
                got=f"sampling='fixed', batch_size={pipeline.federation.batch_size}",
                fix="set sampling = 'poisson', or 'epochs' (without credit for sampling), or leave out batch_size to use "
                "all records in each step",
            )

    def gradient(
        self, per_sample: torch.Tensor, mask: torch.Tensor, expected: torch.Tensor, streams: Streams
    ) -> torch.Tensor:
        """The noisy clipped sum over the expected number of records; zero for a client without records.

        Shapes:
            per_sample: ``(lane, client, B, P)``; mask: ``(lane, client, B)``; expected: ``(lane, client)``;
            returns: ``(lane, client, P)``
        """
        noise = self._noise(per_sample[:, :, 0], streams)
        total = noisy_clipped_sum(per_sample, mask, clip_norm=self.clip_norm, noise=noise)
        divisor = expected[..., None].to(total)
        return torch.where(divisor > 0, total / divisor.clamp(min=torch.finfo(total.dtype).tiny), 0.0)

    def clipping(self, like: torch.Tensor, streams: Streams) -> Clipping:
        """The same step, for training in one call."""
        return Clipping(norm=self.clip_norm, noise=self._noise(like, streams))

    def _noise(self, like: torch.Tensor, streams: Streams) -> torch.Tensor:
        """The noise of one step."""
        multiplier = needs_noise(self.card.name, self.noise_multiplier)
        if multiplier == 0:
            return torch.zeros_like(like)
        return multiplier * self.clip_norm * streams.normal("dp-sgd", tuple(like.shape[1:])).to(like)

    def ledger(self, context: LedgerContext) -> tuple[LedgerRow, ...]:
        """Epsilon against this observer; a row says so where there is none."""
        noise = ExampleNoise(
            layer=self.card.name,
            clip_norm=self.clip_norm,
            noise_multiplier=needs_noise(self.card.name, self.noise_multiplier),
            delta=self.delta,
        )
        return example_rows(noise, context)

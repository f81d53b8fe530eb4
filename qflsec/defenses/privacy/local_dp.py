"""Local differential privacy: each client clips and noises its own update before anybody sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.accounting.limits import check_delta
from qflsec.base import DefenseCard, Source, register
from qflsec.defenses.clipping import clip_to_norm
from qflsec.defenses.privacy.bounds import GaussianNoise, check_noise, multiplier_for, needs_noise
from qflsec.defenses.privacy.client_ledger import local_rows
from qflsec.federation import CalibratedLayer, Pipeline, ShapeLayer, Streams

__all__ = ["LocalDp"]


@register("layer", "local-dp")
@dataclass(frozen=True, kw_only=True)
class LocalDp(ShapeLayer, CalibratedLayer):
    """Each client releases a noisy, clipped update, so that it has to trust nobody.

    Attributes:
        clip_norm: The largest L2 norm of an update before the noise, S.
        noise_multiplier: Standard deviation of the noise in units of S; 1 where no target is set. Two data sets
            of a client are up to 2 S apart, so the multiplier that counts under replace-one adjacency is half.
        target_epsilon: In place of the multiplier: the epsilon of the whole run under replace-one adjacency.
        delta: The delta at which the ledger states epsilon.
        large_delta: Whether ``delta`` may be one over the number of clients or more, so that one may be given away.

    Raises:
        ConfigError: A value is out of range, or both multiplier and target are set.
    """

    card = DefenseCard(
        name="local-dp",
        idea="Each client clips its whole update and adds Gaussian noise before it sends it.",
        source=Source(
            paper="Dwork, Roth: The algorithmic foundations of differential privacy, FnT-TCS 9(3-4), 2014; "
            "Kasiviswanathan et al.: What can we learn privately?, arXiv:0803.0924",
            year=2014,
            where="definition 12.1 (local model) and appendix A (Gaussian mechanism)",
        ),
        claim="Client-level (epsilon, delta)-differential privacy of every message of a client that follows it, "
        "against everybody, under replace-one adjacency of its whole data set; composed over the rounds.",
        assumption="information-theoretic",
        hides="what a client's data are, from everybody, up to epsilon",
        does_not=(
            "It does not hide that a client takes part, or how many records it has.",
            "It does not bind a client that ignores it.",
        ),
        cost="noise of every client in every round: by far the largest loss of accuracy for an epsilon",
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

    def check(self, pipeline: Pipeline) -> None:
        """Refuse a delta that gives a client away.

        Raises:
            IncompatibleStack: Delta is too large for so many clients.
        """
        check_delta(self, units=pipeline.federation.n_clients, unit="client")

    def calibrated(self, pipeline: Pipeline, counts: Sequence[int]) -> LocalDp:
        """The layer with the noise that its target needs over the planned rounds.

        Raises:
            ConfigError: No noise that the accountants can tell reaches the target.
        """
        if self.target_epsilon is None:
            return self
        half = multiplier_for(self.target_epsilon, self.delta, 1.0, pipeline.federation.rounds)
        return replace(self, target_epsilon=None, noise_multiplier=2 * half)

    def shape(self, update: torch.Tensor, streams: Streams) -> torch.Tensor:
        """The clipped updates with noise.

        Shapes:
            update: ``(lane, client, P)``; returns: ``(lane, client, P)``
        """
        clipped = clip_to_norm(update, self.clip_norm)
        multiplier = needs_noise(self.card.name, self.noise_multiplier)
        if multiplier == 0:
            return clipped
        drawn = streams.normal("local-dp", update.shape[1:]).to(update)
        return clipped + multiplier * self.clip_norm * drawn

    def ledger(self, context: LedgerContext) -> tuple[LedgerRow, ...]:
        """Epsilon against this observer, for one message and for all rounds."""
        multiplier = needs_noise(self.card.name, self.noise_multiplier)
        noise = GaussianNoise(
            layer=self.card.name,
            noise_multiplier=multiplier,
            delta=self.delta,
            mechanism=f"each client's Gaussian noise of standard deviation {multiplier:.4g} S on its update clipped "
            f"to L2 norm S = {self.clip_norm:g}; sensitivity 2 S between two data sets, S against an update of zero",
        )
        return local_rows(noise, context)

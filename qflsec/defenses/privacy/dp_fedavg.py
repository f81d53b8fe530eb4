"""DP-FedAvg: the server clips whole updates, adds them up and adds Gaussian noise to the sum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.accounting.limits import check_delta
from qflsec.base import ConfigError, DefenseCard, Source, register
from qflsec.defenses.clipping import clip_to_norm
from qflsec.defenses.privacy.bounds import GaussianNoise, check_noise, multiplier_for, needs_noise
from qflsec.defenses.privacy.client_ledger import central_rows
from qflsec.federation import AggregatorLayer, CalibratedLayer, Pipeline, RoundUpdates, SummedUpdates

__all__ = ["DpFedAvg", "sum_multiplier"]


def sum_multiplier(noise_multiplier: float, count_noise: float) -> float:
    """The noise multiplier of the sum, where the count of clipped updates is released beside it.

    The pair of sum and count is one Gaussian mechanism: in units of their noise the sum moves by ``1 / z_delta``
    and the count, centred to +-1/2, by ``1 / (2 sigma_b)``. The pair has multiplier z if the squares add up to
    ``1 / z^2``.

    Args:
        noise_multiplier: The multiplier of the pair, z, which is what an accountant is told.
        count_noise: Standard deviation of the noise on the count, sigma_b.

    Returns:
        z_delta, above z.

    Raises:
        ConfigError: The noise on the count is so small that the count alone spends more than z allows.

    Source:
        Andrew, Thakkar, McMahan, Ramaswamy: Differentially private learning with adaptive clipping,
        NeurIPS 2021, arXiv:1905.03871, theorem 1: ``z_delta = (z^-2 - (2 sigma_b)^-2)^(-1/2)``.
    """
    if noise_multiplier == 0:
        return 0.0
    if 2 * count_noise <= noise_multiplier:
        raise ConfigError(
            "'count_noise' is too small for the noise multiplier",
            got=f"count_noise={count_noise:g}, noise_multiplier={noise_multiplier:g}",
            expected=f"count_noise above {noise_multiplier / 2:g}",
        )
    return float((noise_multiplier**-2 - (2 * count_noise) ** -2) ** -0.5)


@register("layer", "dp-fedavg")
@dataclass(frozen=True, kw_only=True)
class DpFedAvg(AggregatorLayer, CalibratedLayer):
    """Client-level central differential privacy: a rule of the server, who is trusted with the updates.

    Every update counts the same, whatever number of records its client states, and the noisy sum is divided
    by a constant, so that one client moves the sum by the clip norm at most.

    Attributes:
        clip_norm: The largest L2 norm of an update, S; with ``quantile`` that of the first round.
        noise_multiplier: Standard deviation of the noise on the sum, in units of S; 1 where no target is set.
        target_epsilon: In place of the multiplier: the epsilon of the whole run against whoever sees the models.
        delta: The delta at which the ledger states epsilon; below one over the number of clients.
        large_delta: Whether ``delta`` may be one over the number of clients or more, so that one may be given away.
        quantile: Where set, S follows this quantile of the updates' norms, by a noisy count in every round.
        clip_learning_rate: How fast it follows, eta_C.
        count_noise: Standard deviation of the noise on the count, sigma_b; by default a twentieth of the
            clients of a round, but at least 1.25 times the noise multiplier.
        expected_clients: The constant that the sum is divided by; set by the run.

    Raises:
        ConfigError: A value is out of range, or both multiplier and target are set.
    """

    card = DefenseCard(
        name="dp-fedavg",
        idea="The server clips whole updates, adds them up without weights and adds Gaussian noise to the sum.",
        source=Source(
            paper="McMahan, Ramage, Talwar, Zhang: Learning differentially private recurrent language models, "
            "ICLR 2018, arXiv:1710.06963; Andrew et al., NeurIPS 2021, arXiv:1905.03871 (adaptive clipping)",
            year=2018,
            where="Algorithm 1 with the fixed-denominator estimator; Algorithm 1 of Andrew et al.",
        ),
        claim="Client-level (epsilon, delta)-differential privacy of all released models against everybody who does "
        "not read updates before the noise; no client moves the sum by more than the clip norm.",
        assumption="information-theoretic",
        hides="all that any one client sent, from everybody but the server and who reads its mail, up to epsilon",
        does_not=(
            "It does not protect against the server, which reads every update.",
            "It does not work on sums that hide single updates, neither of all clients nor of groups.",
        ),
        cost="noise on every step; updates lose their weights; the server needs individual updates",
    )
    imports = ("qflsec.accounting.opacus_arithmetic",)
    over_groups = False  # a clipped mean may move by 2 S where one client of its group goes
    needs_separate = True
    acts_on_nobody = True

    clip_norm: float = 1.0
    noise_multiplier: float | None = None
    target_epsilon: float | None = None
    delta: float = 1e-5
    large_delta: bool = False
    quantile: float | None = None
    clip_learning_rate: float = 0.2
    count_noise: float | None = None
    expected_clients: float | None = None

    def __post_init__(self) -> None:
        check_noise(
            clip_norm=self.clip_norm,
            noise_multiplier=self.noise_multiplier,
            target_epsilon=self.target_epsilon,
            delta=self.delta,
        )
        if self.noise_multiplier is None and self.target_epsilon is None:
            object.__setattr__(self, "noise_multiplier", 1.0)
        if self.quantile is not None and not 0 <= self.quantile <= 1:
            raise ConfigError("'quantile' is out of range", got=self.quantile, expected="from 0 to 1")
        for name in ("clip_learning_rate", "count_noise", "expected_clients"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"'{name}' is out of range", got=value, expected="positive and finite")
        if self.noise_multiplier and self.quantile is not None and self.count_noise is not None:
            sum_multiplier(self.noise_multiplier, self.count_noise)

    def check(self, pipeline: Pipeline) -> None:
        """Refuse a delta that gives a client away.

        Raises:
            IncompatibleStack: Delta is too large for so many clients.
        """
        check_delta(self, units=pipeline.federation.n_clients, unit="client")

    def calibrated(self, pipeline: Pipeline, counts: Sequence[int]) -> DpFedAvg:
        """The layer with its noise, its noise on the count and its denominator set for a run.

        Raises:
            ConfigError: No noise that the accountants can tell reaches the target, or the count spends too much.
        """
        config = pipeline.federation
        poisson = config.who == "poisson"
        clients = config.participation * config.n_clients if poisson else float(config.n_participants)
        multiplier = self.noise_multiplier
        if self.target_epsilon is not None:
            rate = config.participation if poisson else 1.0
            multiplier = multiplier_for(self.target_epsilon, self.delta, rate, config.rounds)
        assert multiplier is not None
        count_noise = self.count_noise
        if self.quantile is not None and count_noise is None:
            count_noise = max(clients / 20, 1.25 * multiplier)
        return replace(
            self,
            target_epsilon=None,
            noise_multiplier=multiplier,
            count_noise=count_noise,
            expected_clients=self.expected_clients or clients,
        )

    def start(self, n_params: int) -> object:
        """The first clip norm."""
        return self.clip_norm

    def aggregate(self, batch: RoundUpdates | SummedUpdates, state: object) -> tuple[torch.Tensor, object]:
        """The noisy sum of clipped updates over the expected number of clients, and the next clip norm.

        Shapes:
            returns: a step ``(P,)``
        """
        assert isinstance(batch, RoundUpdates)
        assert isinstance(state, float)
        multiplier = needs_noise(self.card.name, self.noise_multiplier)
        if self.expected_clients is None or (self.quantile is not None and self.count_noise is None):
            raise ConfigError(
                f"'{self.card.name}' does not know the clients of a round yet",
                fix="use it in a run, call calibrated(pipeline, counts), or set expected_clients and count_noise",
            )
        spread = multiplier
        if self.quantile is not None and self.count_noise is not None:
            spread = sum_multiplier(multiplier, self.count_noise)
        total = clip_to_norm(batch.updates, state).double().sum(dim=0)
        drawn = torch.randn(total.shape, generator=batch.generator, dtype=torch.float64)
        step = ((total + spread * state * drawn) / self.expected_clients).to(batch.updates.dtype)
        return step, self._next_norm(batch, state, multiplier)

    def _next_norm(self, batch: RoundUpdates, norm: float, multiplier: float) -> float:
        """The clip norm of the next round: geometric steps towards the quantile (Andrew et al., section 2.2)."""
        if self.quantile is None or self.count_noise is None or self.expected_clients is None:
            return norm
        norms = torch.linalg.vector_norm(batch.updates, dim=-1, dtype=torch.float64)
        # Centred, so that a client moves the count by one half and not by one.
        count = float((norms <= norm).double().sum()) - 0.5 * len(batch.ids)
        if multiplier > 0:
            drawn = torch.randn((), generator=batch.generator, dtype=torch.float64)
            count += self.count_noise * float(drawn)
        share = count / self.expected_clients + 0.5
        return norm * math.exp(-self.clip_learning_rate * (share - self.quantile))

    def ledger(self, context: LedgerContext) -> tuple[LedgerRow, ...]:
        """Epsilon against this observer; a row says so where there is none."""
        multiplier = needs_noise(self.card.name, self.noise_multiplier)
        words = (
            f"Gaussian noise of standard deviation {multiplier:.4g} S on the unweighted sum of updates that the "
            f"server clips to L2 norm S = {self.clip_norm:g} (the sensitivity), over a constant"
        )
        if self.quantile is not None and self.count_noise is not None:
            words = (
                f"unweighted sum of updates that the server clips to L2 norm S (the sensitivity), over a constant; S "
                f"starts at {self.clip_norm:g} and follows the {self.quantile:g}-quantile of the norms by a count of "
                f"sensitivity 1/2; Gaussian noise of {sum_multiplier(multiplier, self.count_noise):.4g} S on the sum "
                f"and {self.count_noise:.4g} on the count, together multiplier {multiplier:.4g}"
            )
        noise = GaussianNoise(
            layer=self.card.name, noise_multiplier=multiplier, delta=self.delta, mechanism=words
        )
        return central_rows(noise, context)

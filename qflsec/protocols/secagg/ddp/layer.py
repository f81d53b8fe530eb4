"""Distributed differential privacy: each client adds a share of the noise, and only the noisy sum is read.

Each client clips its update, rounds it to integers at random, adds Skellam noise, and hands the result to
secure aggregation. The shares add up to the noise that the budget needs even if only the threshold of clients
remains and some of those collude. All clients have the same weight: the number of their examples would
change the sensitivity, and tell something by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.accounting.limits import check_delta
from qflsec.accounting.skellam import (
    calibrate_skellam,
    rounded_sensitivities,
    skellam_epsilon,
    skellam_tail,
)
from qflsec.base import (
    ConfigError,
    DefenseCard,
    IncompatibleStack,
    ProtocolAbort,
    Secrets,
    Source,
    UpdateError,
    register,
)
from qflsec.federation import Header, Identity, PartyState, Pipeline, Setup
from qflsec.protocols.secagg.ddp.ledger import ddp_row
from qflsec.protocols.secagg.ddp.skellam_noise import LARGEST_VARIANCE, draw_skellam, sampling_distance
from qflsec.protocols.secagg.fixed_point import Words, round_at_random
from qflsec.protocols.secagg.rounds.layer import SecAgg
from qflsec.protocols.secagg.rounds.pairing import scheme
from qflsec.protocols.secagg.rounds.states import ClientState
from qflsec.threat import Payload

__all__ = ["Ddp", "NoisePlan", "round_conditionally"]

_WRAP = 2.0**-40
_TRIES = 1000  # with beta at most 0.9, all fail with probability below 2^-150
_MECHANISM_SHARE = 0.99  # of delta; the rest covers the distance of what is drawn from Skellam noise


@dataclass(frozen=True, kw_only=True)
class NoisePlan:
    """What the noise of one session is calibrated to.

    Attributes:
        l1: The L1 sensitivity of the sum of integers, after rounding.
        l2: The L2 sensitivity.
        steps: The number of rounds.
        honest: The honest clients that are sure to remain in a round.
        local_variance: The variance of one client's noise.
    """

    l1: float
    l2: float
    steps: int
    honest: int
    local_variance: int


class DdpClient(ClientState):
    """A client of secure aggregation that draws noise from its own source of secrets."""

    def __init__(self, layer: Ddp, setup: Setup, identity: Identity, secrets: Secrets) -> None:
        super().__init__(
            setup,
            identity,
            secrets,
            layer.signature,
            policy=layer.policy_for(setup),
            scheme=scheme(layer.agreement),
        )


def round_conditionally(
    values: npt.NDArray[np.float64], secrets: Secrets, *, squared_bound: float
) -> npt.NDArray[np.int64]:
    """Round each value up or down at random, without bias, until the result is short enough.

    Source:
        Kairouz, Liu and Steinke, arXiv:2102.06387 (2021), algorithm 1, line 4.

    Raises:
        ProtocolAbort: It does not get short enough, which means that the values were too long before.

    Shapes:
        values: ``(n,)``; returns: ``(n,)``
    """
    for _ in range(_TRIES):
        rounded = round_at_random(values, secrets.draw).astype(np.int64)
        if sum(int(v) * int(v) for v in rounded) <= squared_bound:
            return rounded
    raise ProtocolAbort("an update cannot be rounded within its sensitivity")


@register("layer", "ddp")
@dataclass(frozen=True, kw_only=True)
class Ddp(SecAgg):
    """Secure aggregation of clipped, rounded and noisy updates.

    Attributes:
        clip_norm: The largest L2 norm of an update.
        target_epsilon: The budget of a client over all rounds, for whoever reads every sum.
        delta: Its delta.
        large_delta: Whether ``delta`` may be one over the number of clients or more, so that one may be given away.
        beta: The largest probability that a client draws its rounding again.

    Raises:
        ConfigError: A value is out of range.
    """

    card = DefenseCard(
        name="ddp",
        idea="Each client adds a share of Skellam noise to its clipped integers; secure aggregation shows only the "
        "noisy sum.",
        source=Source(
            paper="Agarwal, Kairouz and Liu: The Skellam mechanism for differentially private federated learning, "
            "NeurIPS 2021, arXiv:2110.04995; rounding after Kairouz, Liu and Steinke, arXiv:2102.06387",
            year=2021,
            where="theorem 3.5 and algorithm 1 of the former; proposition 22 and algorithm 1 of the latter",
        ),
        claim="Whoever reads the sums and models of all rounds learns no more of whether any one client's updates "
        "were zero than the budget allows, with up to the stated number of colluders and whatever number of dropouts.",
        assumption="computational",
        hides="single updates from the server and the network; a client's whole contribution to the sums, to the "
        "stated epsilon and delta",
        does_not=(
            "It does not hide who takes part, who drops out, sizes, hashes of the model, or numbers of records.",
            "It does not protect a single update, once opened, beyond one client's share of the noise.",
            "It does not bind clients that lie or leave out their noise.",
            "It does not protect against an observer who times how noise and rounding are drawn.",
        ),
        cost="as secure aggregation, with noise for the worst dropouts in every round: more than a central curator "
        "would add",
    )
    imports = ("qflsec.accounting.opacus_arithmetic",)

    weighted = False
    additive = False

    bits: int = 32
    fractional_bits: int = 12
    clip_norm: float = 1.0
    target_epsilon: float = 8.0
    delta: float = 1e-5
    large_delta: bool = False
    beta: float = 0.6

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, low, high in (
            ("clip_norm", 0.0, 1e6),
            ("target_epsilon", 0.0, 1e6),
            ("delta", 0.0, 1.0),
            ("beta", 0.0, 0.9),
        ):
            if not low < getattr(self, name) < high:
                raise ConfigError(
                    f"{name!r} is out of range",
                    got=getattr(self, name),
                    expected=f"between {low:g} and {high:g}",
                )

    def check(self, pipeline: Pipeline) -> None:
        """Refuse rounds in which no honest client would be sure to remain.

        Raises:
            IncompatibleStack: There are too few participants, or too many colluders.
        """
        super().check(pipeline)
        check_delta(self, units=pipeline.federation.n_clients, unit="client")
        n = pipeline.federation.n_participants
        if self.honest_survivors(n) < 1:
            raise IncompatibleStack(
                f"'ddp' needs an honest client among those that are sure to remain of {n}",
                got=f"a threshold of {self.threshold_for(n)} and {self.colluders} colluders",
            )

    def honest_survivors(self, n: int) -> int:
        """The honest clients that are sure to remain in a round of ``n``: threshold less colluders."""
        return self.threshold_for(n) - self.colluders

    def plan(self, *, n_params: int, rounds: int, honest: int) -> NoisePlan:
        """The noise of a session.

        Args:
            n_params: The number of parameters.
            rounds: The number of rounds.
            honest: The honest clients that are sure to remain, as :meth:`honest_survivors` counts them.

        Raises:
            ConfigError: No noise reaches the budget.
        """
        return _planned(self, n_params, rounds, honest)

    def calibrate(self, *, n_params: int, rounds: int, honest: int) -> NoisePlan:
        """The work behind :meth:`plan`.

        Raises:
            ConfigError: No noise reaches the budget.
        """
        scaled = self.clip_norm * self.words.scale
        l1, l2 = rounded_sensitivities(scaled_norm=scaled, n_values=n_params, beta=self.beta)
        total = calibrate_skellam(
            target_epsilon=self.target_epsilon,
            l1=l1,
            l2=l2,
            steps=rounds,
            delta=_MECHANISM_SHARE * self.delta,
        )
        return NoisePlan(l1=l1, l2=l2, steps=rounds, honest=honest, local_variance=-(-total // honest))

    def check_plan(self, plan: NoisePlan, *, n_params: int, n_participants: int) -> None:
        """Refuse noise that could wrap around the ring, or that is not close enough to Skellam noise.

        Raises:
            ConfigError: It could.
        """
        if plan.local_variance > LARGEST_VARIANCE:
            raise ConfigError(
                "the noise of a client is too large, in steps of the grid, to be drawn",
                got=f"a standard deviation of {math.sqrt(plan.local_variance):.3g} steps",
                expected=f"at most {math.sqrt(LARGEST_VARIANCE):.3g}",
                fix="lower 'fractional_bits' or 'clip_norm'",
            )
        room = (1 << (self.bits - 1)) - 1 - n_participants * plan.l2
        tail = skellam_tail(n_participants * plan.local_variance, room)
        if 2 * n_params * plan.steps * tail > _WRAP:
            raise ConfigError(
                f"the sums of {n_participants} clients with noise of standard deviation "
                f"{math.sqrt(n_participants * plan.local_variance):.3g} could wrap around the {self.bits}-bit ring",
                expected=f"a probability of at most {_WRAP:.1g} over all rounds",
                fix="use bits=64, or lower 'fractional_bits' or 'clip_norm'",
            )
        distance = n_params * plan.steps * sampling_distance(plan.local_variance)
        if (
            n_participants * distance * (1 + math.exp(min(self.target_epsilon, 700.0)))
            > (1 - _MECHANISM_SHARE) * self.delta
        ):
            raise ConfigError(
                "the noise that is drawn is not close enough to Skellam noise for this budget",
                got=f"target_epsilon={self.target_epsilon:g}, delta={self.delta:g}",
                fix="lower 'target_epsilon' or raise 'delta'",
            )

    def open(self, setup: Setup, identity: Identity, secrets: Secrets) -> PartyState:
        """A party's state.

        Raises:
            ConfigError: The noise, or a client's share of the sum, does not fit into the ring.
        """
        n = len(setup.clients)
        honest = max(1, self.honest_survivors(n))
        plan = self.plan(n_params=setup.n_params, rounds=setup.rounds, honest=honest)
        self.check_plan(plan, n_params=setup.n_params, n_participants=n)
        return super().open(setup, identity, secrets)

    def new_client(self, setup: Setup, identity: Identity, secrets: Secrets) -> ClientState:
        """A client's state."""
        return DdpClient(self, setup, identity, secrets)

    def seal(
        self, state: PartyState, update: torch.Tensor, weight: float, header: Header, *, checked: bool = True
    ) -> tuple[Payload, torch.Tensor]:
        """Stage 2: a client's noisy, masked words, signed, and what they carry.

        Raises:
            ProtocolAbort: The client was not told for whom to mask, or sealed already.
            UpdateError: A number is not finite.
        """
        assert isinstance(state, DdpClient)
        # the threshold that the client accepted, not what the server may say of it elsewhere
        honest = state.protocol.threshold - self.colluders
        if honest < 1:
            raise ProtocolAbort(f"{state.party} was asked for noise in a round without a sure honest client")
        plan = self.plan(n_params=state.setup.n_params, rounds=state.setup.rounds, honest=honest)
        # clipping and noise are the client's own: a corrupted one leaves out both
        words = self.noisy_words(update, plan, state.secrets) if checked else self.words.nearest(update, 1.0)
        return state.mask(words), torch.from_numpy(self.words.decode(words)).to(update)

    def noisy_words(self, update: torch.Tensor, plan: NoisePlan, secrets: Secrets) -> Words:
        """A client's clipped, rounded and noisy update, and its weight of one, as words.

        Shapes:
            update: ``(P,)``; returns: ``(P + 1,)``

        Raises:
            UpdateError: A number is not finite.
        """
        values = update.detach().cpu().numpy().astype(np.float64)
        if not np.isfinite(values).all():
            raise UpdateError(
                "an update cannot be released", got="NaN or infinity", expected="finite numbers"
            )
        norm = float(np.linalg.norm(values))
        clipped = values * min(1.0, self.clip_norm / norm) if norm > 0 else values
        rounded = round_conditionally(
            clipped * self.words.scale, secrets, squared_bound=round(plan.l2 * plan.l2)
        )
        noisy = rounded + draw_skellam(secrets, plan.local_variance, values.size)
        signed = np.append(noisy, round(self.words.scale))
        return signed.astype(np.int64).view(np.uint64).astype(self.words.dtype)

    def ledger(self, context: LedgerContext) -> tuple[LedgerRow, ...]:
        """What it hides from this observer, and the budget of a client."""
        rows = super().ledger(context)
        if not context.honest or not context.observer.reads_anything:
            return rows
        n = context.training.invited
        plan = self.plan(
            n_params=context.training.n_params,
            rounds=context.training.rounds,
            honest=max(1, self.honest_survivors(n)),
        )
        honest = self._sure_shares(context)
        bound = skellam_epsilon(
            variance=honest * plan.local_variance,
            l1=plan.l1,
            l2=plan.l2,
            steps=context.training.rounds,
            delta=_MECHANISM_SHARE * self.delta,
        )
        row = ddp_row(
            self.card.name,
            context,
            bound=bound,
            delta=self.delta,
            honest=honest,
            sensitivities=(plan.l1, plan.l2),
            local_variance=plan.local_variance,
            scale=self.words.scale,
            clip_norm=self.clip_norm,
        )
        return (*rows, row)

    def _sure_shares(self, context: LedgerContext) -> int:
        """Of how many honest clients the noise is in whatever this observer reads of one of them.

        That of the client itself always; that of others while sums stay closed.
        """
        observer, n = context.observer, context.training.invited
        opens = observer.interferes and len(observer.clients) > self.deviators_for(n)
        if observer.reads_updates or opens:
            return 1
        return max(1, self.threshold_for(n) - len(observer.clients))


@lru_cache(maxsize=64)
def _planned(layer: Ddp, n_params: int, rounds: int, honest: int) -> NoisePlan:
    return layer.calibrate(n_params=n_params, rounds=rounds, honest=honest)

"""What the parties agree on before the first pulse of a run that is to end in a key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qflsec.base import ConfigError, finite
from qflsec.protocols.bb84.authentication import TAG_BITS
from qflsec.protocols.bb84.cascade import CascadeConfig
from qflsec.protocols.bb84.cascade_variants import DEFAULT_SCHEDULE, schedule
from qflsec.protocols.bb84.decoy_length import DecoyCounts, DecoySource, lim_length
from qflsec.protocols.bb84.key_length import LeakAccounting, check_epsilons, tomamichel_length
from qflsec.protocols.bb84.verification import verification_bits

__all__ = ["TRANSCRIPT_TAGS", "PostprocessConfig", "TagMode"]

TagMode = Literal["transcript", "per-message"]
TRANSCRIPT_TAGS = 2


@finite
@dataclass(frozen=True, kw_only=True)
class PostprocessConfig:
    """Block sizes, tolerances, budget and length, all fixed beforehand.

    :mod:`qflsec.protocols.bb84.optimise` makes one from an expected channel.

    Attributes:
        n: Raw-key bits (basis X) that go on; excess is discarded at random.
        k: Test bits (basis Z), likewise.
        q_tol: Tolerated error rate of the test bits.
        expected_qber: Expected error rate of the raw key, from which Cascade's blocks follow.
        leak_budget: Most bits that error correction may disclose, counted as ``accounting`` says.
        length: Length of the key before authentication is paid for.
        eps_sec: Secrecy.
        eps_cor: Correctness.
        decoy: Intensities of a decoy source; None for single photons.
        accounting: How two-way error correction is counted.
        schedule: Schedule of Cascade.
        tags: One tag for each direction at the end, or one for each message as well.

    Raises:
        ConfigError: The length is not positive, does not pay for its authentication, or exceeds what the
            security proof allows.
    """

    n: int
    k: int
    q_tol: float
    expected_qber: float
    leak_budget: int
    length: int
    eps_sec: float = 1e-10
    eps_cor: float = 1e-15
    decoy: DecoySource | None = None
    accounting: LeakAccounting = "both-parties"
    schedule: str = DEFAULT_SCHEDULE
    tags: TagMode = "transcript"

    def __post_init__(self) -> None:
        check_epsilons(self.eps_sec, self.eps_cor)
        schedule(self.schedule)
        for name in ("n", "k", "leak_budget"):
            if getattr(self, name) < 1:
                raise ConfigError(f"impossible {name}", got=getattr(self, name), expected="1 or more")
        for name in ("q_tol", "expected_qber"):
            if not 0.0 <= getattr(self, name) < 0.5:
                raise ConfigError(
                    f"impossible {name}", got=getattr(self, name), expected="from 0 to below 0.5"
                )
        longest = self.n if self.decoy is not None else self.single_photon_length
        if min(longest, self.length) <= TRANSCRIPT_TAGS * TAG_BITS:
            raise ConfigError(
                "no key can be made", got=f"a length of {min(longest, self.length)} bits",
                expected=f"more than the {TRANSCRIPT_TAGS * TAG_BITS} bits that authentication takes",
                fix="send more pulses, shorten the line, or choose a better channel",
            )  # fmt: skip
        if self.length > longest:
            raise ConfigError(
                "the agreed length is not secure", got=self.length, expected=f"at most {longest} bits"
            )

    @property
    def single_photon_length(self) -> int:
        """What the single-photon formula allows for these parameters."""
        return tomamichel_length(
            n=self.n, k=self.k, q_tol=self.q_tol, leak_ec=self.leak_budget, eps_sec=self.eps_sec, eps_cor=self.eps_cor
        )  # fmt: skip

    @property
    def n_intensities(self) -> int:
        """Intensities that are told apart."""
        return 1 if self.decoy is None else 3

    @property
    def verification_bits(self) -> int:
        """Length of the verification hash, which the length formulas allow for."""
        return verification_bits(self.eps_cor)

    @property
    def cascade(self) -> CascadeConfig:
        """What error correction needs to know."""
        return CascadeConfig(
            schedule=self.schedule,
            qber=self.expected_qber,
            budget_bits=self.leak_budget,
            accounting=self.accounting,
        )

    def supports(self, counts: DecoyCounts) -> bool:
        """Whether the counts of a decoy run bear the agreed length: the run's acceptance test."""
        assert self.decoy is not None
        supported = lim_length(
            source=self.decoy, counts=counts, leak_ec=self.leak_budget, eps_sec=self.eps_sec,
            eps_cor=self.eps_cor, accounting=self.accounting,
        )  # fmt: skip
        return self.length <= supported

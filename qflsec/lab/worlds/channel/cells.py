"""What a channel matrix says: is the attack detected, and is a key still claimed secure?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from qflsec.base import Score
from qflsec.lab.scoring.channel_outcome import ChannelOutcome
from qflsec.lab.worlds.pairs.cells import PairCell, PairResult, mean

__all__ = ["ChannelCell", "ChannelMatrixResult"]

_NOT_NOTICED = "no-key-left"


@dataclass(frozen=True, kw_only=True)
class ChannelCell(PairCell[ChannelOutcome]):
    """One attack against one set of countermeasures, over all seeds."""

    @property
    def detected(self) -> int:
        """Runs in which a check fired; that no key is left is no such check."""
        return sum(bool(set(outcome.detected_by) - {_NOT_NOTICED}) for outcome in self.outcomes)

    @property
    def detected_by(self) -> tuple[str, ...]:
        """The checks that fired in any run."""
        return tuple(sorted({name for outcome in self.outcomes for name in outcome.detected_by}))

    @property
    def claimed(self) -> int:
        """Runs in which a key is still claimed secure."""
        return sum(outcome.key_claimed for outcome in self.outcomes)

    @property
    def false_claims(self) -> int:
        """Runs in which more key is claimed than the adversary left."""
        return sum(not outcome.claim_holds for outcome in self.outcomes)

    @property
    def verdict(self) -> str:
        """The worst that happened in any run: ``false key``, ``key holds`` or ``no key``."""
        if self.false_claims:
            return "false key"
        return "key holds" if self.claimed else "no key"

    @property
    def eve_information(self) -> Score | None:
        """What the adversary knows of each raw-key bit: the mean over the seeds."""
        values = [outcome.eve_information for outcome in self.outcomes]
        return mean(values, name="eve_information", ideal=1.0, unit="bit", within=(0.0, 1.0))

    @property
    def key_length(self) -> Score | None:
        """Bits of key claimed: the mean over the seeds."""
        values = [float(outcome.key_length) for outcome in self.outcomes]
        return mean(values, name="key_length", ideal=0.0, unit="bit", within=(0.0, math.inf))

    @property
    def finding(self) -> str:
        """What the runs found, in words."""
        n = len(self.outcomes)
        noticed = f"detected in {self.detected} of {n} runs"
        if self.detected:
            noticed += f" by {', '.join(name for name in self.detected_by if name != _NOT_NOTICED)}"
        claim = {
            "false key": f"a key is claimed secure that is not in {self.false_claims} of {n}",
            "key holds": f"a key is claimed in {self.claimed} of {n}, and no more than the adversary left",
            "no key": "no key is claimed",
        }[self.verdict]
        score = self.eve_information
        knows = "" if score is None else f"; Eve knows {score.value:.2f} of each raw-key bit"
        return f"{noticed}; {claim}{knows}"

    blamed: ClassVar[str] = "wire"
    """Alice and Bob trust each other: what stops them is the line, its noise, or whoever sits on it."""

    @staticmethod
    def stopped(outcome: ChannelOutcome) -> bool:
        """Whether the run aborts."""
        return outcome.detected

    @staticmethod
    def figures(outcome: ChannelOutcome) -> dict[str, float]:
        """The numbers of a run."""
        return {
            "eve_information_bits_per_raw_bit": outcome.eve_information,
            "qber": outcome.qber,
            "key_length_bits": float(outcome.key_length),
            "secret_bits": outcome.secret_bits,
        }


@dataclass(frozen=True, kw_only=True)
class ChannelMatrixResult(PairResult[ChannelCell]):
    """What a channel matrix found; its columns are sets of countermeasures."""

    kind: ClassVar[str] = "channel"

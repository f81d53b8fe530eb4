"""What is asked for: one run of a pipeline under a stack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qflsec.base import ConfigError, finite
from qflsec.federation.adversary import Adversary
from qflsec.threat import Records, ThreatModel

__all__ = ["RunSpec"]


@finite
@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One run of a pipeline under a stack.

    Attributes:
        seed: The seed of all its experiment randomness.
        adversary: What corrupted parties do; None for an honest run.
        threat: The threat model of the adversary; None for an honest run.
        evaluate: When the model is evaluated on the test records: after every round, after the last, or never.
        trace: Whether the result keeps the model of every round.
        asked: Records about which the adversary will be asked after the run, so that it can act on the question; None
            where it is asked nothing, or learns the question later.

    Raises:
        ConfigError: An adversary without an active threat model, or the other way round.
    """

    seed: int
    adversary: Adversary | None = None
    threat: ThreatModel | None = None
    evaluate: Literal["every-round", "last", "never"] = "every-round"
    trace: bool = False
    asked: Records | None = None

    def __post_init__(self) -> None:
        if (self.adversary is None) != (self.threat is None):
            raise ConfigError(
                "a manipulated run needs both an adversary and its threat model",
                got=f"adversary={self.adversary}, threat={self.threat}",
            )
        if self.threat is not None and not self.threat.active:
            raise ConfigError(
                f"threat model {self.threat.name!r} is passive, so its parties cannot manipulate a run",
                fix="set active = true in the threat model",
            )

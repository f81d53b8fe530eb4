"""Attacks on the quantum channel of BB84 as a kind of matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, ClassVar

from qflsec.attacks.channel import ChannelAttack
from qflsec.lab.grid.estimate import Part
from qflsec.lab.grid.spec import GridSpec
from qflsec.lab.grid.units import Plan
from qflsec.lab.scoring.channel import channel_outcome
from qflsec.lab.scoring.channel_outcome import ChannelOutcome
from qflsec.lab.worlds.channel.cells import ChannelMatrixResult
from qflsec.lab.worlds.channel.reading import ChannelReading
from qflsec.lab.worlds.channel.spec import ChannelMatrixSpec
from qflsec.lab.worlds.pairs.reading import PairReading
from qflsec.lab.worlds.pairs.world import PairWorld

__all__ = ["ChannelWorld"]

_PULSE_SECONDS = 1e-7


class ChannelWorld(PairWorld[ChannelMatrixSpec, ChannelAttack, ChannelOutcome, ChannelMatrixResult]):
    """Attacks on the channel against sets of countermeasures.

    Every run has seeded secrets, so that it can be repeated; its key protects nothing.
    """

    kind: ClassVar[str] = "channel"
    reading: ClassVar[type[PairReading[Any, Any]]] = ChannelReading
    spec_type: ClassVar[type[GridSpec]] = ChannelMatrixSpec
    attack_type: ClassVar[type[Any]] = ChannelAttack
    attack_words: ClassVar[str] = "an attack on the quantum channel"
    honest_words: ClassVar[str] = "the honest line"

    def __init__(self, spec: ChannelMatrixSpec) -> None:
        super().__init__(spec)
        self._config, self._rules = spec.config(), spec.judging()

    def columns(self) -> Mapping[str, Any]:
        """The countermeasures of each column."""
        return {name: sorted(names) for name, names in self.spec.countermeasures.items()}

    def setting(self) -> Mapping[str, Any]:
        """The line, and how Alice and Bob judge a run."""
        return {
            "source": type(self._config.source).__name__,
            "line": asdict(self._config),
            "rules": asdict(self._rules),
        }

    def parts(self, plan: Plan[Any], *, measure: bool = False) -> tuple[Part, ...]:
        """What is left to do, with its time by the number of pulses; memory depends on how many arrive."""
        seconds = self._config.n_pulses * _PULSE_SECONDS
        return tuple(
            replace(part, cpu_seconds=part.runs * seconds, basis="100 ns for each pulse of a run")
            for part in super().parts(plan, measure=measure)
        )

    def trial(self, attack: ChannelAttack | None, column: str, seed: int) -> ChannelOutcome:
        """One run of BB84 under attack."""
        return channel_outcome(
            attack,
            self.spec.countermeasures[column],
            config=self._config,
            seed=seed,
            rules=self._rules,
            seeded=True,
        )

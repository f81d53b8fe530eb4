"""Trials of layers and topologies: honest runs of a small federation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from qflsec.base import ConfigError, IncompatibleStack
from qflsec.federation import RunResult, RunSpec, layer_from_config
from qflsec.federation.topology import topology_from_config
from qflsec.lab.conformance.federation import SEEDS, changes, other_chance, runs, same_model
from qflsec.lab.conformance.trial import Fault, Trial, Unchecked, Written
from qflsec.threat import honest_but_curious_server, public_final_model, wire_eavesdropper

__all__ = ["LayerTrial", "TopologyTrial"]

_SPECS = tuple(RunSpec(seed=seed) for seed in SEEDS)


class _RunTrial(Written):
    """Something that honest runs are made with."""

    @abstractmethod
    def parts(self) -> dict[str, Any]:
        """It, as an argument of :func:`runs`."""

    def made_runs(self, specs: Sequence[RunSpec] = _SPECS) -> list[RunResult]:
        """Honest runs."""
        parts = self.parts()
        try:
            return runs(specs, **parts)
        except (IncompatibleStack, ConfigError) as error:
            raise Unchecked(f"it cannot stand alone: {error}") from error

    def shapes(self) -> None:
        """Honest runs end well."""
        for run in self.made_runs():
            if run.outcome != "completed":
                raise Fault(f"an honest run ends otherwise than completed: {run.outcome}")

    def state(self) -> None:
        """A run alone is the run beside others."""
        with changes(self.made) as found:
            together = self.made_runs()
        if found:
            raise Fault(f"it keeps {', '.join(found)}")
        if not all(
            same_model(self.made_runs([spec])[0], run) for spec, run in zip(_SPECS, together, strict=True)
        ):
            raise Fault("a run alone is not the run beside others: something is kept outside the state")

    def determinism(self) -> None:
        """All chance comes from the run's streams."""
        both = []
        for seed in (1, 2):
            with other_chance(seed):
                both.append(self.made_runs())
        if not all(same_model(*pair) for pair in zip(*both, strict=True)):
            raise Fault("two runs of one seed differ: draw from the streams of the run alone")


class LayerTrial(_RunTrial):
    """A layer that stands alone in its stack."""

    def again(self, config: Mapping[str, Any]) -> object:
        """The layer of a configuration."""
        return layer_from_config(config)

    def parts(self) -> dict[str, Any]:
        """A stack of this layer."""
        return {"layers": (self.made,)}

    def ledger(self) -> None:
        """Every usual observer is told something."""
        (run,) = self.made_runs(_SPECS[:1])
        for threat in (honest_but_curious_server(), wire_eavesdropper(), public_final_model()):
            if not run.ledger(threat):
                raise Fault(f"the ledger has no row against {threat.name}")


class TopologyTrial(_RunTrial):
    """A topology without layers."""

    def again(self, config: Mapping[str, Any]) -> object:
        """The topology of a configuration."""
        return topology_from_config(config)

    def parts(self) -> dict[str, Any]:
        """This topology."""
        return {"topology": self.made}

    def card(self) -> None:
        """Its docstring."""
        Trial.card(self)

"""The heat maps: attack against defense, one cell each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qflsec.base import register
from qflsec.lab import Result
from qflsec.lab.worlds.channel import ChannelCell, ChannelMatrixResult
from qflsec.lab.worlds.delegation import SessionMatrixResult
from qflsec.lab.worlds.federation.results import AttackInfo, MatrixResult
from qflsec.lab.worlds.federation.states import DETECTION, GOALS, OWN
from qflsec.report.accounts import epsilon_note, main_observer
from qflsec.report.effects import family_worst
from qflsec.report.html import fill, table
from qflsec.report.panel import Panel
from qflsec.report.states import BEYOND, CHANNEL_STATES, DELEGATION_STATES, STATES, beyond, shade

__all__ = ["ChannelHeatMap", "DelegationHeatMap", "HeatMap", "adapted"]


@register("panel", "matrix")
class HeatMap(Panel):
    """The advantage of every attack against every stack, with accuracy below."""

    title = "The matrix"
    order = 20.0

    def applies(self, result: object) -> bool:
        """For matrices of the federation."""
        return isinstance(result, MatrixResult)

    def render(self, result: MatrixResult) -> str:
        """The table and its legend."""
        families: dict[str, list[AttackInfo]] = {}
        for attack in result.attacks:
            families.setdefault(attack.family, []).append(attack)
        tested = {
            (attack.pipeline, protects)
            for attack in result.attacks
            for protects, kinds in GOALS.items()
            if attack.goal in kinds
        }
        observer = main_observer(result)
        worst = {
            (stack.name, family): family_worst(result, stack.name, family)
            for stack in result.stacks
            for family in families
        }
        heat_map = fill(
            "panels/matrix.html.j2",
            result=result,
            families=families,
            goals=tuple(GOALS),
            tested=tested,
            states=STATES,
            shade=shade,
            sides=BEYOND,
            beyond=beyond,
            own=OWN,
            detection=DETECTION,
            measured={
                (pipeline, name)
                for summary in result.summaries.values()
                for pipeline, part in summary.by_pipeline.items()
                for name in (*part.own, *part.detection)
            },
            worst=worst,
            adapted=adapted(families),
            adaptive={attack.label for attack in result.attacks if attack.adaptive},
            observer=observer,
            epsilons={stack.name: epsilon_note(result, stack.name, observer) for stack in result.stacks},
        )
        return heat_map + _aborts(result)


def adapted(families: Mapping[str, Sequence[AttackInfo]]) -> str:
    """Which attacks computed against the defenses in place, and which families have none that did."""
    found = [attack.label for attacks in families.values() for attack in attacks if attack.adaptive]
    without = [family for family, attacks in families.items() if not any(one.adaptive for one in attacks)]
    said = (
        f"Adaptive, that is computed against each stack's own layers: {', '.join(found)}. " if found else ""
    )
    if not without:
        return said.strip()
    return (
        f"{said}No attack of {', '.join(without)} was adaptive: the same is done against every stack, and an adversary who "
        "knows the defense may reach more."
    )


@register("panel", "channel-matrix")
class ChannelHeatMap(Panel):
    """Whether each attack on the channel is noticed, and whether a key is still claimed."""

    title = "Detected? And is a key still claimed secure?"
    order = 20.0

    def applies(self, result: object) -> bool:
        """For matrices of the quantum channel."""
        return isinstance(result, ChannelMatrixResult)

    def render(self, result: ChannelMatrixResult) -> str:
        """The table and its legend."""
        intro = (
            "Each cell says what Alice and Bob notice, what key they claim, and whether that claim is true, which "
            "only the simulation can know: no more may be claimed than the adversary left of the raw key after "
            "error correction."
        )
        notes = {key: _noticed(cell) for key, cell in result.cells.items()}
        faces = fill("panels/faces.html.j2", result=result, states=CHANNEL_STATES, intro=intro, notes=notes)
        return faces + _aborts(result)


@register("panel", "delegation-matrix")
class DelegationHeatMap(Panel):
    """What the quantum server learns, and what the client accepts."""

    title = "What does the server learn, and what does the client accept?"
    order = 20.0

    def applies(self, result: object) -> bool:
        """For matrices of delegated sessions."""
        return isinstance(result, SessionMatrixResult)

    def render(self, result: SessionMatrixResult) -> str:
        """The table and its legend."""
        intro = (
            "Each cell says the worst that happened in any session. The scorer alone knows the client's pads and "
            "rounds."
        )
        notes = dict.fromkeys(result.cells, "")
        faces = fill(
            "panels/faces.html.j2", result=result, states=DELEGATION_STATES, intro=intro, notes=notes
        )
        return faces + _aborts(result)


def _aborts(result: Result[Any]) -> str:
    """What protocols stopped: one row for each cell in which they did, one column for each cause."""
    cells = [cell for cell in result.cells.values() if cell.aborts]
    causes = sorted({cause for cell in cells for cause in cell.aborts})
    rows = [
        (f"{cell.attack} against {cell.column}", *(cell.aborts.get(cause, 0) for cause in causes))
        for cell in cells
    ]
    return fill("panels/aborts.html.j2", table=table(("cell", *causes), rows), n=len(rows)) if rows else ""


def _noticed(cell: ChannelCell) -> str:
    if not cell.outcomes:
        return ""
    if not cell.detected:
        return "not detected"
    n = len(cell.outcomes)
    return "detected" if cell.detected == n else f"detected in {cell.detected} of {n}"

"""What a matrix crosses, and what became of it, in a few lines."""

from __future__ import annotations

from qflsec.base import register
from qflsec.lab.worlds.channel import ChannelMatrixResult
from qflsec.lab.worlds.delegation import SessionMatrixResult
from qflsec.lab.worlds.federation.results import MatrixResult
from qflsec.report.html import fill
from qflsec.report.panel import Panel
from qflsec.report.states import STATES

__all__ = ["ChannelOverview", "DelegationOverview", "Overview"]


@register("panel", "overview")
class Overview(Panel):
    """What attacks against defenses were measured, and in how many cells."""

    title = "Attacks against defenses"
    order = 10.0

    def applies(self, result: object) -> bool:
        """For matrices of the federation."""
        return isinstance(result, MatrixResult)

    def render(self, result: MatrixResult) -> str:
        """A sentence, and what failed."""
        states = [cell.state for cell in result.cells.values()]
        parts = [f"{states.count(state)} {words[1]}" for state, words in STATES.items() if state in states]
        text = (
            f"{_count(len(result.attacks), 'attack')} against {_count(len(result.stacks), 'stack')}, "
            f"{_count(len(result.seeds), 'seed')}: {', '.join(parts)}."
        )
        return fill("panels/overview.html.j2", text=text, notes=(), failures=result.failures)


@register("panel", "channel-overview")
class ChannelOverview(Panel):
    """What attacks on the quantum channel were made."""

    title = "Attacks on the quantum channel against countermeasures"
    order = 10.0

    def applies(self, result: object) -> bool:
        """For matrices of the quantum channel."""
        return isinstance(result, ChannelMatrixResult)

    def render(self, result: ChannelMatrixResult) -> str:
        """A sentence, and that the channel is simulated."""
        text = (
            f"{_count(len(result.rows) - 1, 'attack')} and the honest line against "
            f"{_count(len(result.columns), 'set')} of countermeasures, {_count(len(result.seeds), 'seed')}."
        )
        notes = (
            "Everything quantum is simulated, and all secrets come from the seed: the keys protect nothing.",
        )
        return fill("panels/overview.html.j2", text=text, notes=notes, failures=())


@register("panel", "delegation-overview")
class DelegationOverview(Panel):
    """What attacks by the quantum server were made."""

    title = "Attacks by the quantum server"
    order = 10.0

    def applies(self, result: object) -> bool:
        """For matrices of delegated sessions."""
        return isinstance(result, SessionMatrixResult)

    def render(self, result: SessionMatrixResult) -> str:
        """A sentence, and that the server is simulated."""
        text = (
            f"{_count(len(result.rows) - 1, 'attack')} and an honest server against "
            f"{_count(len(result.columns), 'client')}, {_count(len(result.seeds), 'seed')}."
        )
        notes = ("Everything quantum is simulated, and all pads come from the seed: they hide nothing.",)
        return fill("panels/overview.html.j2", text=text, notes=notes, failures=())


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"

"""The ledger: who learns what, by which proof."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qflsec.base import register
from qflsec.lab.worlds.federation.results import MatrixResult
from qflsec.report.accounts import Account, Compared, account_of, compared
from qflsec.report.html import fill
from qflsec.report.panel import Panel

__all__ = ["Ledger"]


@register("panel", "ledger")
class Ledger(Panel):
    """What each observer sees of each stack, and what bounds that."""

    title = "The ledger: who learns what, by which proof"
    order = 60.0

    def applies(self, result: object) -> bool:
        """For matrices of the federation."""
        return isinstance(result, MatrixResult)

    def render(self, result: MatrixResult) -> str:
        """The comparison, and one account for each observer."""
        accounts = {observer: _accounts(result, observer) for observer in result.observers}
        lines: dict[str, list[Compared]] = {}
        for line in compared(result):
            lines.setdefault(line.observer, []).append(line)
        return fill("panels/ledger.html.j2", result=result, accounts=accounts, lines=lines, epsilon=_epsilon)


def _accounts(result: MatrixResult, observer: str) -> list[tuple[list[str], Account]]:
    """The accounts for an observer, each with the stacks that it is true of."""
    found: list[tuple[list[str], Account]] = []
    for stack in result.stacks:
        rows = result.ledgers.get((stack.name, observer), ())
        account = account_of(rows)
        same = next((stacks for stacks, known in found if known == account), None)
        if same is not None:
            same.append(stack.name)
        elif rows:
            found.append(([stack.name], account))
    return found


def _epsilon(row: Mapping[str, Any]) -> str:
    """The epsilon and delta of a ledger row for people."""
    value = row.get("epsilon")
    if value is None:
        return ""
    text = "∞" if value == "infinity" else f"{float(value):.3g}"
    return f"ε = {text}, δ = {row.get('delta'):g}" if row.get("delta") is not None else f"ε = {text}"

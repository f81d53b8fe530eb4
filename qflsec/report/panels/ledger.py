"""The ledger: who learns what, by which proof."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from qflsec.base import register
from qflsec.lab.worlds.federation.results import MatrixResult
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
        """One account for each observer."""
        accounts = {
            (stack.name, observer): _account(result.ledgers.get((stack.name, observer), ()))
            for stack in result.stacks
            for observer in result.observers
        }
        return fill("panels/ledger.html.j2", result=result, accounts=accounts, epsilon=_epsilon)


def _account(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """What is seen, what bounds it, and what nothing bounds."""
    account: dict[str, list[dict[str, Any]]] = {"seen": [], "bounds": [], "open": []}
    for row in _grouped(rows):
        part = {"seen": "seen", "not covered": "open"}.get(row["guarantee"], "bounds")
        account[part].append(row)
    return account


def _grouped(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Ledger rows that differ in nothing but the pipeline as one row that names all of them."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        rest = {key: value for key, value in row.items() if key not in {"pipeline", "seeds"}}
        kept = found.setdefault(json.dumps(rest, sort_keys=True), {**rest, "pipelines": []})
        if row["pipeline"] not in kept["pipelines"]:
            kept["pipelines"].append(row["pipeline"])
    return list(found.values())


def _epsilon(row: Mapping[str, Any]) -> str:
    """The epsilon and delta of a ledger row for people."""
    value = row.get("epsilon")
    if value is None:
        return ""
    text = "∞" if value == "infinity" else f"{float(value):.3g}"
    return f"ε = {text}, δ = {row.get('delta'):g}" if row.get("delta") is not None else f"ε = {text}"

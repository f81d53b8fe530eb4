"""The clients one by one: who was hit, whose updates did not count, how long they were, and who took part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from markupsafe import Markup

from qflsec.base import register
from qflsec.lab.worlds.federation.results import MatrixResult, RunRow
from qflsec.report.html import fill, number, table
from qflsec.report.norms import norm_figures
from qflsec.report.panel import Panel

__all__ = ["Clients"]


@register("panel", "clients")
class Clients(Panel):
    """What the model is to each client with and without each attack, whose updates counted, and their norms."""

    title = "Client by client"
    order = 45.0

    def applies(self, result: object) -> bool:
        """Where runs of a federation say something of their clients."""
        return isinstance(result, MatrixResult) and any(run.clients for run in result.runs)

    def render(self, result: MatrixResult) -> str:
        """A table and figures for each pipeline without an attack, and for each attack that manipulates; of one seed."""
        runs = {(run.pipeline, run.attack, run.stack): run for run in result.runs if run.clients}
        seeds = sorted({run.seed for run in runs.values()})
        groups = dict.fromkeys((run.pipeline, run.attack) for run in runs.values())
        stacks = [stack.name for stack in result.stacks]
        parts = {
            f"{attack or 'without an attack'}, on pipeline “{pipeline}”": _table(
                pipeline, attack, stacks, runs
            )
            for pipeline, attack in groups
        }
        norms = any(run.clients.get("norms") for run in runs.values())
        return fill("panels/clients.html.j2", parts=parts, seeds=", ".join(map(str, seeds)), norms=norms)


def _table(
    pipeline: str, attack: str, stacks: Iterable[str], runs: Mapping[tuple[str, str, str], RunRow]
) -> Markup:
    found = {stack: runs[pipeline, attack, stack] for stack in stacks if (pipeline, attack, stack) in runs}
    corrupted = {client for run in found.values() for client in run.clients["corrupted"]}
    n_clients = max(len(run.clients["accuracy"]) for run in found.values())
    rows = []
    for client in range(n_clients):
        faces = [
            Markup("<br>").join(_face(client, run, runs.get((pipeline, "", stack)) if attack else None))
            for stack, run in found.items()
        ]
        rows.append((f"client\u00a0{client}{' (corrupted)' if client in corrupted else ''}", *faces))
    title = f"{attack or 'no attack'} on {pipeline}"
    norms = norm_figures(title, {stack: run.clients for stack, run in found.items()})
    return table(("client", *found), rows, label=f"Clients: {title}") + norms


def _face(client: int, run: RunRow, honest: RunRow | None) -> Iterator[Markup]:
    """Accuracy and what the attack took of it; the rounds in which the update was aggregated; why it was not."""
    facts = run.clients
    mine = _accuracy(facts, client)
    before = None if honest is None else _accuracy(honest.clients, client)
    moved = "" if mine is None or before is None else f" ({_signed(mine - before)})"
    yield Markup("<b>{}</b>{}").format(number(mine), moved)
    counted = sum(client in members for members in facts["counted"])
    yield Markup('<small class="iv">in {} of {} rounds</small>').format(counted, len(facts["counted"]))
    reasons = Counter(reason for _, who, reason in facts["dropped"] if who == client)
    for reason, times in reasons.items():
        yield Markup("<small>rejected {}: {}</small>").format(
            "once" if times == 1 else f"{times} times", reason
        )


def _accuracy(facts: Mapping[str, Any], client: int) -> float | None:
    known = facts["accuracy"]
    return known[client] if client < len(known) else None


def _signed(value: float) -> str:
    text = number(value)
    return text if text.startswith("−") else f"+{text}"

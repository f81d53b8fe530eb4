"""The ledger as the page reads it: accounts, proved epsilons, and equal accounts once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qflsec.lab.worlds.federation.results import MatrixResult
from qflsec.lab.worlds.federation.states import GOALS

__all__ = [
    "Account",
    "Bound",
    "Compared",
    "account_of",
    "compared",
    "epsilon_note",
    "main_observer",
    "proved_bounds",
]

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A proved epsilon.

    Attributes:
        epsilon: The smallest that is proved on the pipeline.
        delta: Its delta.
        unit: What it protects.
        adjacency: What neighbouring runs differ in.
        pipeline: The pipeline.
        vacuous: Whether it forbids nothing.
    """

    epsilon: float
    delta: float
    unit: str
    adjacency: str
    pipeline: str
    vacuous: bool


@dataclass(frozen=True, kw_only=True)
class Account:
    """What one observer learns of a stack.

    Attributes:
        seen: Rows that say what it sees.
        bounds: Rows that bound that.
        open: Rows that say what nothing bounds.
    """

    seen: tuple[dict[str, Any], ...]
    bounds: tuple[dict[str, Any], ...]
    open: tuple[dict[str, Any], ...]


def account_of(rows: Sequence[Row]) -> Account:
    """The rows of one stack and observer, those that differ in the pipeline alone as one."""
    parts: dict[str, list[dict[str, Any]]] = {"seen": [], "not covered": [], "bounds": []}
    for row in _grouped(rows):
        parts.get(row["guarantee"], parts["bounds"]).append(row)
    return Account(seen=tuple(parts["seen"]), bounds=tuple(parts["bounds"]), open=tuple(parts["not covered"]))


def _grouped(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Ledger rows that differ in nothing but the pipeline as one row that names all of them."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        rest = {key: value for key, value in row.items() if key not in {"pipeline", "seeds"}}
        kept = found.setdefault(json.dumps(rest, sort_keys=True), {**rest, "pipelines": []})
        if row["pipeline"] not in kept["pipelines"]:
            kept["pipelines"].append(row["pipeline"])
    return list(found.values())


def proved_bounds(result: MatrixResult, stack: str, observer: str, pipeline: str) -> tuple[Bound, ...]:
    """The smallest proved epsilon of each unit and adjacency: every proved upper bound holds, and so the smallest."""
    found: dict[tuple[str, str], Bound] = {}
    for row in result.ledgers.get((stack, observer), ()):
        value = row.get("epsilon")
        if row["pipeline"] != pipeline or row["bound"] != "upper bound" or value in {None, "infinity"}:
            continue
        bound = Bound(
            epsilon=float(value),
            delta=float(row.get("delta") or 0.0),
            unit=row["unit"],
            adjacency=row["adjacency"],
            pipeline=pipeline,
            vacuous=bool(row.get("vacuous")),
        )
        kept = found.get((bound.unit, bound.adjacency))
        if kept is None or bound.epsilon < kept.epsilon:
            found[bound.unit, bound.adjacency] = bound
    return tuple(found.values())


def main_observer(result: MatrixResult) -> str:
    """Against whom the matrix shows epsilons: the observer of its first attack on privacy, or else the first."""
    watching = [attack.threat for attack in result.attacks if attack.goal in GOALS["privacy"]]
    return next((name for name in (*watching, *result.observers) if name in result.observers), "")


def epsilon_note(result: MatrixResult, stack: str, observer: str) -> str:
    """The proved epsilon of a stack against an observer in a few words; the largest over the pipelines."""
    by_pipeline = {name: proved_bounds(result, stack, observer, name) for name in result.pipelines}
    units = [bound.unit for bounds in by_pipeline.values() for bound in bounds]
    if not units:
        return "no epsilon"
    unit = "example" if "example" in units else units[0]
    best = [
        min((bound for bound in bounds if bound.unit == unit), key=lambda bound: bound.epsilon, default=None)
        for bounds in by_pipeline.values()
    ]
    known = [bound for bound in best if bound is not None]
    largest = max(known, key=lambda bound: bound.epsilon)
    where = "" if len(known) == len(best) else f" on {', '.join(bound.pipeline for bound in known)} alone"
    vacuous = ", vacuous" if largest.vacuous else ""
    return f"ε ≤ {largest.epsilon:.3g} per {unit}{vacuous}{where}"


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One line of the comparison: what is proved against an observer, and for which stacks.

    Attributes:
        observer: The observer.
        stacks: The stacks of which all this is true.
        proof: Which kinds of guarantee, by which layers.
        epsilon: The proved epsilon in a few words.
        assumption: What the guarantees rest on.
    """

    observer: str
    stacks: tuple[str, ...]
    proof: str
    epsilon: str
    assumption: str


def compared(result: MatrixResult) -> tuple[Compared, ...]:
    """The comparison of all stacks for every observer; stacks for which it reads the same share a line."""
    lines = []
    for observer in result.observers:
        groups: dict[tuple[str, str, str], list[str]] = {}
        for stack in result.stacks:
            rows = result.ledgers.get((stack.name, observer), ())
            if rows:
                groups.setdefault(_summary(result, stack.name, observer, rows), []).append(stack.name)
        lines += [
            Compared(
                observer=observer, stacks=tuple(stacks), proof=proof, epsilon=epsilon, assumption=assumption
            )
            for (proof, epsilon, assumption), stacks in groups.items()
        ]
    return tuple(lines)


def _summary(result: MatrixResult, stack: str, observer: str, rows: Sequence[Row]) -> tuple[str, str, str]:
    bounds = [row for row in rows if row["guarantee"] not in {"seen", "not covered"}]
    layers: dict[str, list[str]] = {}
    for row in bounds:
        kind = layers.setdefault(row["guarantee"], [])
        if row["layer"] not in kind:
            kind.append(row["layer"])
    proof = "; ".join(f"{kind} ({', '.join(names)})" for kind, names in layers.items())
    assumptions = ", ".join(dict.fromkeys(row["assumption"] for row in bounds))
    return proof or "nothing", epsilon_note(result, stack, observer), assumptions or "–"

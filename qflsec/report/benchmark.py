"""The page of a benchmark as Markdown: made from its document alone, with no date and no place on it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from qflsec.accounting.statistics import mean_over_seeds
from qflsec.base import Score
from qflsec.lab.benchmark import Benchmark
from qflsec.lab.platforms import ROUNDS, PlatformRow
from qflsec.lab.tables import marked
from qflsec.lab.worlds.federation.results import Cell, MatrixResult
from qflsec.report.benchmark_findings import Survey, findings, plain_score

__all__ = ["TARGET_LOSS", "benchmark_page"]

TARGET_LOSS = 0.5
"""The mean training loss of honest clients that a run has to come down to."""

_SILENT = ("dtype", "gradient", "executor", "wrap")
_MARKS = {
    "ok": "",
    "too few seeds": "\u00b0",
    "no power": "\u00b7",
    "useless": "\u00d7",
    "lost": " lost",
}
_ADD = """## Add your system

Write your system as a pipeline, with a plugin where it brings code of its own, keep the data and the six attacks, and run it into a
store of its own:

```toml
name = "mine"
plugins = ["mine.py"]
seeds = [0, 1, 2, 3, 4]

[pipelines.mine]                 # data, partition and federation as in 'qflsec show survey'
layers = [{ name = "my-rule" }]  # or a topology, an execution, a model

[[attacks]]                      # label it by the attack and the system, as the survey does
name = "label-skew"
label = "label skew, mine"
pipeline = "mine"
threat = "server"
params = { rounds = 4 }
```

```
qflsec matrix run mine.toml
qflsec matrix diff docs/benchmark.json mine.sqlite       # rows that one of them lacks are listed as absent
qflsec benchmark pack mine.sqlite --out mine.json        # your rows, to ship
qflsec benchmark page mine.json --out mine.md            # this page for yours
```

A run of `survey` with another version is compared the same way: `qflsec matrix diff docs/benchmark.json survey.sqlite` pairs cells by
seed.
"""


def benchmark_page(found: Benchmark, *, source: str) -> str:
    """The page.

    Args:
        found: The benchmark.
        source: The name of its document, for the command on the page.
    """
    survey = Survey(result=found.result)
    reasons = _reasons(found.result)
    blocks = [
        *_head(found.result, source),
        "## Findings",
        *findings(survey),
        "## Systems",
        *_systems(survey),
        "## Convergence",
        *_convergence(survey),
        "## Communication",
        *_communication(survey),
        "## Privacy against utility",
        *_utility(survey),
        *_questions(survey, reasons),
        "## Why a cell has no number",
        "\n".join(f"{number}. {marked(reason)}" for reason, number in reasons.items()),
        *(_platforms(found.platforms) if found.platforms else ()),
        _ADD.strip(),
    ]
    return "\n\n".join(blocks) + "\n"


def _head(result: MatrixResult, source: str) -> Iterator[str]:
    cells = list(result.cells.values())
    states = {state: sum(cell.state == state for cell in cells) for state in ("incompatible", "blocked")}
    scored = sum(cell.advantage is not None for cell in cells)
    rest = len(cells) - scored - sum(states.values())
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    yield f"# Benchmark: {marked(result.name)}"
    yield marked(" ".join(result.description.split()))
    pack = f"qflsec benchmark pack {result.name}.sqlite --platforms {result.name} --out {source}"
    page = f"qflsec benchmark page {source} --out {source.removesuffix('.json')}.md"
    yield f"```\n{result.command or f'qflsec matrix run {result.name}'}\n{pack}\n{page}\n```"
    yield (
        f"{len(result.attacks)} rows by {len(result.stacks)} columns over {len(result.seeds)} seeds: {scored} cells have a number, "
        f"{states['incompatible']} are *incompatible* and {states['blocked']} *blocked*, "
        f"{rest} have no number for another reason; every reason is [below](#why-a-cell-has-no-number). Versions: {versions}."
    )
    yield (
        "An advantage is 0 where nothing is learned or broken, and 1 for a perfect attack; brackets are 95 % intervals over the seeds. "
        "\u00b0 marks a cell whose seeds are too few to tell whether the attack works; \u00b7 an attack that is not shown to work "
        "without a defense; \u00d7 a stack that leaves no useful model."
    )


# --- tables ---


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _systems(survey: Survey) -> Iterator[str]:
    rows = []
    for system in survey.systems:
        threats = {
            attack.threat_sentence
            for attack in survey.result.attacks
            if attack.pipeline == system and survey.goal(attack.name) == "privacy"
        }
        rows.append([f"`{system}`", marked(_words(survey, system)), marked("; ".join(sorted(threats)))])
    yield _table(
        ("system", f"what differs from `{survey.systems[0]}`", "the observer of the attacks on privacy"), rows
    )


def _words(survey: Survey, system: str) -> str:
    """What a pipeline has that the first one has not."""
    first, mine = (survey.result.pipelines[name] for name in (survey.systems[0], system))
    told = [_value(key, value, first.get(key)) for key, value in mine.items() if value != first.get(key)]
    return "; ".join(told) or "nothing"


def _value(key: str, value: Any, usual: Any) -> str:  # noqa: ANN401 - a configuration is heterogeneous
    words = key.replace("_", " ")
    if key == "client_executions":
        return f"{len(value)} clients run with {_short(next(iter(value.values())))}"
    if isinstance(value, dict):
        base = usual if isinstance(usual, dict) else {}
        return f"{words}: {_short({name: part for name, part in value.items() if part != base.get(name)})}"
    return f"{words}: {_short(value)}"


def _short(value: Any) -> str:  # noqa: ANN401 - a configuration is heterogeneous
    """A part of a configuration in words; what is not set, and how exact numbers are computed, is left out."""
    if isinstance(value, dict):
        told = {k: part for k, part in value.items() if part is not None and k not in {"name", *_SILENT}}
        parts = [f"{k.replace('_', ' ')} {_short(part)}" for k, part in told.items()]
        return ", ".join([*([str(value["name"])] if "name" in value else []), *parts])
    if isinstance(value, (list, tuple)):
        return " ".join(_short(part) for part in value)
    return str(value)


def _convergence(survey: Survey) -> Iterator[str]:
    yield (
        f"Rounds until the mean training loss of the honest clients is at most {TARGET_LOSS}, without attack and defense, and the "
        "accuracy on common test records after the last round. In a ring every visit is a step, so that a round is as many steps as "
        "there are clients."
    )
    rows = []
    for system in survey.systems:
        runs = [
            run
            for run in survey.result.runs
            if (run.pipeline, run.stack, run.attack) == (system, survey.reference, "")
        ]
        reached = [found for run in runs if (found := _rounds(run.train_loss)) is not None]
        rounds = (
            plain_score(_mean(reached, low=1.0), 1)
            if len(reached) == len(runs)
            else f"reached in {len(reached)} of {len(runs)} seeds"
        )
        if not runs:
            continue
        accuracy = survey.result.summaries[survey.reference].by_pipeline[system].accuracy
        rows.append([f"`{system}`", rounds, "" if accuracy is None else plain_score(accuracy, 3)])
    yield _table(("system", f"rounds to {TARGET_LOSS}", "accuracy"), rows)


def _rounds(losses: Sequence[float]) -> int | None:
    return next((index + 1 for index, loss in enumerate(losses) if loss <= TARGET_LOSS), None)


def _mean(values: Sequence[float], *, low: float = -math.inf, high: float = math.inf) -> Score:
    return mean_over_seeds(tuple(map(float, values)), within=(low, high)).score(
        name="mean", baseline=0.0, ideal=0.0
    )


def _communication(survey: Survey) -> Iterator[str]:
    yield "A whole run without defense. What codes would save, and what only some systems use, stands in the last column."
    rows = []
    for system in survey.systems:
        part = survey.result.summaries[survey.reference].by_pipeline.get(system)
        if part is None or not part.costs:
            continue
        costs = dict(part.costs)
        network, messages = costs.pop("network_bytes"), costs.pop("network_messages")
        costs = {
            name: cost for name, cost in costs.items() if name not in {"cpu_seconds", "record_gradients"}
        }
        others = "; ".join(f"{name.replace('_', ' ')} {cost.value:,.0f}" for name, cost in costs.items())
        rows.append([f"`{system}`", f"{network.value / 1e3:.1f}", f"{messages.value:,.0f}", others])
    yield _table(("system", "kB", "messages", "others"), rows)


def _utility(survey: Survey) -> Iterator[str]:
    yield (
        "The strongest attack of each kind beside the accuracy without attack, for every defense that runs. `open` says that a cell "
        "which could hold a stronger one cannot be told or made."
    )
    rows = []
    for system in survey.systems:
        for stack in (one.name for one in survey.result.stacks):
            part = survey.result.summaries[stack].by_pipeline.get(system)
            if part is None or part.accuracy is None:
                continue
            worst = []
            for goal in ("privacy", "robustness"):
                found = part.worst.get(goal)
                open_ = " (open)" if found is not None and found.unranked else ""
                worst.append(
                    "none shown"
                    if found is None
                    else f"{marked(found.attack.partition(',')[0])} {plain_score(found.advantage)}{open_}"
                )
            rows.append([f"`{system}`", f"`{stack}`", *worst, plain_score(part.accuracy, 3)])
    yield _table(("system", "defense", "worst on privacy", "worst on robustness", "accuracy"), rows)


# --- every cell ---


def _questions(survey: Survey, reasons: dict[str, int]) -> Iterator[str]:
    stacks = [stack.name for stack in survey.result.stacks]
    for question in survey.questions:
        info = next(attack for attack in survey.result.attacks if attack.name == question)
        label = survey.words(question)
        yield f"## {label[:1].upper()}{label[1:]}"
        yield f"`{question}`, on {survey.goal(question)}: {marked(info.idea)}"
        rows = []
        for system in survey.systems:
            cells = (survey.cell(question, system, stack) for stack in stacks)
            rows.append(
                [f"`{system}`", *("not asked" if cell is None else _face(cell, reasons) for cell in cells)]
            )
        yield _table(("system", *(f"`{stack}`" for stack in stacks)), rows)


def _face(cell: Cell, reasons: dict[str, int]) -> str:
    numbers = sorted({reasons[row.reason] for row in cell.per_seed if row.reason})
    because = f" ({', '.join(map(str, numbers))})" if numbers else ""
    if cell.advantage is None:
        return f"*{cell.state}*{because}"
    part = f", {cell.advantage.n} of {len(cell.per_seed)} seeds{because}" if numbers else ""
    return f"{plain_score(cell.advantage)}{_MARKS.get(cell.state, f' *{cell.state}*')}{part}"


def _reasons(result: MatrixResult) -> dict[str, int]:
    """Every reason with its number, in the order in which they are first met."""
    found = dict.fromkeys(row.reason for cell in result.cells.values() for row in cell.per_seed if row.reason)
    return {reason: number for number, reason in enumerate(found, start=1)}


# --- platforms ---


def _platforms(rows: Sequence[PlatformRow]) -> Iterator[str]:
    yield "## Platforms"
    yield (
        f"The first {ROUNDS} rounds of the star, from the same seeds, records and circuit, on other executors: how far the trained "
        "parameters end from those of the torch kernel in double precision (largest difference of a coordinate, radians), the share "
        "of test records that get the same answer, and processor time beside the torch kernel in single precision. PennyLane and "
        "Qiskit train by a loop that is written out; Qiskit's gradients are parameter shifts of state vectors."
    )
    lines = []
    for name in dict.fromkeys(row.platform for row in rows):
        mine = [row for row in rows if row.platform == name]
        worst, tolerance = max(row.moved for row in mine), mine[0].tolerance
        said = "moved by design" if tolerance is None else "yes" if worst <= tolerance else "**no**"
        lines.append(
            [
                name,
                f"{worst:.1e}",
                "none" if tolerance is None else f"{tolerance:.0e}",
                said,
                plain_score(_mean([row.answers for row in mine], low=0.0, high=1.0), 3),
                plain_score(_mean([row.ratio for row in mine], low=0.0), 1),
            ]
        )
    yield _table(("platform", "largest difference", "tolerance", "agrees", "same answers", "time"), lines)

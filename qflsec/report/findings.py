"""The findings of a matrix: five sentences, each of which says no more than its intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from qflsec.accounting.limits import membership_ceiling
from qflsec.accounting.predictions import Prediction, exchanged
from qflsec.accounting.roc import auc
from qflsec.accounting.statistics import mean_over_seeds
from qflsec.lab.worlds.federation.results import AttackInfo, Cell, MatrixResult, PipelineSummary
from qflsec.lab.worlds.federation.states import GOALS
from qflsec.report.accounts import Bound, proved_bounds
from qflsec.report.effects import Effect, effects, protects, reference, works
from qflsec.report.finding_words import NAMED, few, high_of, low_of, spread_of, value_of
from qflsec.report.html import number
from qflsec.report.sides import two_sides
from qflsec.report.words import count, listed, sentence

__all__ = ["Finding", "federation_findings"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One finding.

    Attributes:
        question: What it answers.
        sentence: The answer.
        details: What it rests on, a line each.
    """

    question: str
    sentence: str
    details: tuple[str, ...] = ()


def federation_findings(result: MatrixResult) -> tuple[Finding, ...]:
    """The five findings, in the order in which they are read."""
    found = effects(result)
    return (
        worst_attacks(result),
        what_moved(result, found),
        what_it_cost(result, found),
        contradicted(result),
        cannot_be_told(result),
    )


# --- the worst attack on each stack ---


def worst_attacks(result: MatrixResult) -> Finding:
    """For each goal the strongest attack that is shown to work, on each stack."""
    question = "Which attack is the worst on each stack?"
    scored = [cell for cell in result.cells.values() if cell.advantage is not None]
    if not scored:
        return Finding(question=question, sentence="No attack was scored yet.")
    table = {stack.name: _worst_of(result, stack.name) for stack in result.stacks}
    parts = []
    for goal in GOALS:
        hits = {name: worst[goal] for name, worst in table.items() if goal in worst}
        if hits:
            name, cell = max(hits.items(), key=lambda pair: value_of(pair[1]))
            parts.append(
                f"on {goal} an attack is shown to work against {len(hits)} of {len(table)} stacks, "
                f"and the largest mean is that of {cell.attack} against {name}, {spread_of(cell.advantage)}"
            )
        elif any(protects(attack) == goal for attack in result.attacks):
            parts.append(f"on {goal} no attack is shown to work, which proves no stack safe")
    details = tuple(f"{name}: {_worst_line(worst, result)}" for name, worst in table.items())
    return Finding(question=question, sentence=sentence(parts), details=details)


def _worst_of(result: MatrixResult, stack: str) -> dict[str, Cell]:
    """By goal, the attack with the largest mean among those that are shown to work."""
    found: dict[str, Cell] = {}
    for attack in result.attacks:
        cell, goal = result.cells[attack.label, stack], protects(attack)
        if works(cell) and (goal not in found or value_of(cell) > value_of(found[goal])):
            found[goal] = cell
    return found


def _worst_line(worst: Mapping[str, Cell], result: MatrixResult) -> str:
    goals = [goal for goal in GOALS if any(protects(attack) == goal for attack in result.attacks)]
    adaptive = {attack.label for attack in result.attacks if attack.adaptive}
    return "; ".join(
        f"{goal}: {worst[goal].attack}{' (adaptive)' * (worst[goal].attack in adaptive)} {spread_of(worst[goal].advantage)}"
        if goal in worst
        else f"{goal}: none is shown to work"
        for goal in goals
    )


# --- which defense moved an attack ---


def what_moved(result: MatrixResult, found: Sequence[Effect]) -> Finding:
    """The pairs in which a stack changes an attack, the surest first."""
    question = "Which defense moved an attack?"
    if reference(result) is None:
        return Finding(question=question, sentence="Nothing can be compared: no stack is without layers.")
    if not found:
        said = (
            "Nothing can be compared: no attack is shown to work without a defense and was scored with one."
        )
        return Finding(question=question, sentence=said)
    moved = sorted((effect for effect in found if effect.moved), key=lambda effect: -effect.at_least)
    if not moved:
        said = (
            f"None is shown to: of {count(len(found), 'comparison')} with the stack without layers, the interval "
            "of the paired difference includes 0, or the difference is below a tenth, in every one."
        )
        return Finding(question=question, sentence=said)
    lead = f"of {count(len(found), 'comparison')} with the stack without layers {len(moved)} {'shows' if len(moved) == 1 else 'show'} a change"
    words = few([_effect_words(effect) for effect in moved])
    details = tuple(
        f"{_effect_words(effect)}, from {spread_of(effect.before)} to {spread_of(effect.after)}"
        for effect in moved
    )
    return Finding(question=question, sentence=sentence([f"{lead}: {words}"]), details=details)


def _effect_words(effect: Effect) -> str:
    verb = "weakens" if effect.change.value < 0 else "strengthens"
    return f"{effect.stack} {verb} {effect.attack.label} by {spread_of(effect.change, absolute=True)}"


# --- what it cost ---


def what_it_cost(result: MatrixResult, found: Sequence[Effect]) -> Finding:
    """Accuracy, detection, bytes and processor time of each stack that weakened an attack, where it did."""
    question = "What did it cost?"
    none = reference(result)
    places = dict.fromkeys(
        (effect.stack, effect.attack.pipeline) for effect in found if effect.moved and effect.change.value < 0
    )
    if none is None or not places:
        said = "There is nothing to pay for: no defense is shown to weaken an attack."
        return Finding(question=question, sentence=said)
    costs = []
    for stack, pipeline in places:
        own, free = (result.summaries[name].by_pipeline.get(pipeline) for name in (stack, none))
        if own is not None and free is not None:
            costs.append((f"{stack} on {pipeline}", own, free))
    losses = {name: own.loss for name, own, _ in costs if own.loss is not None}
    losing = [
        f"{name} loses {spread_of(loss, 3)} of accuracy" for name, loss in losses.items() if loss.low > 0
    ]
    spared = {name: loss for name, loss in losses.items() if not loss.low > 0}
    parts = [few(losing)] if losing else []
    if spared:
        most = max(loss.high for loss in spared.values())
        limit = f", where more than {number(max(most, 0.0), 3)} is excluded" if math.isfinite(most) else ""
        parts.append(f"no loss of accuracy is shown for {few(list(spared))}{limit}")
    areas = {name: lost for name, own, _ in costs if (lost := own.detection_lost.get("aupr")) is not None}
    worse = [f"{name} loses {spread_of(lost, 3)}" for name, lost in areas.items() if lost.low > 0]
    if worse:  # which accuracy hides where the class is rare
        parts.append(f"of the AUPR of the class to detect {few(worse)}")
    ratios = {name: ratio for name, own, free in costs if math.isfinite(ratio := _ratio(own, free))}
    dear = [f"{name} sends {number(ratio)} times" for name, ratio in ratios.items() if ratio > 1.005]
    if dear:
        more = f" ({len(dear) - NAMED} more below)" if len(dear) > NAMED else ""
        parts.append(f"{listed(dear[:NAMED])} the bytes of no defense{more}")
    elif ratios:
        parts.append("none of them sends more bytes")
    if not parts:
        parts.append("that was not measured: no honest run completed with it and without")
    details = tuple(f"{name}: {_cost_line(own, free)}" for name, own, free in costs)
    return Finding(question=question, sentence=sentence(parts), details=details)


def _ratio(own: PipelineSummary, free: PipelineSummary) -> float:
    """Bytes on the network per byte without a defense."""
    spent, base = (one.costs.get("network_bytes") for one in (own, free))
    return spent.value / base.value if spent is not None and base is not None and base.value else math.nan


def _cost_line(own: PipelineSummary, free: PipelineSummary) -> str:
    parts = ["accuracy was not measured" if own.loss is None else f"accuracy lost {spread_of(own.loss, 3)}"]
    lost, left = own.detection_lost.get("aupr"), own.detection.get("aupr")
    if lost is not None and left is not None:
        parts.append(f"AUPR lost {spread_of(lost, 3)}, {spread_of(left)} left")
    ratio = _ratio(own, free)
    if math.isfinite(ratio):
        parts.append(f"{number(ratio, 2)} times the bytes")
    spent, base = (one.costs.get("cpu_seconds") for one in (own, free))
    if spent is not None and base is not None:
        once = "" if spent.high > spent.low and base.high > base.low else ", which was measured once"
        parts.append(f"{number(spent.value)} s of processor time for {number(base.value)} s{once}")
    return "; ".join(parts)


# --- which claim was contradicted ---


def contradicted(result: MatrixResult) -> Finding:
    """Proved epsilons, and secrecy of what an attack reads, against the membership attacks of their observer."""
    question = "Which claim was contradicted?"
    tests = [
        (attack, cell, f"epsilon {bound.epsilon:.3g}", ceiling(bound))
        for attack in result.attacks
        for stack in result.stacks
        if (cell := result.cells[attack.label, stack.name]).advantage is not None and _of_membership(cell)
        for bound in proved_bounds(result, stack.name, attack.threat, attack.pipeline)
        if bound.unit in _tested(attack, cell)
        and exchanged(bound.epsilon, bound.delta, bound.adjacency) is not None
    ] + [*_sealed(result)]
    # an interval that is not there exceeds nothing, whatever was measured
    silent = [test for test in tests if test[3] < _USEFUL and not math.isfinite(low_of(test[1]))]
    tests = [test for test in tests if test[3] >= _USEFUL or math.isfinite(low_of(test[1]))]
    meant = sum(allowed < 1 for *_, allowed in tests)
    broken = [test for test in tests if _exceeds(test[1], test[3], meant)]
    if broken:
        said = listed([_test_words(*test, meant) for test in broken[:NAMED]])
        return Finding(
            question=question,
            sentence=sentence([f"{said}: the proof, the code or the premise of the attack is wrong"]),
            details=tuple(_test_words(*test, meant) for test in broken),
        )
    useful = [test for test in tests if test[3] < _USEFUL]
    details = tuple(_test_words(*test, meant) for test in (*useful, *silent))
    if useful:
        met = "one proof was" if len(useful) == 1 else f"{len(useful)} proofs were"
        said = f"none: {met} put to the test by a membership attack of its observer, and none is shown to be exceeded"
        above = sum(value_of(cell) > allowed for _, cell, _, allowed in useful)
        said += f", although the mean of {count(above, 'attack')} lies above" if above else ""
        said += f"; of {len(silent)} more nothing can be told, as one seed has no interval" if silent else ""
    elif silent:
        met = (
            "the one proof that a membership attack meets"
            if len(silent) == 1
            else f"the {len(silent)} proofs that membership attacks meet"
        )
        above = sum(value_of(cell) > allowed for _, cell, _, allowed in silent)
        said = f"none can be told: for {met} there is one seed, which has no interval"
        said += f"; the value of {count(above, 'attack')} lies above what is allowed" if above else ""
    elif tests:
        what = f"all {len(tests)} proofs that membership attacks meet allow"
        what = "the one proof that a membership attack meets allows" if len(tests) == 1 else what
        said = f"none, and none could be: {what} everything"
    else:
        said = "none was put to the test: no membership attack meets a proved epsilon against its observer"
    return Finding(question=question, sentence=sentence([said]), details=details)


def ceiling(bound: Bound) -> float:
    """The advantage 2 AUC - 1 that a proved epsilon allows an attack that tells members from other records.

    :mod:`qflsec.accounting.predictions` says why; an adjacency that says nothing of records allows everything.
    """
    pair = exchanged(bound.epsilon, bound.delta, bound.adjacency)
    return 1.0 if pair is None else membership_ceiling(*pair)


def _sealed(result: MatrixResult) -> Iterator[tuple[AttackInfo, Cell, str, float]]:
    """Membership attacks that were scored although a proof keeps closed what they read."""
    for attack in result.attacks:
        for stack in result.stacks:
            cell = result.cells[attack.label, stack.name]
            told = next((row.predicted for row in cell.per_seed if row.predicted), None)
            if (
                cell.advantage is None
                or told is None
                or told["adjacency"] != "sealed"
                or not _of_membership(cell)
            ):
                continue
            proof = Prediction.from_dict(told)
            yield attack, cell, f"the secrecy of {proof.unit} under {proof.layer}", proof.advantage


_OF_RECORDS = frozenset({"example", "client", "person"})
"""Units whose guarantee holds for each of their records."""


def _tested(attack: AttackInfo, cell: Cell) -> frozenset[str]:
    """The units whose guarantee an attack puts to the test: a record set of a client is bounded by that of a client alone."""
    if any("member_scores" in row.raw for row in cell.per_seed):
        return _OF_RECORDS
    return frozenset({"client"}) if attack.family == "membership" else frozenset()


_USEFUL = 1 - 1e-4
"""A proof that allows more says nothing."""


def _exceeds(cell: Cell, allowed: float, tests: int) -> bool:
    """Whether the cell's mean advantage is above what is allowed, at 5 % over all tests together.

    A 95 % interval leaves 2.5 % to either side, which does for two tests; of more each has its share.

    Args:
        cell: A cell of a membership attack.
        allowed: What the proof allows.
        tests: How many proofs are put to the test.
    """
    if cell.advantage is None or not cell.advantage.low > allowed:
        return False
    return tests <= 2 or _lower_limit(cell, 1 - 2 * 0.05 / tests) > allowed


def _lower_limit(cell: Cell, confidence: float) -> float:
    """The lower end of the interval of the mean advantage over the seeds, at another confidence than 95 %."""
    rows = [row for row in cell.per_seed if row.status == "ok" and row.advantage is not None]
    areas = [auc(yes, no, confidence=confidence) for row in rows for yes, no in two_sides(row.raw)]
    ends = [(2 * area.low - 1, 2 * area.high - 1) for area in areas]
    values = [row.advantage for row in rows if row.advantage is not None]
    return mean_over_seeds(values, within=(-1.0, 1.0), records=ends, confidence=confidence).low


def _of_membership(cell: Cell) -> bool:
    return cell.state in {"ok", "no power", "too few seeds"} and all(
        two_sides(row.raw) for row in cell.per_seed if row.status == "ok"
    )


def _test_words(attack: AttackInfo, cell: Cell, proof: str, allowed: float, tests: int) -> str:
    verb = (
        "exceeds"
        if _exceeds(cell, allowed, tests)
        else "stays within"
        if high_of(cell) <= allowed
        else "is not shown to exceed"
        if math.isfinite(low_of(cell))
        else "cannot be held to"
    )
    return (
        f"{attack.label} against {cell.stack}, {spread_of(cell.advantage)}, {verb} the {number(allowed, 3)} that {proof} "
        f"allows {attack.threat}"
    )  # fmt: skip


# --- what cannot be told ---


def cannot_be_told(result: MatrixResult) -> Finding:
    """Cells that say nothing of a defense, and what it would take."""
    question = "What cannot be told yet?"
    cells = list(result.cells.values())
    parts = []
    details = []
    for state, words in _OPEN.items():
        these = [cell for cell in cells if cell.state == state]
        if these:
            parts.append(f"{count(len(these), 'cell')} {words[len(these) > 1]}{_needed(these, result)}")
            details += [
                f"{cell.attack} against {cell.stack}: {state}{_needed([cell], result)}" for cell in these
            ]
    for name, stack in result.summaries.items():
        for pipeline, summary in stack.by_pipeline.items():
            if summary.undecided:
                seeds = (
                    f", about {summary.seeds_to_decide} seeds would tell" if summary.seeds_to_decide else ""
                )
                details.append(f"whether {name} leaves a model of use on {pipeline}{seeds}")
    if not details:
        said = "Every cell is decided; what other attacks, data or seeds would show is not."
        return Finding(question=question, sentence=said)
    uses = sum(line.startswith("whether") for line in details)
    if uses:
        parts.append(f"whether a stack leaves a model of use is open in {count(uses, 'case')}")
    said = sentence([f"of {count(len(cells), 'cell')}, {parts[0]}", *parts[1:]])
    return Finding(question=question, sentence=said, details=tuple(details))


_OPEN: dict[str, tuple[str, str]] = {
    "no power": (
        "says nothing of a defense, since the attack does not work without one",
        "say nothing of a defense, since the attack does not work without one",
    ),
    "too few seeds": ("has too few seeds", "have too few seeds"),
    "useless": ("stands on a model that is of no use", "stand on a model that is of no use"),
    "failed": ("failed", "failed"),
    "pending": ("was not run", "were not run"),
}
"""States that leave a question open, in words for one cell and for several."""


def _needed(cells: Sequence[Cell], result: MatrixResult) -> str:
    seeds = [cell.seeds_to_decide for cell in cells if cell.seeds_to_decide]
    return f" (about {max(seeds)} in place of {len(result.seeds)} would decide)" if seeds else ""

"""How a page shows the state of a cell: a sign, a word, and what it means."""

from __future__ import annotations

import math

from qflsec.lab.worlds.federation.results import Cell

__all__ = ["BEYOND", "CHANNEL_STATES", "DELEGATION_STATES", "STATES", "beyond", "shade"]

States = dict[str, tuple[str, str, str]]

_UNFINISHED: States = {
    "failed": ("✕", "failed", "A trial ended in an error, which is shown."),
    "pending": ("…", "pending", "Not run yet."),
}

STATES: States = {
    "ok": (
        "",
        "measured",
        "The advantage with its 95 % interval; the more it stands out, the stronger the attack.",
    ),
    "no power": (
        "≈",
        "no power",
        "Without a defense the attack is shown to be no better than guessing: says nothing of any defense.",
    ),
    "too few seeds": (
        "?",
        "too few seeds",
        "The intervals decide nothing; the number is that of the seeds that would, if they spread as these do.",
    ),
    "blocked": (
        "⊘",
        "blocked",
        "What the attack needs does not exist in its view. Left out of every ranking.",
    ),
    "incompatible": ("∅", "incompatible", "The attack or the layers cannot work on this pipeline."),
    "useless": (
        "†",
        "useless",
        "The stack leaves no accuracy worth the name above chance: there is nothing left to attack. Never ranked.",
    ),
    "aborted": ("■", "aborted", "The protocol noticed something and stopped: a result, not an error."),
    "lost": (
        "▼",
        "lost",
        "Corrupted parties ended a run, which counts as an advantage of 1: nobody has a model.",
    ),
    **_UNFINISHED,
}

CHANNEL_STATES: States = {
    "false key": (
        "✕",
        "false key",
        "A key is claimed secure that the adversary knows: the worst that can happen.",
    ),
    "key holds": (
        "✓",
        "key holds",
        "A key is claimed, and it is no longer than what the adversary left secret.",
    ),
    "no key": ("■", "no key", "The run aborts: the adversary stopped it and learned no key."),
    "not applicable": ("∅", "not applicable", "The attack cannot be made on this line."),
    **_UNFINISHED,
}

DELEGATION_STATES: States = {
    "wrong result": (
        "✕",
        "wrong result",
        "A result is accepted that is off by more than shot noise and the tests' bound.",
    ),
    "leaks": ("◉", "leaks", "The server learned something beyond chance of angles, outcomes or rounds."),
    "aborted": ("■", "aborted", "Too many tests failed: the client released no result."),
    "within bound": ("≈", "within bound", "Accepted, and off by no more than the tests' bound allows."),
    "holds": ("✓", "holds", "Accepted, right within shot noise, and nothing was learned."),
    "not applicable": ("∅", "not applicable", "The attack cannot be made on this client."),
    **_UNFINISHED,
}


BEYOND: States = {
    "over": (
        "▲",
        "above 1",
        "More than what counts as a perfect attack: a model worse than guessing, for one.",
    ),
    "under": ("▽", "below 0", "Less than what an adversary gets who learned or did nothing."),
}


def beyond(value: float) -> str:
    """On which side an advantage lies outside 0 to 1, as it is shown: ``"over"``, ``"under"``, or neither."""
    shown = round(value, 2)
    return "over" if shown > 1 else "under" if shown < 0 else ""


def shade(cell: Cell) -> int:
    """The colour step of a measured cell, 0 (harmless) to 10 (perfect attack)."""
    if cell.advantage is None or not math.isfinite(cell.advantage.value):
        return 0
    return max(0, min(10, round(10 * cell.advantage.value)))

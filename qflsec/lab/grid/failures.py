"""Failures of a matrix in words: those that are alike once, with the user's own frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Failed", "told"]

_MOST_PLACES = 4
_MET_IN = ("the batch: ", "the attacked run: ", "the honest run: ", "failed: ")


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A piece of work that ended in an error of the program.

    Attributes:
        what: ``"trial"``, ``"run"`` or ``"ledger"``.
        where: Which, but for the seed, in words.
        seed: Its seed.
        reason: The error on one line.
        traceback: Its traceback, if one is kept.
    """

    what: str
    where: str
    seed: int
    reason: str
    traceback: str = ""

    @property
    def error(self) -> str:
        """The error, without the part of the trial that it was met in."""
        text = self.reason
        for prefix in _MET_IN:
            text = text.removeprefix(prefix)
        return text

    @property
    def kind(self) -> tuple[str, ...]:
        """What alike failures have in common: type and frames; a message may tell of the numbers of one trial."""
        frames = [line for line in self.traceback.splitlines() if line.startswith("  ")]
        return (self.error.partition(":")[0], *frames) if frames else (self.error,)


def told(failed: Iterable[Failed]) -> tuple[str, ...]:
    """Each kind of failure once: how often and where, the error, and its traceback.

    A run that failed is no failure beside that of the trials that were to be made on it.
    """
    kinds: dict[tuple[str, ...], list[Failed]] = {}
    for one in failed:
        alike = kinds.setdefault(one.kind, [])
        if not alike or alike[0].what == one.what:
            alike.append(one)
    return tuple(_words(alike) for alike in kinds.values())


def _words(alike: list[Failed]) -> str:
    first = alike[0]
    if len(alike) == 1:
        line = f"{first.where}, seed {first.seed}: {first.error}"
    else:
        places = [f"{place} ({n})" for place, n in Counter(one.where for one in alike).items()]
        more = len(places) - _MOST_PLACES
        where = ", ".join(places[:_MOST_PLACES]) + (f" and {more} more" if more > 0 else "")
        line = f"{len(alike)} {first.what}s failed alike: {first.error}; in {where}"
    return f"{line}\n{first.traceback.rstrip()}" if first.traceback else line

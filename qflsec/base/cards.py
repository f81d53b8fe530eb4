"""Cards: what every attack, defense and protocol says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qflsec.base.errors import ConfigError

__all__ = [
    "Assumption",
    "AttackCard",
    "Card",
    "CheckCard",
    "DefenseCard",
    "Family",
    "Goal",
    "Severity",
    "Source",
]

Goal = Literal["confidentiality", "integrity", "availability"]
Family = Literal[
    "membership", "inversion", "property", "poisoning", "backdoor", "evasion", "channel", "server"
]
Severity = Literal["error", "warning", "note"]
Assumption = Literal["information-theoretic", "computational", "trusted device", "heuristic", "none"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where an idea comes from.

    Attributes:
        paper: Authors, title and venue, or an identifier such as ``"arXiv:1906.08935"``.
        year: Year of publication.
        where: Equation, algorithm, section or table.
    """

    paper: str
    year: int
    where: str


@dataclass(frozen=True, kw_only=True)
class Card:
    """What every plugin states.

    Attributes:
        name: The registry name: lower case, words joined by hyphens.
        idea: One line.
        source: Where it comes from.
    """

    name: str
    idea: str
    source: Source


@dataclass(frozen=True, kw_only=True)
class AttackCard(Card):
    """An attack's card.

    Attributes:
        family: The family it belongs to.
        goal: What it breaks.
        needs: The kinds of items that its view must hold, as sentences for people.
        metric: The headline metric.
        baseline: The metric's value for an adversary who learned nothing.
        ideal: The metric's value for a perfect attack.
        adaptive: Whether it computes against the defenses in place, where the threat model grants them: it simulates the
            server, or trains shadow models behind them.
    """

    family: Family
    goal: Goal
    needs: tuple[str, ...]
    metric: str = "advantage"
    baseline: float = 0.0
    ideal: float = 1.0
    adaptive: bool = False


@dataclass(frozen=True, kw_only=True)
class DefenseCard(Card):
    """A defense's or protocol's card.

    Attributes:
        claim: What it promises, in one sentence.
        assumption: What the promise rests on.
        hides: What it hides from whom, or ``"nothing"``.
        does_not: What it does not do, a short sentence each.
        cost: What it costs.
    """

    claim: str
    assumption: Assumption
    hides: str
    does_not: tuple[str, ...]
    cost: str

    def __post_init__(self) -> None:
        _require_sentences(self.does_not, "does_not", self.name)


@dataclass(frozen=True, kw_only=True)
class CheckCard(Card):
    """The card of a check of somebody's pipeline.

    Attributes:
        title: What its finding says, in a few words.
        severity: How bad that is: an error refutes what the pipeline is for, a warning may, a note is to be known.
        proves: What a finding proves.
        cannot: What a pipeline without a finding is not cleared of, a short sentence each.
        consequence: What a finding means, and for whom.
        remedy: How to mend it.
    """

    title: str
    severity: Severity
    proves: str
    cannot: tuple[str, ...]
    consequence: str
    remedy: str

    def __post_init__(self) -> None:
        _require_sentences(self.cannot, "cannot", self.name)


def _require_sentences(given: object, field: str, card: str) -> None:
    """Refuse one text in the place of a tuple of them: a plugin need not be typed."""
    if not isinstance(given, tuple):
        raise ConfigError(
            f"{field!r} of card {card!r} is one text",
            got=repr(given),
            expected="a tuple of sentences",
            fix=f"write {field}=({given!r},)",
        )

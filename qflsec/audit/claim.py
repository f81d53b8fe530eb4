"""What a claim is: a sentence of the pipeline's author that can be tested, and what came of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

from qflsec.audit.check import Bench, NotApplicable
from qflsec.audit.outcome import Figure, Judgement, Verdict
from qflsec.audit.parts import Part
from qflsec.base import ConfigError, find, names

__all__ = ["Claim", "Ruling", "claim_from_config"]

_P = TypeVar("_P", bound=Part)


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """What a test says of a claim.

    Attributes:
        judgement: Whether it holds.
        why: What decides it, a sentence.
        ceiling: What the test could have shown at most, a sentence; empty where it has no such end.
        evidence: The numbers behind it.
    """

    judgement: Judgement
    why: str
    ceiling: str = ""
    evidence: Mapping[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Claim(ABC):
    """A claim of one kind; its fields are the keys of its table in the claims file.

    Attributes:
        of: The part that it is about, by its name in the pipeline; the only one of its kind where empty.
    """

    kind: ClassVar[str]
    of: str = ""

    @property
    @abstractmethod
    def sentence(self) -> str:
        """The claim as a sentence."""

    @abstractmethod
    def test(self, parts: Sequence[Part], bench: Bench) -> Ruling:
        """Try to refute it.

        Args:
            parts: The parts of the pipeline.
            bench: Streams and the time that is left.
        """

    def verdict(self, parts: Sequence[Part], bench: Bench) -> Verdict:
        """What the audit says of it."""
        bench.seed_the_pipeline()
        try:
            found = self.test(parts, bench)
        except NotApplicable as reason:
            return self.untested(str(reason))
        return Verdict(
            claim=self.sentence,
            kind=self.kind,
            judgement=found.judgement,
            why=found.why,
            ceiling=found.ceiling,
            evidence=found.evidence,
        )

    def untested(self, why: str) -> Verdict:
        """The verdict where nothing could be run."""
        return Verdict(claim=self.sentence, kind=self.kind, judgement="not tested", why=why)

    def about(self, parts: Sequence[Part], kind: type[_P]) -> _P | Ruling:
        """The part that the claim is about, or that it was not tested."""
        found = [part for part in parts if isinstance(part, kind) and self.of in {"", part.name}]
        if len(found) == 1:
            return found[0]
        word = kind.__name__
        if not found:
            why = f"the pipeline has no part of the kind {word}{f' called {self.of!r}' if self.of else ''}"
        else:
            why = f"the pipeline has several of the kind {word}: say which with of = {found[0].name!r}"
        return Ruling(judgement="not tested", why=why)


def claim_from_config(table: Mapping[str, Any]) -> Claim:
    """A claim from its table.

    Raises:
        ConfigError: There is no such kind, or a key is unknown, missing or of the wrong type.
    """
    keys = dict(table)
    name = keys.pop("kind", None)
    if not isinstance(name, str) or name not in names("claim"):
        raise ConfigError(
            "no such kind of claim", got=repr(name), expected=", ".join(names("claim")), fix="set 'kind'"
        )
    made: type[Claim] = find("claim", name)
    known = {one.name: one for one in fields(made)}
    strangers = sorted(set(keys) - set(known))
    if strangers:
        raise ConfigError(
            f"a claim of kind {name!r} has no key {strangers[0]!r}", expected=", ".join(sorted(known))
        )
    for key, value in keys.items():
        wanted = {"float": (int, float), "int": (int,), "str": (str,), "bool": (bool,)}[str(known[key].type)]
        if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
            raise ConfigError(
                f"{key!r} of a claim of kind {name!r}", got=repr(value), expected=f"a {known[key].type}"
            )
    try:
        return made(**keys)
    except TypeError as error:
        raise ConfigError(
            f"a claim of kind {name!r} lacks a key", got=str(error).rpartition(":")[2].strip()
        ) from None

"""Stages: what a party may be asked for, each once and in order.

A method of a party is a stage of its protocol. Whoever calls it twice, or before a stage that it rests on, gets an
abort and changes nothing: a server that hands out a second set of qubits, asks for a second opening of shares or has
a pad used twice would learn what the protocol hides. A stage that fails is spent, and ends the pass it belongs to::

    class Client(Staged):
        @stage(opens=True, each="round_index")
        def commit(self, round_index: int) -> bytes: ...

        @stage("commit")
        def receive(self, qubits: Qubits) -> bytes: ...
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from operator import attrgetter
from typing import Any, Concatenate, ParamSpec, TypeVar

from qflsec.base import ProtocolAbort

__all__ = ["OutOfOrder", "Staged", "stage"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_S = TypeVar("_S", bound="Staged")


class OutOfOrder(ProtocolAbort):
    """A party was asked for a stage that is not due; nothing has changed."""


@dataclass(kw_only=True, eq=False)
class _Span:
    """The stages of a party's life, or of one pass: for which items each was begun and passed."""

    begun: dict[str, set[Any]] = field(default_factory=dict)
    passed: dict[str, set[Any]] = field(default_factory=dict)
    kinds: dict[str, str | None] = field(default_factory=dict)


@dataclass(kw_only=True, eq=False)
class _Record:
    """What a party has done, and the last item of each stage that opens a pass."""

    life: _Span = field(default_factory=_Span)
    now: _Span = field(default_factory=_Span)
    last: dict[str, Any] = field(default_factory=dict)


class Staged:
    """A party whose public methods are stages."""

    @property
    def _record(self) -> _Record:
        record: _Record = self.__dict__.setdefault("_stage_record", _Record())
        return record

    def _forget(self) -> None:
        """Drop the secrets of a pass in which a stage failed; nothing by default."""

    def _require(self, name: str, items: Iterable[Any]) -> None:
        """Refuse to go on before a stage was passed for all of these items.

        Raises:
            OutOfOrder: One of them is missing.
        """
        record = self._record
        missing = set(items) - record.now.passed.get(name, set()) - record.life.passed.get(name, set())
        if missing:
            of = "" if missing == {None} else f" of {', '.join(sorted(map(str, missing)))}"
            raise OutOfOrder(f"{_who(self)} was asked to go on out of order", expected=f"{name!r}{of} first")


@dataclass(frozen=True, kw_only=True)
class _Stage:
    name: str
    after: tuple[str, ...]
    each: str | None
    opens: bool
    until: str | None

    def begin(self, party: Staged, item: Any) -> _Span:  # noqa: ANN401 - a round, a node, a party
        """Note that the stage begins; the span that it belongs to.

        Raises:
            OutOfOrder: It was begun before, or no stage that it rests on was passed.
        """
        record = party._record  # noqa: SLF001 - the other half of this class
        spans = (record.now, record.life)
        if self.until is not None and any(span.begun.get(self.until) for span in spans):
            raise self._refusal(party, item, f"after {self.until!r}")
        if self.opens:
            again = item is not None and self.name in record.last and item <= record.last[self.name]
        else:
            again = any(item in span.begun.get(self.name, ()) for span in spans)
        if again:
            later = self.opens and item != record.last[self.name]
            raise self._refusal(party, item, f"after that of {record.last[self.name]}" if later else "twice")
        rests_on = [span for span in spans if any(self._holds(span, name, item) for name in self.after)]
        if self.after and not rests_on:
            raise self._refusal(party, item, "out of order")
        if self.opens:
            record.last[self.name], record.now = item, _Span()
        span = record.now if self.opens or spans[0] in rests_on else record.life
        span.begun.setdefault(self.name, set()).add(item)
        return span

    def finish(self, span: _Span, item: Any) -> None:  # noqa: ANN401 - see above
        """Note that the stage was passed."""
        span.passed.setdefault(self.name, set()).add(item)
        span.kinds[self.name] = self.each

    def _holds(self, span: _Span, name: str, item: Any) -> bool:  # noqa: ANN401 - see above
        """Whether a stage was passed: for the same item, where both are for items of one kind."""
        passed = span.passed.get(name, ())
        return bool(passed) and (self.each is None or span.kinds[name] != self.each or item in passed)

    def _refusal(self, party: Staged, item: Any, fault: str) -> OutOfOrder:  # noqa: ANN401 - see above
        what = self.name.strip("_").replace("_", " ")
        of = (
            ""
            if item is None
            else f" of {(self.each or '').rpartition('.')[2].removesuffix('_index')} {item}"
        )
        return OutOfOrder(f"{_who(party)} was asked for the stage '{what}'{of} {fault}")


def stage(
    *after: str,
    each: str | None = None,
    opens: bool = False,
    until: str | None = None,
    name: str | None = None,
) -> Callable[[Callable[Concatenate[_S, _P], _R]], Callable[Concatenate[_S, _P], _R]]:
    """Make a method a stage.

    Args:
        after: Stages of which one must have been passed; for the same item, where both are for items of one kind.
        each: The argument whose values are items: the stage is passed once for each. Those of a stage that opens a
            pass, such as rounds, must rise. ``"header.round"`` is an attribute of an argument.
        opens: Whether it begins a new pass: the stages that rest on it can then be passed again.
        until: A stage after whose beginning this one is refused.
        name: The name under which it counts, the method's by default: of several with one name, one can be passed.
    """

    def guard(method: Callable[Concatenate[_S, _P], _R]) -> Callable[Concatenate[_S, _P], _R]:
        called = _Stage(name=name or method.__name__, after=after, each=each, opens=opens, until=until)
        item_of = _reader(method, each)

        @wraps(method)
        def guarded(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
            item = item_of(args, kwargs)
            span = called.begin(self, item)
            record = self._record
            try:
                result = method(self, *args, **kwargs)
            except OutOfOrder:
                span.begun[called.name].discard(item)
                raise
            except Exception:
                if span is record.now:
                    record.now.passed.clear()
                    self._forget()
                raise
            called.finish(span, item)
            return result

        guarded.stage = called  # type: ignore[attr-defined]
        return guarded

    return guard


def _reader(
    method: Callable[..., Any], each: str | None
) -> Callable[[tuple[Any, ...], Mapping[str, Any]], Any]:
    """How the item of a call is found among its arguments."""
    if each is None:
        return lambda _args, _kwargs: None
    argument, _, attribute = each.partition(".")
    place = list(inspect.signature(method).parameters).index(argument) - 1
    read = attrgetter(attribute) if attribute else _same

    def item(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:  # noqa: ANN401 - see above
        return read(args[place] if place < len(args) else kwargs[argument])

    return item


def _same(value: Any) -> Any:  # noqa: ANN401 - see above
    return value


def _who(party: Staged) -> str:
    return str(getattr(party, "party", type(party).__name__))

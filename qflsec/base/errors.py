"""Errors that a user can mend.

Every error says what is wrong, what was got, what was expected and how to mend it, on one line.
The command line prints a :class:`QflsecError` without a traceback; anything else is a bug and keeps
its traceback.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self, TypeVar, cast

__all__ = [
    "BackendError",
    "ConfigError",
    "DataError",
    "IncompatibleAttack",
    "IncompatibleStack",
    "LostRound",
    "MissingExtra",
    "Mistakes",
    "ProtocolAbort",
    "QflsecError",
    "StoreError",
    "Together",
    "UnknownName",
    "UpdateError",
    "blaming",
    "cause_in_words",
]

_T = TypeVar("_T")


class QflsecError(Exception):
    """A mistake that the user can mend, told on one line.

    Args:
        what: What is wrong, as a sentence without a full stop.
        got: The offending value, if there is one.
        expected: What would have been accepted.
        fix: How to mend it.
    """

    def __init__(
        self,
        what: str,
        *,
        got: object | None = None,
        expected: object | None = None,
        fix: str | None = None,
    ) -> None:
        parts = [what]
        if got is not None:
            parts.append(f"got {got}")
        if expected is not None:
            parts.append(f"expected {expected}")
        if fix is not None:
            parts.append(fix)
        self.what = what
        self.got = None if got is None else str(got)
        self.expected = None if expected is None else str(expected)
        self.fix = fix
        super().__init__("; ".join(" ".join(part.split()) for part in parts))

    def within(self, path: str) -> QflsecError:
        """The same error with the path of a table in front."""
        return type(self)(f"{path}: {self.what}", got=self.got, expected=self.expected, fix=self.fix)

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from the four parts, so that the error survives a process boundary."""
        return (_rebuild, (type(self), self.what, self.got, self.expected, self.fix))


def _rebuild(
    kind: type[QflsecError], what: str, got: str | None, expected: str | None, fix: str | None
) -> QflsecError:
    return kind(what, got=got, expected=expected, fix=fix)


class ConfigError(QflsecError):
    """A specification, preset or argument that cannot be used."""


class DataError(QflsecError):
    """Data that cannot be read, split or partitioned as asked."""


class Mistakes(ConfigError, DataError):
    """Several mistakes of one document or of one table of data, each on a line of its own.

    Args:
        parts: The mistakes.
    """

    def __init__(self, parts: Sequence[QflsecError]) -> None:
        super().__init__(f"{len(parts)} mistakes")
        self.parts = tuple(parts)

    def __str__(self) -> str:
        """A line for each."""
        return "\n".join(str(part) for part in self.parts)

    def within(self, path: str) -> QflsecError:
        """The same mistakes with the path of a table in front of each."""
        return Mistakes([part.within(path) for part in self.parts])

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from the parts."""
        return (Mistakes, (self.parts,))


class Together:
    """Collects the mistakes of the parts of a document, so that all are told at once.

    Used as a context; what a part that failed gives is None, and the context ends in the mistakes, each told once::

        with Together() as each:
            parts = [each(read, table) for table in tables]

    Args:
        most: How many are told; all by default.
    """

    def __init__(self, *, most: int | None = None) -> None:
        self._found: list[QflsecError] = []
        self._most = most

    def __enter__(self) -> Self:
        return self

    def __call__(self, function: Callable[..., _T], *arguments: object) -> _T:
        """What a function gives; where it fails, its mistake is kept, and the context cannot be left with the rest."""
        try:
            return function(*arguments)
        except Mistakes as several:
            self._found += several.parts
        except QflsecError as mistake:
            self._found.append(mistake)
        return cast("_T", None)

    @property
    def failed(self) -> bool:
        """Whether there is a mistake so far."""
        return bool(self._found)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._found:
            told = list({str(mistake): mistake for mistake in self._found}.values())[: self._most]
            raise told[0] if len(told) == 1 else Mistakes(told)


class UpdateError(QflsecError):
    """An update of the wrong shape, or one that is not finite."""


class StoreError(QflsecError):
    """A result store that is corrupt, locked or of another version."""


class BackendError(QflsecError):
    """An execution backend that is missing or failed to start."""


class MissingExtra(QflsecError):
    """An optional dependency that is not installed."""


class UnknownName(QflsecError):
    """A name that is not in the registry."""


class IncompatibleStack(QflsecError):
    """Layers that cannot work together in this order; the matrix shows the cell as incompatible."""


class IncompatibleAttack(QflsecError):
    """An attack that cannot be made on a pipeline; the matrix shows the cell as incompatible."""


class ProtocolAbort(QflsecError):
    """A protocol that stopped because a check failed: a result, not an error of the program.

    Args:
        what: As of every error.
        got: As of every error.
        expected: As of every error.
        fix: As of every error.
        caused_by: The party whose own authenticated words prove that it broke the protocol; None where that cannot
            be known. What is missing or not authentic proves nothing: whoever should have sent it, whoever carried
            it and the network can all be behind it, and whoever is named in ``what`` may be the victim.

    Attributes:
        caused_by: That party's name, such as ``"client:3"``.
    """

    def __init__(
        self,
        what: str,
        *,
        got: object | None = None,
        expected: object | None = None,
        fix: str | None = None,
        caused_by: object | None = None,
    ) -> None:
        super().__init__(what, got=got, expected=expected, fix=fix)
        self.caused_by = None if caused_by is None else str(caused_by)

    @property
    def told(self) -> str:
        """The error, and who caused it."""
        return f"{self}; {cause_in_words(self.caused_by)}"

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from all parts."""
        return (_rebuild_abort, (type(self), self.what, self.got, self.expected, self.fix, self.caused_by))


def cause_in_words(caused_by: str | None) -> str:
    """Who caused an abort, or that it cannot be known."""
    return "who caused it cannot be known" if caused_by is None else f"caused by {caused_by}"


class LostRound(ProtocolAbort):
    """A round that has no result, and on which no later one rests: the run goes on with the model that it had."""


@contextmanager
def blaming(party: object) -> Iterator[None]:
    """Whatever is wrong inside with words that a party has authenticated is that party's doing.

    Args:
        party: Whose words were found authentic before.
    """
    try:
        yield
    except ProtocolAbort as abort:
        abort.caused_by = abort.caused_by or str(party)
        raise


def _rebuild_abort(
    kind: type[ProtocolAbort],
    what: str,
    got: str | None,
    expected: str | None,
    fix: str | None,
    caused_by: str | None,
) -> ProtocolAbort:
    return kind(what, got=got, expected=expected, fix=fix, caused_by=caused_by)

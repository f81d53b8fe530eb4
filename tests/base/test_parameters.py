"""What docstrings say of parameters is found, whoever says it."""

from __future__ import annotations

from dataclasses import dataclass

from qflsec.base.parameters import described, plain, summary, units


@dataclass(frozen=True, kw_only=True)
class Base:
    """A base.

    Attributes:
        first: What the base
            says of it, over two lines.
        second: The base's.
    """

    first: int = 1
    second: float = 2.0


@dataclass(frozen=True, kw_only=True)
class Own(Base):
    """An own class: of :class:`~qflsec.base.Score`
    and ``code``.

    More of it.

    Args:
        second: Its own; see :func:`x`.
        third, fourth: Both.

    Units:
        second: dB, measured; third: radians.

    Raises:
        ConfigError: It is out of range.
    """

    third: float = 3.0
    fourth: float = 4.0


@dataclass(frozen=True, kw_only=True)
class Silent(Own):
    fifth: int = 5


def function(*, a: int, b: str = "x") -> None:
    """It does something.

    Args:
        a: A number. Two
            sentences.
        b (optional): A text.
        **more: The rest.

    Returns:
        c: Nothing of the kind.
    """


def test_fields_are_described_by_their_class_or_its_bases() -> None:
    said = {
        "first": "What the base says of it, over two lines.",
        "second": "Its own; see `x`.",
        "third": "Both.",
        "fourth": "Both.",
    }
    assert described(Own) == described(Silent) == said
    assert described(Base)["second"] == "The base's."


def test_arguments_of_functions() -> None:
    assert described(function) == {"a": "A number. Two sentences.", "b": "A text.", "more": "The rest."}


def test_units_belong_to_names() -> None:
    assert units(Silent) == {"second": "dB, measured", "third": "radians"}


def test_a_summary_is_the_first_paragraph_without_mark_up() -> None:
    assert summary(Own) == "An own class: of `Score` and `code`."
    assert summary(Silent) == ""
    assert plain("``a`` of :mod:`b.c`") == "`a` of `c`"

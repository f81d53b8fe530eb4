"""Cards and configurations: what a plugin says of itself, and that it is a value."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

from qflsec.base import Assumption, AttackCard, DefenseCard, Family, Goal

__all__ = ["card_faults", "value_faults"]

_NAME = r"[a-z0-9]+(-[a-z0-9]+)*"
_MOST_WORDS = 25
_YEARS = range(1920, 2031)


def card_faults(card: object, name: str) -> Iterator[str]:
    """What is wrong with the card of an attack or a layer that is registered under a name."""
    if not isinstance(card, AttackCard | DefenseCard):
        yield f"the card is no AttackCard or DefenseCard but {type(card).__name__}"
        return
    if card.name != name:
        yield f"the card says {card.name!r}, but {name!r} is registered"
    if not re.fullmatch(_NAME, name):
        yield f"the name {name!r} is not lower-case words joined by hyphens"
    for field in dataclasses.fields(card):
        if getattr(card, field.name) in (None, "", ()):
            yield f"{field.name!r} of the card is empty"
    if "\n" in card.idea:
        yield "the idea is not one line"
    source = card.source
    if not source.paper.strip() or not source.where.strip() or source.year not in _YEARS:
        yield f"the source lacks a paper, a place in it or a year that can be: {source}"
    yield from _attack_faults(card) if isinstance(card, AttackCard) else _defense_faults(card)


def _attack_faults(card: AttackCard) -> Iterator[str]:
    for name, known in (("family", get_args(Family)), ("goal", get_args(Goal))):
        if getattr(card, name) not in known:
            yield f"{name!r} is {getattr(card, name)!r}, and none of {', '.join(known)}"
    if not card.ideal > card.baseline:
        yield "the ideal is not above the baseline"


def _defense_faults(card: DefenseCard) -> Iterator[str]:
    if card.assumption not in get_args(Assumption):
        yield f"the assumption is {card.assumption!r}, and none of {', '.join(get_args(Assumption))}"
    # what a defense does not do must be read
    for sentence in card.does_not:
        if not re.fullmatch(r"[A-Z].*\.", sentence) or len(sentence.split()) > _MOST_WORDS:
            yield f"{sentence!r} of 'does_not' is no sentence of at most {_MOST_WORDS} words"


def value_faults(thing: Any, make: Callable[[Mapping[str, Any]], object]) -> Iterator[str]:  # noqa: ANN401
    """Why an object is no frozen configuration that can be sent to a worker and written down.

    Args:
        thing: The object.
        make: Makes it from its configuration.
    """
    params = getattr(type(thing), "__dataclass_params__", None)
    if params is None or not params.frozen:
        yield "it is no frozen dataclass"
        return
    copy = pickle.loads(pickle.dumps(thing))  # noqa: S301 - what was pickled here
    if copy != thing:
        yield "what comes back from pickle is not equal to it"
    elif hash(copy) != hash(thing):
        yield "what comes back from pickle has another hash"
    config = json.loads(json.dumps(thing.to_config()))
    if make(config) != thing:
        yield f"its configuration {config} makes another object"

"""Attacks as they are written on a command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from qflsec.base import ConfigError, find, names
from qflsec.lab.grid.schema import check

__all__ = ["attack_from_words"]

A = TypeVar("A")


def attack_from_words(text: str, kind: type[A], *, words: str, aliases: Mapping[str, str] | None = None) -> A:
    """An attack such as ``intercept-resend:0.2`` or ``wrong-angles:fraction=0.5,offset=0.7``.

    Args:
        text: The attack's name; after a colon its parameters, of which the first needs no name.
        kind: What the attack must be.
        words: Such an attack, in words.
        aliases: Short names.

    Raises:
        UnknownName: There is no such attack.
        ConfigError: It is none of that kind, or a parameter is impossible.
    """
    first, _, rest = text.partition(":")
    name = (aliases or {}).get(first, first)
    found = find("attack", name)
    if not issubclass(found, kind):
        known = [other for other in names("attack") if issubclass(find("attack", other), kind)]
        raise ConfigError(
            f"this attack is not {words}", got=repr(name), expected=f"one of {', '.join(sorted(known))}"
        )
    values = _values(rest, [one.name for one in fields(found)], name)
    attack: A = found(**check(found, values, f"--attack {name}"))
    return attack


def _values(text: str, known: list[str], name: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for number, part in enumerate(part for part in text.split(",") if part):
        key, equals, value = part.partition("=")
        if not equals:
            if number or not known:
                raise ConfigError(
                    f"--attack {name}: a parameter without a name",
                    got=repr(part),
                    expected=f"NAME=VALUE with a name out of {', '.join(known)}" if known else "no parameter",
                )
            key, value = known[0], part
        values[key.strip()] = _value(value.strip())
    return values


def _value(text: str) -> float | str | bool:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text

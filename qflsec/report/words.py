"""Words of the findings."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["count", "listed", "sentence"]


def count(n: int, thing: str) -> str:
    """A number of things."""
    return f"{n} {thing}{'' if n == 1 else 's'}"


def listed(parts: Sequence[str]) -> str:
    """One or more parts as a list."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def sentence(parts: Sequence[str]) -> str:
    """Parts as one sentence; a name such as ``dp-sgd`` at its start stays as it is written."""
    text = "; ".join(parts)
    word = text.partition(" ")[0].rstrip(",:;")
    return f"{text[:1].upper() if word.isalpha() else text[:1]}{text[1:]}."

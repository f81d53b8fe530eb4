"""Warnings that a user reads once, however often and in however many processes their cause is met."""

from __future__ import annotations

import warnings

__all__ = ["Notice", "forget", "notice", "silence"]


class Notice(UserWarning):
    """A warning that is meant for the user, who needs no line of ours beside it."""


_said: set[str] = set()
_silent = [False]


def notice(text: str, *, about: str) -> None:
    """Warn, unless something was said about this before.

    Args:
        text: The warning.
        about: What it is about; figures in the text may differ from time to time.
    """
    if not _silent[0] and about not in _said:
        _said.add(about)
        warnings.warn(text, Notice, stacklevel=6)  # beyond the model and its builder


def silence() -> None:
    """Say nothing from now on: a worker's matrix is the one that its parent has planned, and warned of."""
    _silent[0] = True


def forget() -> None:
    """Say everything anew."""
    _said.clear()
    _silent[0] = False

"""The two sides of a trial that answers yes or no: the scores of members, or of clients of whom something holds, and the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["two_sides"]

_KEYS = (("member_scores", "nonmember_scores"), ("yes_scores", "no_scores"))


def two_sides(raw: Mapping[str, Any]) -> list[tuple[list[float], list[float]]]:
    """The scores of either side, as one pair; none of another kind of trial, or where a side is empty."""
    return [(raw[yes], raw[no]) for yes, no in _KEYS if raw.get(yes) and raw.get(no)]

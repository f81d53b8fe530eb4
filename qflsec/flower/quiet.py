"""Flower's own lines, kept back where somebody else tells of the progress."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet"]


@contextmanager
def quiet(least: int = logging.WARNING) -> Iterator[None]:
    """Without Flower's lines for every step.

    Args:
        least: The level from which it is heard.
    """
    logger = logging.getLogger("flwr")
    before = logger.level
    logger.setLevel(least)
    try:
        yield
    finally:
        logger.setLevel(before)

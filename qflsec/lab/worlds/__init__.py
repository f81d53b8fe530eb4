"""The kinds of matrix: federation, channel and delegation."""

from __future__ import annotations

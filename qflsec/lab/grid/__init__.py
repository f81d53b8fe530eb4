"""The matrix engine: what every kind of matrix has in common."""

from __future__ import annotations

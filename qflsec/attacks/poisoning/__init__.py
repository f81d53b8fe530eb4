"""Manipulations that lower the model's accuracy."""

from __future__ import annotations

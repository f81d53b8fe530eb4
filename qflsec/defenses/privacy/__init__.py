"""Defenses against inference: clipping, noise, differential privacy."""

from __future__ import annotations

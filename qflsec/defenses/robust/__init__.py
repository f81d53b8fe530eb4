"""Defenses against manipulation: server-side bounds and robust rules."""

from __future__ import annotations

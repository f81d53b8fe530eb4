"""Defenses: layers that protect privacy or bound manipulation."""

from __future__ import annotations

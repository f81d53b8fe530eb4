"""Reconstruction of records from updates."""

from __future__ import annotations

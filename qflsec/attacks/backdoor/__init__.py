"""Manipulations that plant a trigger."""

from __future__ import annotations

"""Kinds of matrix whose trials stand alone: one run of an attack against a column, for each seed."""

from __future__ import annotations

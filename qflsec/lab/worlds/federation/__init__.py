"""Federated learning in the lab: attacks against stacks of layers."""

from __future__ import annotations

"""Errors of circuits."""

from __future__ import annotations

from qflsec.base.errors import ConfigError

__all__ = ["CircuitError", "NotAffine"]


class CircuitError(ConfigError):
    """A circuit, or an input to one, that cannot be used."""


class NotAffine(CircuitError):
    """A QNode that cannot be written as a :class:`~qflsec.circuits.Circuit`; the message says why."""

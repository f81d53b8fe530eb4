"""Errors of blind computation that a user can mend."""

from __future__ import annotations

from qflsec.base import ConfigError, QflsecError

__all__ = ["BlindError", "QubitError"]


class BlindError(ConfigError):
    """A circuit, grid or plan that the protocol cannot use."""


class QubitError(QflsecError):
    """A qubit was read, copied or used after its measurement."""

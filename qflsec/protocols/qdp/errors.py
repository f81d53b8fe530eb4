"""Errors of quantum differential privacy that a user can mend."""

from __future__ import annotations

from qflsec.base import ConfigError

__all__ = ["QdpError"]


class QdpError(ConfigError):
    """A channel, adjacency or measurement that the engine cannot use."""

"""The command line. Heavy libraries are imported by the commands that use them, so that help is instant."""

from __future__ import annotations

from qflsec.cli.app import main

__all__ = ["main"]

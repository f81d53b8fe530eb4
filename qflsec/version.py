"""The version of the package, apart from its face so that every module can say it."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"

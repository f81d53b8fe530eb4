"""Privacy and security toolkit with an attack/defense lab for quantum federated learning."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"

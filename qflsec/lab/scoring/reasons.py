"""What trials say of their result, for those who score and those who read, who need no torch."""

from __future__ import annotations

__all__ = ["FOUND"]

FOUND = "every record was found"
"""Of an inversion that reconstructed all of them."""

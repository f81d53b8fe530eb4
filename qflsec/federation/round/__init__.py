"""One round: models go down, clients train, updates come up, one party makes the next model."""

from __future__ import annotations

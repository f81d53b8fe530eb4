"""Makes the recording layers importable for the tests beside them, and empties their log."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def log() -> list[str]:
    """What the recording layers and the recording adversary did, in order."""
    from recorders import LOG

    LOG.clear()
    return LOG

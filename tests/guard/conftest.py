"""Makes the guard's own modules importable for its tests, as they are for its script."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

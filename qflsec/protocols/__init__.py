"""Protocol modules, usable alone or as layers of the loop."""

from __future__ import annotations

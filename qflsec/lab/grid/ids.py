"""Ids: the sha256 of canonical JSON of everything that a result depends on.

Names and labels of a specification do not enter, so that renaming keeps results; the content of the user's
files enters in the place of their paths. Whoever changes any parameter gets another id, and so never an old
result.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from qflsec.version import __version__

__all__ = ["canonical", "digest", "id_versions", "versions"]

_ENTER_IDS = ("numpy", "torch")
_RECORDED = ("opacus", "pennylane", "scikit-learn", "scipy")


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces.

    >>> canonical({"seed": 3, "stack": [{"name": "median"}], "clip_norm": 1.0})
    '{"clip_norm":1.0,"seed":3,"stack":[{"name":"median"}]}'

    Raises:
        ValueError: A number is not finite.
        TypeError: A value has no JSON form.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: object) -> str:
    """Sha256 of the canonical JSON, in hexadecimal.

    >>> digest({"seed": 3, "stack": [{"name": "median"}], "clip_norm": 1.0})
    'e325b6e2ecc51c724b67f9821ba4181c3ec248ba03aac1ddf20b59c1d11e8c21'
    """
    return hashlib.sha256(canonical(value).encode()).hexdigest()


@cache
def id_versions() -> dict[str, str]:
    """Versions that enter ids: this package and those whose arithmetic makes the numbers."""
    return {"qflsec": __version__, **{name: _version(name) for name in _ENTER_IDS}}


def versions() -> dict[str, str]:
    """Versions that a report records."""
    return {**id_versions(), **{name: _version(name) for name in _RECORDED}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"

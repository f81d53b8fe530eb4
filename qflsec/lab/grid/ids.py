"""Ids: the sha256 of canonical JSON of everything that a result depends on.

Names and labels of a specification do not enter, so that renaming keeps results; the content of the user's
files enters in the place of their paths. Whoever changes any parameter gets another id, and so never an old
result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import qflsec

__all__ = ["canonical", "digest", "id_versions", "run_identity", "trial_identity", "versions"]

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


def run_identity(
    *,
    pipeline: Mapping[str, Any],
    stack: Sequence[Mapping[str, Any]],
    seed: int,
    secrets: str,
    versions: Mapping[str, str],
    code: Mapping[str, str],
    manipulation: Mapping[str, Any] | None = None,
    threat: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a run's id is the digest of.

    >>> identity = run_identity(pipeline={}, stack=[], seed=0, secrets="os", versions={}, code={})
    >>> canonical(identity)
    '{"code":{},"manipulation":null,"pipeline":{},"secrets":"os","seed":0,"stack":[],"threat":null,"versions":{}}'
    >>> digest(identity)
    'd4d08e0ccd13d5bc21c3c4e4b4230db86489de8014f653cef1a3d3bb43ce79e4'

    Args:
        pipeline: The pipeline's configuration, files by content.
        stack: The configuration of each layer.
        seed: The seed.
        secrets: Whether keys are real or seeded.
        versions: Versions of the packages that can change a number.
        code: Digests of the code of plugins from outside the package, with everything that it imports.
        manipulation: The adversary's name and every parameter; None for an honest run.
        threat: Its whole threat model, knowledge too; None for an honest run.
    """
    return {
        "pipeline": dict(pipeline),
        "stack": [dict(layer) for layer in stack],
        "manipulation": None if manipulation is None else dict(manipulation),
        "threat": None if threat is None else _nameless(threat),
        "seed": seed,
        "secrets": secrets,
        "versions": dict(versions),
        "code": dict(code),
    }


def trial_identity(
    *, run: str, attack: Mapping[str, Any], threat: Mapping[str, Any], code: Mapping[str, str]
) -> dict[str, Any]:
    """What a trial's id is the digest of: the run's id, the attack with its code and the whole threat model.

    >>> threat = {"name": "curious", "server": True}
    >>> canonical(trial_identity(run="ab", attack={"name": "dlg"}, threat=threat, code={}))
    '{"attack":{"name":"dlg"},"code":{},"run":"ab","threat":{"server":true}}'
    """
    return {"run": run, "attack": dict(attack), "threat": _nameless(threat), "code": dict(code)}


def _nameless(threat: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in threat.items() if key != "name"}


@cache
def id_versions() -> dict[str, str]:
    """Versions that enter ids: this package and those whose arithmetic makes the numbers."""
    return {"qflsec": qflsec.__version__, **{name: _version(name) for name in _ENTER_IDS}}


def versions() -> dict[str, str]:
    """Versions that a report records."""
    return {**id_versions(), **{name: _version(name) for name in _RECORDED}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"

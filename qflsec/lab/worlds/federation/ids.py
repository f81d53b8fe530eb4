"""What the ids of runs, trials and ledgers are digests of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["nameless", "run_identity", "trial_identity"]


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
    engine: str = "loop",
) -> dict[str, Any]:
    """What a run's id is the digest of.

    >>> from qflsec.lab.grid.ids import canonical, digest
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
        engine: What makes the run; the training loop, which every other must equal, is not named.
    """
    return {
        "pipeline": dict(pipeline),
        "stack": [dict(layer) for layer in stack],
        "manipulation": None if manipulation is None else dict(manipulation),
        "threat": None if threat is None else nameless(threat),
        "seed": seed,
        "secrets": secrets,
        "versions": dict(versions),
        "code": dict(code),
        **({} if engine == "loop" else {"engine": engine}),
    }


def trial_identity(
    *, run: str, attack: Mapping[str, Any], threat: Mapping[str, Any], code: Mapping[str, str]
) -> dict[str, Any]:
    """What a trial's id is the digest of: the run's id, the attack with its code and the whole threat model.

    >>> from qflsec.lab.grid.ids import canonical
    >>> threat = {"name": "curious", "server": True}
    >>> canonical(trial_identity(run="ab", attack={"name": "dlg"}, threat=threat, code={}))
    '{"attack":{"name":"dlg"},"code":{},"run":"ab","threat":{"server":true}}'
    """
    return {"run": run, "attack": dict(attack), "threat": nameless(threat), "code": dict(code)}


def nameless(threat: Mapping[str, Any]) -> dict[str, Any]:
    """A threat model's configuration without its name, which is no part of what it means."""
    return {key: value for key, value in threat.items() if key != "name"}

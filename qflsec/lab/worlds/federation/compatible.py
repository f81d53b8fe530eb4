"""What cannot run, found before anything does: stacks that do not fit a pipeline, attacks that do not fit either."""

from __future__ import annotations

from qflsec.attacks import Attack, Inference
from qflsec.base import ConfigError, IncompatibleAttack, IncompatibleStack
from qflsec.federation import Pipeline, RunSpec, Stack
from qflsec.federation.loop import check_runs
from qflsec.lab.challenges import check_challenge
from qflsec.threat import ThreatModel

__all__ = ["attack_fits", "check_clients", "stack_fits"]


def stack_fits(pipeline: Pipeline, stack: Stack) -> str:
    """Why the stack cannot run on the pipeline, as a sentence; empty where it can."""
    try:
        check_runs(pipeline, stack, ())
    except IncompatibleStack as error:
        return str(error)
    return ""


def attack_fits(pipeline: Pipeline, stack: Stack, attack: Attack, threat: ThreatModel, run: RunSpec) -> str:
    """Why the attack cannot be made on the pipeline under the stack, as a sentence; empty where it can.

    Args:
        pipeline: The pipeline.
        stack: A stack that fits it.
        attack: The attack.
        threat: Its threat model.
        run: The run that it is made on.
    """
    try:
        threat.check(pipeline.parties)
        _check_parties(stack, threat)
        _check_model(pipeline, attack)
        attack.check(pipeline, threat)
        if isinstance(attack, Inference):
            check_challenge(attack, pipeline, threat)
        check_runs(pipeline, stack, [run])
    except (ConfigError, IncompatibleAttack, IncompatibleStack) as error:
        return str(error)
    return ""


def _check_parties(stack: Stack, threat: ThreatModel) -> None:
    if threat.quantum_server and stack.delegation is None:
        raise IncompatibleAttack(
            f"threat model {threat.name!r} corrupts the quantum server, but nothing in this stack is delegated to one",
            fix="add a layer that delegates, such as 'blind' or 'delegated'",
        )


def _check_model(pipeline: Pipeline, attack: Attack) -> None:
    if pipeline.personal and attack.card.family != "poisoning":
        raise IncompatibleAttack(
            f"every client keeps {', '.join(pipeline.personal)} to itself, so there is no one model to attack and to "
            "judge by"
        )


def check_clients(pipeline: Pipeline, threat: ThreatModel, path: str) -> None:
    """Refuse threat models that leave no honest client of the pipeline, or corrupt some that it does not have.

    Args:
        pipeline: The pipeline.
        threat: The threat model of an attack on it.
        path: The key path of the attack's threat model.

    Raises:
        ConfigError: This one does.
    """
    corrupted, n_clients = threat.clients, pipeline.federation.n_clients
    if len(corrupted) >= n_clients:
        raise ConfigError(
            f"{path}: threat model {threat.name!r} leaves no honest client to attack",
            got=f"{len(corrupted)} of {n_clients} clients",
            expected=f"fewer than {n_clients}",
            fix="lower 'n' of the threat model, or raise 'n_clients' of the pipeline",
        )
    if corrupted and corrupted[-1] >= n_clients:
        raise ConfigError(
            f"{path}: threat model {threat.name!r} corrupts a client that does not exist",
            got=f"index {corrupted[-1]}",
            expected=f"indices below {n_clients}",
            fix="name others, or raise 'n_clients' of the pipeline",
        )

"""What cannot run, found before anything does: stacks that do not fit a pipeline, attacks that do not fit either."""

from __future__ import annotations

from qflsec.attacks import Attack, Inference
from qflsec.base import ConfigError, IncompatibleAttack, IncompatibleStack
from qflsec.federation import Adversary, PairLayer, Pipeline, RunSpec, Stack
from qflsec.federation.loop import check_runs
from qflsec.lab.challenges import check_challenge
from qflsec.threat import ThreatModel

__all__ = ["attack_fits", "stack_fits"]


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
        _check_pairs(stack, attack)
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


def _check_pairs(stack: Stack, attack: Attack) -> None:
    taps = isinstance(attack, Adversary) and attack.tapped() > 0
    if taps and not any(isinstance(layer, PairLayer) for layer in stack.shapes):
        raise IncompatibleAttack(
            f"{attack.card.name!r} measures entangled pairs, but nothing in this stack travels through any",
            fix="add a layer that sends updates through pairs, such as 'teleported'",
        )


def _check_model(pipeline: Pipeline, attack: Attack) -> None:
    if pipeline.kept and attack.card.family != "poisoning":
        raise IncompatibleAttack(
            f"every client keeps {pipeline.kept} to itself, so there is no one model to attack and to "
            "judge by"
        )
    models = pipeline.topology.nodes(pipeline.federation.n_clients)
    if models > 1 and attack.card.family in {"backdoor", "evasion"}:
        raise IncompatibleAttack(
            f"{pipeline.topology.words} ends with {models} models, so there is no one model to attack and to judge by",
            fix="choose a topology with one model",
        )

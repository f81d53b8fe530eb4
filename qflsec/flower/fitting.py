"""What of the lab can go through Flower, and why the rest cannot."""

from __future__ import annotations

from qflsec.base import ConfigError, IncompatibleAttack, IncompatibleStack
from qflsec.federation import Adversary, Pipeline, Stack
from qflsec.flower.pipeline_app import PipelineApp
from qflsec.flower.plan import Plan
from qflsec.threat import ThreatModel

__all__ = ["check_adversary", "check_observer", "check_stack"]


def check_stack(pipeline: Pipeline, stack: Stack) -> None:
    """Refuse a stack or a pipeline that a Flower app cannot have.

    Args:
        pipeline: The pipeline.
        stack: A stack that fits it.

    Raises:
        IncompatibleStack: It cannot; the message says why.
    """
    config = pipeline.federation
    try:
        PipelineApp(pipeline=pipeline, seed=0)
        Plan(
            stack=stack, n_clients=config.n_clients, rounds=config.rounds, participants=config.n_participants
        )
    except ConfigError as error:
        raise IncompatibleStack(str(error)) from None
    if config.who == "poisson":
        raise IncompatibleStack("the server of a Flower app asks a fixed number of clients into a round")
    if stack.leaves == "nothing":
        raise IncompatibleStack(
            "only clients open the sums of this stack, so that the server of a Flower app has no model to judge by"
        )


def check_adversary(pipeline: Pipeline, adversary: Adversary, threat: ThreatModel) -> None:
    """Refuse an adversary that has no place in a Flower app.

    Args:
        pipeline: The pipeline.
        adversary: What corrupted parties do.
        threat: Who is corrupted, and what they know.

    Raises:
        IncompatibleAttack: It has none; the message says why.
    """
    others = sorted(str(party) for party in threat.corrupted if party.role not in {"client", "public"})
    if others:
        raise IncompatibleAttack(
            f"an adversary acts for clients alone, not for {', '.join(others)}",
            fix="choose corrupted clients",
        )
    if threat.rushing:
        raise IncompatibleAttack("a node of Flower does not see what other nodes send before it sends itself")
    if "honest-updates" in threat.knows:
        raise IncompatibleAttack("a node of Flower does not know the updates of others while it trains")
    if pipeline.federation.who != "all" and adversary.start(pipeline.sharing.n_shared) is not None:
        raise IncompatibleAttack(
            "this attack keeps a state from round to round, and a node of Flower is not called in a round in which it is "
            "not asked",
            fix="let all clients take part",
        )


def check_observer(stack: Stack, threat: ThreatModel) -> None:
    """Refuse an observer whose view cannot be made of what the nodes and the server of a run noted.

    Args:
        stack: The stack.
        threat: The observer.

    Raises:
        IncompatibleAttack: It cannot; the message says why.
    """
    if threat.wire:
        raise IncompatibleAttack(
            "what crosses the network is under Flower's TLS, and nobody records it there"
        )
    if threat.server and threat.clients and stack.aggregation is not None:
        raise IncompatibleAttack(
            f"what the server could open of {stack.aggregation.card.name!r} together with clients is in their processes"
        )

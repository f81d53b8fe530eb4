"""What makes the runs of a matrix: the training loop, or Flower."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal

from qflsec.base import ConfigError, IncompatibleAttack, IncompatibleStack, MissingExtra
from qflsec.federation import Adversary, Pipeline, RunResult, RunSpec, Stack
from qflsec.threat import ThreatModel

if TYPE_CHECKING:
    from qflsec.attacks import Attack

__all__ = ["attack_fits", "check_engine", "made_by_flower", "observer_fits", "stack_fits"]


def check_engine(engine: str) -> None:
    """Refuse an engine that is not installed.

    Raises:
        MissingExtra: It is not.
    """
    if engine != "loop" and importlib.util.find_spec("flwr") is None:
        raise MissingExtra(
            f"engine {engine!r} needs Flower, which is not installed", fix="pip install 'qflsec[flower]'"
        )


def stack_fits(engine: str, pipeline: Pipeline, stack: Stack) -> str:
    """Why a stack that fits a pipeline cannot go through the engine, as a sentence; empty where it can."""
    if engine == "loop":
        return ""
    from qflsec.flower.fitting import check_stack

    return _refusal(partial(check_stack, pipeline, stack))


def attack_fits(engine: str, pipeline: Pipeline, stack: Stack, attack: Attack, threat: ThreatModel) -> str:
    """Why an attack on a run of the engine can be neither made nor judged, as a sentence; empty where it can."""
    if engine == "loop" or not isinstance(attack, Adversary):
        return observer_fits(engine, stack, threat)
    from qflsec.flower.fitting import check_adversary

    return _refusal(partial(check_adversary, pipeline, attack, threat)) or observer_fits(
        engine, stack, threat
    )


def observer_fits(engine: str, stack: Stack, threat: ThreatModel) -> str:
    """Why what an observer of a run of the engine sees is not known, as a sentence; empty where it is."""
    if engine == "loop":
        return ""
    from qflsec.flower.fitting import check_observer

    return _refusal(partial(check_observer, stack, threat))


def _refusal(check: Callable[[], None]) -> str:
    try:
        check()
    except (ConfigError, IncompatibleAttack, IncompatibleStack) as error:
        return f"through Flower: {error}"
    return ""


def made_by_flower(
    pipeline: Pipeline,
    stack: Stack,
    spec: RunSpec,
    *,
    secrets: Literal["os", "seeded"],
    grant_honest_updates: bool,
) -> RunResult:
    """One run through Flower.

    Args:
        pipeline: The pipeline.
        stack: The stack.
        spec: The run.
        secrets: Where keys come from.
        grant_honest_updates: Whether honest updates are kept for threat models that grant them.
    """
    from qflsec.flower.engine import run_in_grid
    from qflsec.flower.quiet import quiet

    with quiet():  # the matrix has a progress of its own
        return run_in_grid(pipeline, stack, spec, secrets=secrets, grant_honest_updates=grant_honest_updates)

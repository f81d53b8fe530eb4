"""What makes the runs of a matrix: the training loop, or Flower."""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from qflsec.base import ConfigError, IncompatibleAttack, IncompatibleStack, MissingExtra
from qflsec.federation import Adversary, Pipeline, RunResult, RunSpec, Stack
from qflsec.threat import ThreatModel

if TYPE_CHECKING:
    from qflsec.attacks import Attack
    from qflsec.flower.engine import Fleet

__all__ = ["Job", "attack_fits", "check_engine", "close", "made_by_flower", "observer_fits", "stack_fits"]

_APP = "qflsec.lab.worlds.federation.flower_app"


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


@dataclass(frozen=True, kw_only=True)
class Job:
    """Which run of which matrix, as another process makes it again.

    Attributes:
        spec: The specification as JSON.
        code: The digest of its code.
        pipeline: The pipeline's name.
        stack: The stack's name.
        seed: The seed.
        label: The label of a manipulation; empty for an honest run.
    """

    spec: str
    code: str
    pipeline: str
    stack: str
    seed: int
    label: str


def made_by_flower(
    engine: str,
    pipeline: Pipeline,
    stack: Stack,
    spec: RunSpec,
    job: Job,
    *,
    secrets: Literal["os", "seeded"],
    grant_honest_updates: bool,
) -> RunResult:
    """One run through Flower.

    Args:
        engine: ``"flower"`` or ``"flower-in-process"``.
        pipeline: The pipeline.
        stack: The stack.
        spec: The run.
        job: The same for other processes.
        secrets: Where keys come from.
        grant_honest_updates: Whether honest updates are kept for threat models that grant them.

    Raises:
        BackendError: Flower's processes did not bring it to its end.
    """
    from qflsec.flower.engine import run_in_grid
    from qflsec.flower.lab_app import LabApp
    from qflsec.flower.lab_run import result_of
    from qflsec.flower.quiet import quiet

    if engine == "flower-in-process":
        with quiet():  # the matrix has a progress of its own
            return run_in_grid(
                pipeline, stack, spec, secrets=secrets, grant_honest_updates=grant_honest_updates
            )
    from qflsec.flower.book import Book

    with tempfile.TemporaryDirectory() as folder:
        book = Book(Path(folder) / "book")
        app = LabApp(pipeline=pipeline, stack=stack, spec=spec, book=book, secrets=secrets)
        said = Path(folder) / "job.json"
        said.write_text(json.dumps({**asdict(job), "book": str(Path(folder) / "book")}), encoding="utf-8")
        _fleet(pipeline.federation.n_clients).run(said, book)
        return result_of(app, keep_honest=grant_honest_updates)


_OPEN: list[tuple[Fleet, Path]] = []
"""The SuperLink and the SuperNodes that this process has started, if any, and their folder."""


def _fleet(n_clients: int) -> Fleet:
    """A SuperLink with so many SuperNodes; those of the run before where they are as many."""
    from qflsec.flower.engine import Fleet

    if _OPEN and _OPEN[0][0].nodes != n_clients:
        close()
    if not _OPEN:
        folder = Path(tempfile.mkdtemp(prefix="qflsec-fleet-"))
        _OPEN.append((Fleet(n_clients, module=_APP, folder=folder, imports=(_APP,)), folder))
    return _OPEN[0][0]


def close() -> None:
    """End the SuperLink and the SuperNodes that this process has started; their logs stay where a run failed."""
    while _OPEN:
        fleet, folder = _OPEN.pop()
        fleet.close()
        if not fleet.failed:
            shutil.rmtree(folder, ignore_errors=True)

"""Runs of the app in ``fleet_app`` by processes, what they left, and what its sums must be."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qflsec.flower.deployment import Deployment, Finished
from qflsec.flower.processes import Processes

APP = Path(__file__).parent / "fleet_app"
PARAMETERS = 64
Hook = Callable[[Deployment, Processes], None]


def update_of(index: int) -> np.ndarray[Any, Any]:
    """What a client adds."""
    return np.random.default_rng(1000 + index).uniform(-0.5, 0.5, PARAMETERS).astype(np.float32)


def mean_of(ids: Iterable[int]) -> np.ndarray[Any, Any]:
    """The mean of updates, client i having ``i + 1`` examples."""
    counted = list(ids)
    return np.average([update_of(i) for i in counted], axis=0, weights=[i + 1 for i in counted])


@dataclass(frozen=True, kw_only=True)
class Sailed:
    """How a run ended, and the step of each round by number."""

    finished: Finished
    steps: dict[int, np.ndarray[Any, Any]]

    def check_sums(self, tolerance: float = 2e-4) -> None:
        """Every round moved the model by the mean of those whom the ledger names, and by nothing where it was lost."""
        for line in self.finished.rounds:
            expected = np.zeros(PARAMETERS) if line["lost"] else mean_of(line["ids"])
            np.testing.assert_allclose(self.steps[line["round"]], expected, atol=tolerance)


def trick(client: int, index: int, step: str, what: str) -> dict[str, int | str]:
    """Something that a client does in place of its answer to a step of a round."""
    return {"client": client, "round": index, "step": step, "what": what}


def deployment(
    place: Path,
    *,
    nodes: int,
    rounds: int,
    tricks: Sequence[dict[str, Any]] = (),
    hook: Hook | None = None,
    limit: float = 1500.0,
    **config: str | float,
) -> Deployment:
    """The app on this machine."""
    (place / "tricks.json").write_text(json.dumps(list(tricks)))
    settings = {"num-server-rounds": rounds, "place": str(place), "patience": 30.0, **config}
    return Deployment(
        app=APP,
        nodes=nodes,
        folder=place / "run",
        config=settings,
        limit=limit,
        while_running=hook,
        imports=("qflsec.protocols.secagg",),
    )


def sail(place: Path, **settings: Any) -> Sailed:
    """Run the app by a SuperLink and SuperNodes on this machine."""
    finished = deployment(place, **settings).run()
    return Sailed(finished=finished, steps=steps_of(place))


def steps_of(place: Path) -> dict[int, np.ndarray[Any, Any]]:
    """By how much each round moved the model."""
    if not (place / "steps.jsonl").exists():
        return {}
    noted = [json.loads(line) for line in (place / "steps.jsonl").read_text().splitlines()]
    return {line["round"]: np.array(line["step"]) for line in noted}


def family_of(first: int) -> set[int]:
    """A process and all that it started, and so on (Linux)."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    family, size = {first}, 0
    while len(family) > size:
        size = len(family)
        family |= {process for process, parent in parents.items() if parent in family}
    return family


def running(process: int) -> bool:
    """Whether a process is there and no zombie (Linux)."""
    state = Path(f"/proc/{process}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


def eventually(what: Callable[[], bool], seconds: float) -> bool:
    """Whether something holds before the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if what():
            return True
        time.sleep(0.1)
    return False

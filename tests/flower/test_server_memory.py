"""The memory of every process on the server's side is searched for single updates while a run is going on (Linux)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from fleet import family_of, sail, update_of

from qflsec.flower.deployment import Deployment
from qflsec.flower.processes import Processes

N = 4
CHUNK = 1 << 24

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is a file of Linux"),
]


def needles(index: int) -> list[bytes]:
    """Four numbers of a client's update in a row, in either precision."""
    row = update_of(index)[4:8]
    return [row.tobytes(), row.astype(np.float64).tobytes()]


def memory_of(process: int) -> Iterator[bytes]:
    """What a process has written, piece by piece; pieces overlap, so that nothing is missed between two."""
    with Path(f"/proc/{process}/maps").open() as maps:
        regions = [line.split()[:2] for line in maps]
    with Path(f"/proc/{process}/mem").open("rb", buffering=0) as memory:
        for place, rights in regions:
            if not rights.startswith("rw"):
                continue
            start, end = (int(part, 16) for part in place.split("-"))
            for at in range(start, end, CHUNK):
                with suppress(OSError):  # a part that the process gave back meanwhile, or a device
                    memory.seek(at)
                    yield memory.read(min(CHUNK + 64, end - at))


def found_in(process: int) -> set[int]:
    pieces = list(memory_of(process))
    assert sum(map(len, pieces)) > 1 << 25, "the memory could not be read"
    return {i for i in range(N) if any(needle in piece for needle in needles(i) for piece in pieces)}


@pytest.mark.parametrize("layer", ["secagg", "none"])
def test_no_process_of_the_server_holds_a_single_update(tmp_path: Path, layer: str) -> None:
    """The app's, the SuperLink's and those that it started, after each exchange; without a protocol all is there."""
    seen: dict[str, set[int]] = {}
    looks: list[int] = []

    def hook(_: Deployment, processes: Processes) -> None:
        paused = tmp_path / "paused"
        if not paused.exists():
            return
        app = int(paused.read_text())
        link = processes.leader("superlink")
        family = family_of(link)
        assert {app, link} <= family
        looks.append(len(family))
        for process in family:
            kind = {app: "app", link: "link"}.get(process, "others")
            seen.setdefault(kind, set()).update(found_in(process))
        paused.unlink()

    sailed = sail(
        tmp_path, nodes=N, rounds=1, hook=hook, layer=layer, pauses=True, patience=60.0, limit=900.0
    )
    assert sailed.finished.outcome == "completed", sailed.finished
    sailed.check_sums()
    assert len(looks) == (6 if layer == "secagg" else 2)  # the greeting, and each exchange of the round
    wire = (tmp_path / "wire").read_bytes()
    on_the_wire = {i for i in range(N) if any(needle in wire for needle in needles(i))}
    expected = set() if layer == "secagg" else set(range(N))
    assert on_the_wire == expected
    assert (seen["app"], seen["link"]) == (expected, expected)
    assert seen["others"] <= expected

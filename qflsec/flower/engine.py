"""Runs of the lab through Flower, one after the other."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

from qflsec.federation import Pipeline, RunResult, RunSpec, Stack
from qflsec.flower.book import Book
from qflsec.flower.boxes import MemoryBoxes
from qflsec.flower.grid import InProcessGrid
from qflsec.flower.homes import make_homes
from qflsec.flower.lab_app import LabApp
from qflsec.flower.lab_run import result_of
from qflsec.threat import SERVER, client

__all__ = ["run_in_grid"]


def run_in_grid(
    pipeline: Pipeline,
    stack: Stack,
    spec: RunSpec,
    *,
    secrets: Literal["os", "seeded"] = "os",
    grant_honest_updates: bool = False,
) -> RunResult:
    """One run over Flower's messages in this process.

    Args:
        pipeline: The pipeline.
        stack: The stack.
        spec: The run.
        secrets: Where keys come from.
        grant_honest_updates: Whether honest updates are kept for threat models that grant them.

    Raises:
        IncompatibleStack: Flower's server would ask clients that have no records.
        IncompatibleAttack: The adversary can do nothing here.
    """
    n_clients = pipeline.federation.n_clients
    with tempfile.TemporaryDirectory() as folder:
        app = LabApp(
            pipeline=pipeline, stack=stack, spec=spec, book=Book(Path(folder) / "book"), secrets=secrets
        )
        homes = make_homes(Path(folder) / "keys", n_clients) if secrets == "os" else {}
        boxes = MemoryBoxes()

        def home(index: int) -> dict[str, str]:
            return {"qflsec-home": str(homes[client(index)])} if homes else {}

        grid = InProcessGrid(
            lambda message, context: app.answer(message, context, boxes), n_clients, nodes=home
        )
        app.serve(grid, homes.get(SERVER))
        return result_of(app, keep_honest=grant_honest_updates)

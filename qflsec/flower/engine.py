"""Runs of the lab through Flower, one after the other: within one process, or by a SuperLink and SuperNodes."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from qflsec.base import BackendError
from qflsec.federation import Pipeline, RunResult, RunSpec, Stack
from qflsec.flower.book import Book
from qflsec.flower.boxes import MemoryBoxes
from qflsec.flower.deployment import Deployment
from qflsec.flower.grid import InProcessGrid
from qflsec.flower.homes import make_homes
from qflsec.flower.lab_app import LabApp
from qflsec.flower.lab_run import result_of
from qflsec.threat import SERVER, client

__all__ = ["Fleet", "run_in_grid"]


_POLL = 0.2
_PACKAGE = "matrix_runs"
_PROJECT = f"""[project]
name = "matrix-runs"
version = "1.0.0"
description = "Runs of a matrix"
dependencies = ["flwr>=1.42", "qflsec"]

[tool.flwr.app]
publisher = "qflsec"

[tool.flwr.app.components]
serverapp = "{_PACKAGE}.server_app:app"
clientapp = "{_PACKAGE}.client_app:app"

[tool.flwr.app.config]
num-clients = 0
server-home = ""
ledger = ""
job = ""
"""


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
        IncompatibleStack: Flower's server would ask clients that take part in no round.
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


class Fleet:
    """A SuperLink and SuperNodes on this machine that make one run after the other.

    Args:
        nodes: The number of SuperNodes.
        module: The module whose ``client_app`` and ``server_app`` play a run that its configuration names as ``job``.
        folder: Where logs and keys go; keys last as long as the fleet.
        imports: What apps import besides what every app needs.
        limit: After how long a run is given up.

    Attributes:
        failed: Whether a run did not come to its end, so that the logs are worth keeping.

    Units:
        limit: seconds
    """

    def __init__(
        self, nodes: int, *, module: str, folder: Path, imports: tuple[str, ...] = (), limit: float = 3600.0
    ) -> None:
        self.nodes, self.failed = nodes, False
        self._limit, self._logs = limit, folder / "logs"
        self._open = ExitStack()
        app = _write_app(folder / "app", module)
        self._deployment = Deployment(app=app, nodes=nodes, folder=folder, imports=imports)
        self._processes = self._open.enter_context(self._deployment.started())

    def run(self, job: Path, book: Book) -> None:
        """Make a run, to its end.

        Args:
            job: What the app reads to know which.
            book: Where its parties write down what they do.

        Raises:
            BackendError: The run cannot come to its end.
        """
        self.failed = True
        self._deployment.submit(self._processes, {"job": str(job)})
        deadline = time.monotonic() + self._limit
        while True:
            ended = self._processes.ended()  # before the book is read, whose end may be written last of all
            if book.end() is not None:
                break
            if {"superlink", "flwr-run"} & set(ended):
                raise BackendError(
                    "Flower's SuperLink ended or took no run, or the server's app failed",
                    fix=f"read {self._logs}",
                )
            if time.monotonic() > deadline:
                raise BackendError(f"a run did not end within {self._limit:g} s", fix=f"read {self._logs}")
            time.sleep(_POLL)
        self.failed = False

    def close(self) -> None:
        """End all processes."""
        self._open.close()


def _write_app(folder: Path, module: str) -> Path:
    """A folder that Flower runs, of a few lines for each side."""
    package = folder / _PACKAGE
    package.mkdir(mode=0o700, parents=True)
    (folder / "pyproject.toml").write_text(_PROJECT, encoding="utf-8")
    (package / "__init__.py").write_text('"""Runs of a matrix."""\n', encoding="utf-8")
    for side in ("client_app", "server_app"):
        # Flower looks for an assignment
        text = f'"""Runs of a matrix."""\n\nfrom {module} import {side}\n\napp = {side}\n'
        (package / f"{side}.py").write_text(text, encoding="utf-8")
    return folder

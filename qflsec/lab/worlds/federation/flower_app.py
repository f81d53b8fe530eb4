"""The app of a run of a matrix, as Flower's processes import it: its configuration names a file that says which run.

A file is JSON: the specification and the digest of its code, the names of pipeline and stack, the seed, the label of a
manipulation, and the folder of the notes.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from qflsec.federation import RunSpec
from qflsec.flower.book import Book, EndNote
from qflsec.flower.lab_app import LabApp
from qflsec.lab.grid.work import sentence_of
from qflsec.lab.grid.world import world_from_json
from qflsec.lab.worlds.federation.world import FederationWorld

__all__ = ["client_app", "lab_app", "server_app"]


@lru_cache(maxsize=1)
def lab_app(job: Path) -> LabApp:
    """The run that a file says.

    Args:
        job: The file.

    Raises:
        ConfigError: The user's code is another here.
    """
    said = json.loads(job.read_text(encoding="utf-8"))
    world = world_from_json(FederationWorld, said["spec"], said["code"])
    assert isinstance(world, FederationWorld)
    matrix, label = world.matrix, said["label"]
    stack = matrix.column(said["pipeline"], said["stack"]).stack
    assert stack is not None
    return LabApp(
        pipeline=matrix.pipelines[said["pipeline"]],
        stack=stack,
        spec=matrix.entry(label).run_spec(said["seed"]) if label else RunSpec(seed=said["seed"]),
        book=Book(Path(said["book"])),
        secrets=matrix.spec.secrets,
    )


client_app = ClientApp()
server_app = ServerApp()


@client_app.train()
def _answer(message: Message, context: Context) -> Message:
    return lab_app(Path(str(context.run_config["job"]))).answer(message, context)


@server_app.main()
def _serve(grid: Grid, context: Context) -> None:
    config = context.run_config
    app = lab_app(Path(str(config["job"])))
    try:
        app.serve(grid, Path(str(config["server-home"])))
    except Exception as error:
        # nobody else would tell whoever waits for the end
        app.book.note_end(EndNote(error=sentence_of(error)))
        raise

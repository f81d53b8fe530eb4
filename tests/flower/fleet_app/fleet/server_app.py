"""A server that notes by how much each round moved the model, and can be stopped after each exchange."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp import ServerApp

from fleet.ends import end
from fleet.plan import plan
from qflsec.flower import ServerSide

app = ServerApp()


@app.main()
def main(grid: Any, context: Any) -> None:
    config = context.run_config
    place = Path(config["place"])

    def watch(note: Any) -> None:
        with (place / "steps.jsonl").open("a") as file:
            file.write(json.dumps({"round": note.round, "step": (note.after - note.before).tolist()}) + "\n")

    if config["pauses"]:
        pausing(grid, place)
    side = ServerSide(
        plan(context),
        home=config["server-home"],
        ledger=config["ledger"],
        watch=watch,
        keys=end(config, None),
    )
    first = ArrayRecord({"w": Array(np.zeros(config["parameters"], np.float32))})
    side.start(grid, first, num_rounds=config["num-server-rounds"], timeout=config["patience"])


def pausing(grid: Any, place: Path) -> None:
    """Keep what arrives in an exchange, say so, and wait until somebody took away what was said."""
    send, said = grid.send_and_receive, place / "paused"

    def paused(messages: Any, *, timeout: float | None = None) -> Any:
        asked = list(messages)
        if not asked:
            return []
        replies = list(send(asked, timeout=timeout))
        with (place / "wire").open("ab") as file:
            for reply in replies:
                for record in reply.content.values():
                    for value in record.values():
                        file.write(value if isinstance(value, bytes) else repr(value).encode())
        whole = place / "paused-whole"
        whole.write_text(str(os.getpid()))
        whole.replace(said)
        while said.exists():
            time.sleep(0.05)
        return replies

    grid.send_and_receive = paused

"""A client with a known update, and a mod in front of everything that may play a trick."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fleet.ends import end
from fleet.plan import plan
from qflsec.base.framing import pack_named, unpack_named
from qflsec.flower import ClientSide
from qflsec.flower.letters import Letter, Part, read_letter, write_letter
from qflsec.threat.codec import encode

_LONG = 600.0


def plainly(_: int, body: bytes) -> bytes:
    return body


def tricks(message: Message, context: Context, call: Any) -> Message:
    """Answer as the app does, unless ``tricks.json`` has something else for this client, round and step."""
    place, me = Path(str(context.run_config["place"])), int(context.node_config["partition-id"])
    listed = json.loads((place / "tricks.json").read_text())
    if not listed:  # letters may be sealed
        return call(message, context)
    asked = read_letter(message.content, plainly)
    assert asked is not None
    names = {part.name for part in asked.parts}
    mine = [
        trick["what"]
        for trick in listed
        if trick["client"] == me and trick["round"] == asked.round and trick["step"] in names
    ]
    for what in mine:
        if what == "stall":
            (place / f"stalled-{me}-{asked.round}").touch()
            time.sleep(_LONG)
    reply = call(message, context)
    for what in mine:
        reply.content = TRICKS[what](place, reply.content)
    return reply


def garbage(_: Path, content: RecordDict) -> RecordDict:
    return RecordDict({"qflsec": ConfigRecord({**content["qflsec"], "letter": os.urandom(300)})})


def not_numbers(_: Path, content: RecordDict) -> RecordDict:
    """NaN in the place of the update."""
    letter = read_letter(content, plainly)
    assert letter is not None
    size = 65  # the parameters and the count
    parts = tuple(
        Part(name=part.name, body=encode(torch.full((size,), torch.nan))) if part.name == "update" else part
        for part in letter.parts
    )
    return write_letter(Letter(round=letter.round, parts=parts), bytes)


def keep(place: Path, content: RecordDict) -> RecordDict:
    """Leave a copy of what is sent for those that play it back."""
    part = place / f"part-{os.getpid()}"
    part.write_bytes(content["qflsec"]["letter"])
    part.replace(place / f"kept-{content['qflsec']['round']}")
    return content


def copy(place: Path, content: RecordDict) -> RecordDict:
    """What another client kept in this round."""
    return _kept(place, content, content["qflsec"]["round"])


def play_back(place: Path, content: RecordDict) -> RecordDict:
    """What was kept in the first round, under the number of this one."""
    return _kept(place, content, 0)


def _kept(place: Path, content: RecordDict, index: int) -> RecordDict:
    kept = place / f"kept-{index}"
    while not kept.exists():
        time.sleep(0.1)
    return RecordDict({"qflsec": ConfigRecord({**content["qflsec"], "letter": kept.read_bytes()})})


def play_back_as_it_was(place: Path, content: RecordDict) -> RecordDict:
    """The same under the number of the first round."""
    found = play_back(place, content)
    found["qflsec"]["round"] = 0
    return found


def claim(_: Path, content: RecordDict) -> RecordDict:
    """A greeting in the name of client 0, signed with the own key."""
    letter = read_letter(content, plainly)
    assert letter is not None
    (part,) = letter.parts
    said = {**unpack_named(part.body), "party": b"client:0"}
    return write_letter(
        Letter(round=letter.round, parts=(Part(name=part.name, body=pack_named(said)),)), bytes
    )


TRICKS = {
    "garbage": garbage,
    "nan": not_numbers,
    "keep": keep,
    "copy": copy,
    "play back": play_back,
    "play back as it was": play_back_as_it_was,
    "claim": claim,
}


def own_end(context: Context) -> Any:
    return end(context.run_config, int(context.node_config["partition-id"]))


app = ClientApp(mods=[tricks, ClientSide(plan, keys=own_end)])


@app.train()
def train(message: Message, context: Context) -> Message:
    """A vector of the client's own, the same in every round."""
    index = int(context.node_config["partition-id"])
    update = np.random.default_rng(1000 + index).uniform(-0.5, 0.5, int(context.run_config["parameters"]))
    arrays = ArrayRecord({"w": Array(update.astype(np.float32))})
    metrics = MetricRecord({"num-examples": index + 1})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

"""Tiny matrices, and a plugin file with attacks that misbehave."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qflsec.lab import MatrixSpec, parse_spec
from qflsec.lab.grid.spec import GridSpec

TINY = """
name = "tiny"
seeds = [0, 1]
secrets = "seeded"

[pipelines.main]
data = { name = "breast-cancer", n_features = 2, balanced = true, members = 12, nonmembers = 8, auxiliary = 8, test = 20 }
model = { name = "vqc", n_qubits = 2, layers = 1 }
federation = { n_clients = 3, rounds = 2, learning_rate = 0.3 }

[stacks]
none = []
clip = [{ name = "client-clip", clip_norm = 0.5 }]
link = [{ name = "aes-gcm-link" }]
bad = [{ name = "masked" }, { name = "median" }]

[threats.server]
kind = "honest-but-curious-server"

[threats.clients]
kind = "corrupted-clients"
n = 1

[threats.nobody]
kind = "nobody"

[[attacks]]
name = "loss-threshold"
pipeline = "main"
threat = "server"

[[attacks]]
label = "withdrawn"
name = "loss-threshold"
pipeline = "main"
threat = "nobody"

[[attacks]]
name = "scaled-sign-flip"
pipeline = "main"
threat = "clients"
"""

CHANNEL = """
kind = "channel"
name = "line"
seeds = [0, 1, 2]
pulses = 100_000
[channel]
distance_km = 5.0
[countermeasures]
none = []
authentication = ["authentication"]
[[attacks]]
name = "man-in-the-middle"
[[attacks]]
name = "intercept-resend"
params = { fraction = 0.5 }
"""

DELEGATION = """
kind = "delegation"
name = "server"
seeds = [0, 1, 2]
qubits = 1
layers = 1
shots = 100
tests = 100
[clients.open]
pads = "none"
tests = 0
[clients.blind]
[[attacks]]
name = "random-answers"
[[attacks]]
name = "read-delta"
"""

PLUGIN = '''
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from qflsec.attacks import Inference, Manipulation, MembershipChallenge, MembershipClaim
from qflsec.base import AttackCard, ProtocolAbort, Source, register

SOURCE = Source(paper="test stand-in", year=2026, where="tests/lab/conftest.py")


def card(name, family):
    return AttackCard(name=name, idea="Misbehaves.", source=SOURCE, family=family, goal="integrity", needs=())


@register("attack", "broken-inference")
@dataclass(frozen=True, kw_only=True)
class BrokenInference(Inference):
    card = card("broken-inference", "membership")
    challenge_type = MembershipChallenge
    switch: str = ""
    level: float = 1.0

    def missing(self, view, challenge):
        return None

    def run(self, view, challenge):
        if not self.switch or not Path(self.switch).exists():
            raise RuntimeError("a bug of the attack")
        return MembershipClaim(scores=torch.arange(len(challenge.candidates.labels)).float())


@register("attack", "broken-manipulation")
@dataclass(frozen=True, kw_only=True)
class BrokenManipulation(Manipulation):
    card = card("broken-manipulation", "poisoning")

    def run(self, hands):
        raise ZeroDivisionError("a bug of the manipulation")


@register("attack", "not-finite")
@dataclass(frozen=True, kw_only=True)
class NotFinite(Manipulation):
    card = card("not-finite", "poisoning")

    def run(self, hands):
        return hands.honest * float("nan")


@register("attack", "wrong-shape")
@dataclass(frozen=True, kw_only=True)
class WrongShape(Manipulation):
    card = card("wrong-shape", "poisoning")

    def run(self, hands):
        return hands.honest[..., :-1]


@register("attack", "saboteur")
@dataclass(frozen=True, kw_only=True)
class Saboteur(Manipulation):
    """Alters what crosses the network."""

    card = card("saboteur", "poisoning")

    def corrupts(self, threat):
        assert threat.wire

    def run(self, hands):
        return hands.honest

    def tamper(self, tapped):
        return tapped.payload[:-1] if isinstance(tapped.payload, bytes) else tapped.payload
'''


@pytest.fixture
def tiny_text() -> str:
    """The text of a matrix of two seeds that runs in about a second."""
    return TINY


@pytest.fixture
def tiny() -> MatrixSpec:
    """A matrix of two seeds that runs in about a second."""
    return parse_spec(TINY, base=Path())


@pytest.fixture(params=[CHANNEL, DELEGATION], ids=["channel", "delegation"])
def pairs(request: pytest.FixtureRequest) -> GridSpec:
    """A matrix of three seeds whose eighteen trials stand alone, in about a second."""
    return parse_spec(request.param, base=Path())


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plugin file with attacks that misbehave; one for all tests, as a name can be registered once."""
    path = tmp_path_factory.mktemp("plugin") / "misbehaving.py"
    path.write_text(PLUGIN, encoding="utf-8")
    return path


@pytest.fixture
def with_attacks(tiny_text: str, plugin: Path, tmp_path: Path) -> Callable[..., MatrixSpec]:
    """The tiny matrix over some stacks with the given attacks alone: (name, threat) or whole tables."""

    def make(*attacks: str, stacks: tuple[str, ...] = ("none",), seeds: str = "[0, 1]") -> MatrixSpec:
        head = tiny_text.split("[[attacks]]", maxsplit=1)[0]
        lines = [
            line
            for line in head.splitlines()
            if not any(
                line.startswith(f"{name} = [") and name not in stacks
                for name in ("none", "clip", "link", "bad")
            )
        ]
        text = "\n".join([f'plugins = ["{plugin}"]', *lines]).replace("seeds = [0, 1]", f"seeds = {seeds}")
        return parse_spec("\n".join([text, *(f"[[attacks]]\n{attack}" for attack in attacks)]), base=tmp_path)

    return make


@pytest.fixture
def dump() -> Callable[[Path], dict[str, list[tuple[Any, ...]]]]:
    """Everything in a store that does not measure time, by stage, in an order that does not depend on when."""
    query = "SELECT stage, unit_id, seed, status, content, reason, traceback, identity FROM units"

    def read(path: Path) -> dict[str, list[tuple[Any, ...]]]:
        connection = sqlite3.connect(path)
        try:
            rows = connection.execute(query).fetchall()
        finally:
            connection.close()
        found: dict[str, list[tuple[Any, ...]]] = {}
        for stage, unit_id, seed, status, text, *rest in rows:
            content = json.loads(text)
            content.get("costs", {}).pop("cpu_seconds", None)
            found.setdefault(stage, []).append((unit_id, seed, status, json.dumps(content), *rest))
        return {stage: sorted(part) for stage, part in found.items()}

    return read

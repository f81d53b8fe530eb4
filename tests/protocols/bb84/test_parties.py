from __future__ import annotations

import ast
import gc
import types
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from qflsec.base import OsSecrets, ProtocolAbort, SeededSecrets
from qflsec.protocols import bb84
from qflsec.protocols.bb84 import (
    Alice,
    Bob,
    DetectorModel,
    FibreChannel,
    QuantumConfig,
    TranscriptError,
    WeakCoherentSource,
    run_quantum,
)
from qflsec.protocols.bb84.bits import PositionSet
from qflsec.protocols.bb84.detector import FOCK
from qflsec.protocols.bb84.sifting import Announcement, BlockAnnouncement
from qflsec.protocols.bb84.signal import Nature, emit

CONFIG = QuantumConfig(
    n_pulses=5000,
    source=WeakCoherentSource(),
    detector=DetectorModel(efficiency=0.6),
    channel=FibreChannel(distance_km=2),
    block_size=1024,
)


def parties(config: QuantumConfig = CONFIG, seed: int = 0) -> tuple[Alice, Bob]:
    alice = Alice(config=config, secrets=SeededSecrets(seed, "alice"), nature=Nature(seed, "line"))
    return alice, Bob(config=config, secrets=SeededSecrets(seed, "bob"))


def transmit(alice: Alice, bob: Bob, config: QuantumConfig = CONFIG, *, settle: bool = True) -> None:
    for start in range(0, config.n_pulses, config.block_size):
        train = alice.prepare(min(config.block_size, config.n_pulses - start))
        detected = bob.receive(config.channel.carry(train))
        if settle:
            alice.settle(detected)


# --- no statistical generator in party code ---

GENERATORS = {"random", "numpy.random", "np.random", "numpy_stream", "stream", "default_rng", "Generator"}


def generators_in(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} | {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute):
            found |= {node.attr, ast.unparse(node)}
        elif isinstance(node, ast.Name):
            found.add(node.id)
    return found & GENERATORS


@pytest.mark.parametrize("name", ["parties", "sifting", "bits", "source", "transcript", "config"])
def test_party_code_has_no_statistical_generator(name: str) -> None:
    path = Path(bb84.__file__).parent / f"{name}.py"
    assert generators_in(path.read_text()) == set()


@pytest.mark.parametrize(
    "bad",
    [
        "import random",
        "from random import choice",
        "import numpy as np\nnp.random.default_rng()",
        "from numpy.random import Generator",
        "from numpy import random",
        "from qflsec.base import numpy_stream",
    ],
)
def test_a_statistical_generator_would_be_found(bad: str) -> None:
    assert generators_in(bad)


# --- each holds only its own ---


def reachable(root: object) -> set[int]:
    """Everything that an object refers to, directly or not, short of code."""
    seen: set[int] = set()
    todo = [root]
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(
            thing, types.ModuleType | type | types.FunctionType | types.MethodType
        ):
            continue
        seen.add(id(thing))
        todo += gc.get_referents(thing)
        if isinstance(thing, np.ndarray) and thing.base is not None:
            todo.append(thing.base)
    return seen


def secrets_of(alice: Alice) -> list[object]:
    block = alice._blocks[0]
    return [alice._secrets, alice._blocks, block.bits, block.x, block.levels]


def test_bob_cannot_reach_what_alice_holds_nor_alice_what_bob_holds() -> None:
    alice, bob = parties()
    transmit(alice, bob)
    assert not reachable(bob) & {id(thing) for thing in secrets_of(alice)}
    assert not reachable(alice) & {id(thing) for thing in [bob._secrets, bob._bits, bob._bits[0]]}
    bob.leak = [alice]
    assert {id(thing) for thing in secrets_of(alice)} <= reachable(bob)


def test_light_on_its_way_leads_to_nobodys_secrets() -> None:
    alice, _ = parties()
    train = alice.prepare(1024)
    assert not reachable(train) & {id(thing) for thing in secrets_of(alice)}


def test_nothing_secret_is_printed() -> None:
    alice, bob = parties()
    transmit(alice, bob)
    answer = alice.reply(bob.announce())
    half = bob.sift(answer)
    for text in (repr(alice.sifted), repr(half), repr(alice), repr(bob)):
        assert "array" not in text
        assert "key_bits" not in text


# --- order of events ---


def test_bob_says_nothing_before_the_last_pulse() -> None:
    alice, bob = parties()
    bob.receive(CONFIG.channel.carry(alice.prepare(1024)))
    with pytest.raises(ProtocolAbort, match="after the last pulse"):
        bob.announce()
    with pytest.raises(ProtocolAbort):
        _ = alice.sifted


def test_the_announcement_holds_no_bit_of_the_key() -> None:
    """Two Bobs who differ only in what their detectors saw announce the same."""
    config = QuantumConfig(n_pulses=64, detector=DetectorModel(efficiency=1, dark_count=0), block_size=64)
    said = []
    for bit in (0, 255):
        bob = Bob(config=config, secrets=SeededSecrets(0, "bob"))
        planes = {"sign": np.full(8, bit, dtype=np.uint8), "x": np.zeros(8, dtype=np.uint8)}
        bob.receive(emit(Nature(0), n=64, code=FOCK + 1, **planes))
        said.append(bob.announce())
    assert said[0] == said[1]


def test_forgetting_undetected_pulses_changes_no_message() -> None:
    replies = []
    for settle in (True, False):
        alice, bob = parties()
        transmit(alice, bob, settle=settle)
        said = bob.announce()
        replies.append((said, alice.reply(said)))
    assert replies[0] == replies[1]


def test_alice_answers_for_fewer_pulses_than_she_kept() -> None:
    """As when an adversary announces a part of the detections: both orders of forgetting agree."""
    replies = []
    for settle in (True, False):
        alice, bob = parties()
        transmit(alice, bob, settle=settle)
        blocks = []
        for block in bob._blocks:
            fewer = block.positions.array()[::2]
            positions = PositionSet.of(fewer, block.positions.n)
            blocks.append(
                BlockAnnouncement(positions=positions, x_axis=np.zeros((fewer.size + 7) // 8, np.uint8))
            )
        said = Announcement(n_pulses=5000, block_size=1024, alarm=False, blocks=tuple(blocks))
        replies.append(alice.reply(said.to_bytes()))
    assert replies[0] == replies[1]


def test_alice_does_not_answer_for_pulses_she_let_go() -> None:
    alice, bob = parties()
    transmit(alice, bob)
    block = bob._blocks[0]
    missing = np.setdiff1d(np.arange(1024), block.positions.array())[-1:]
    forged = PositionSet.of(missing, 1024)
    bob._blocks[0] = BlockAnnouncement(positions=forged, x_axis=np.zeros(1, dtype=np.uint8))
    with pytest.raises(ProtocolAbort, match="let go"):
        alice.reply(bob.announce())


def test_messages_that_cannot_be_read_are_refused_by_both() -> None:
    alice, bob = parties()
    transmit(alice, bob)
    with pytest.raises(TranscriptError):
        alice.reply(b"nonsense")
    bob.announce()
    with pytest.raises(TranscriptError):
        bob.sift(b"nonsense")


# --- secrets ---


def test_keys_of_seeded_secrets_are_branded() -> None:
    half_seeded = run_quantum(CONFIG, seed=0, alice_secrets=SeededSecrets(0, "alice"))
    assert half_seeded.alice.seeded
    assert not half_seeded.bob.seeded
    assert not run_quantum(CONFIG, seed=0).alice.seeded
    assert half_seeded.simulated


def test_secrets_do_not_follow_the_experiments_seed() -> None:
    one, two = (run_quantum(CONFIG, seed=0) for _ in range(2))
    assert one.transcript.to_bytes() != two.transcript.to_bytes()


def test_double_clicks_become_fair_bits() -> None:
    """Bright light in the other basis fires both detectors; Bob's bit is a coin of his own. False alarm 1e-6."""
    n = 20_000
    config = QuantumConfig(n_pulses=n, detector=DetectorModel(efficiency=1, dark_count=0), block_size=n)
    bob = Bob(config=config, secrets=SeededSecrets(3, "bob"))
    planes = {"sign": np.zeros(n // 8, dtype=np.uint8), "x": np.full(n // 8, 255, dtype=np.uint8)}
    bob.receive(emit(Nature(0), n=n, code=0, means=(10.0,), **planes))
    bits = np.unpackbits(bob._bits[0], count=n)
    x = np.unpackbits(bob._blocks[0].x_axis, count=n)
    assert not bits[x == 1].any()
    other = bits[x == 0]
    assert binomtest(int(other.sum()), other.size, 0.5).pvalue > 1e-6


def test_os_secrets_are_the_default() -> None:
    assert isinstance(OsSecrets().draw(1), bytes)
    assert not run_quantum(QuantumConfig(n_pulses=8), seed=1).bob.seeded

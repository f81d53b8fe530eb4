"""What parties hold: handles without content, secrets from secret bytes, and no way round either."""

from __future__ import annotations

import ast
import copy
import gc
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qflsec.protocols.blind
from qflsec.base import ProtocolAbort, SeededSecrets
from qflsec.circuits import build_circuit
from qflsec.protocols.blind import (
    AngleGrid,
    BlindClient,
    BlindError,
    Graph,
    Pattern,
    QuantumChannel,
    QuantumServer,
    QubitError,
    Qubits,
    Shots,
    blind_expectations,
)
from qflsec.protocols.blind.pads import draw_pads, permutation, uniform_below
from qflsec.protocols.blind.qubits import entangle, measure

FOLDER = Path(qflsec.protocols.blind.__path__[0])
PHYSICS = "qubits.py"
FORBIDDEN = {"default_rng", "manual_seed", "numpy_stream", "random", "stream", "stream_seed", "Generator"}
GRAPH = Graph(n_nodes=2, edges=((0, 1),), order=(0, 1))


def offences(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name in {"random", "numpy.random"}]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module or ""] if node.module in {"random", "numpy.random"} else []
            found += [a.name for a in node.names if a.name in FORBIDDEN]
        elif isinstance(node, ast.Attribute) and node.attr in FORBIDDEN:
            found.append(node.attr)
    return found


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_only_physics_draws_from_statistical_generators(path: Path) -> None:
    found = offences(path.read_text())
    assert bool(found) == (path.name == PHYSICS)


@pytest.mark.parametrize(
    "source",
    ["import random", "import numpy as np\nnp.random.rand()", "from qflsec.base import numpy_stream"],
)
def test_the_search_finds_a_generator(source: str) -> None:
    assert offences(source)


@pytest.mark.parametrize("name", ["client.py", "server.py", "pads.py", "session.py", "opened.py", "qline.py"])
def test_parties_do_not_import_states(name: str) -> None:
    allowed = {"Bits", "QuantumChannel", "Qubits", "entangle", "measure", "rotate"}
    for node in ast.walk(ast.parse((FOLDER / name).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "qflsec.protocols.blind.qubits":
            assert {alias.name for alias in node.names} <= allowed


def test_the_server_does_not_import_the_client_or_patterns() -> None:
    modules = {
        node.module
        for node in ast.walk(ast.parse((FOLDER / "server.py").read_text()))
        if isinstance(node, ast.ImportFrom)
    }
    assert modules.isdisjoint(
        {f"qflsec.protocols.blind.{m}" for m in ("client", "pads", "pattern", "compiler")}
    )


def fresh() -> tuple[QuantumChannel, Qubits, Qubits]:
    channel = QuantumChannel(0)
    a, b = (channel.send(np.zeros(4), np.full(4, -1, dtype=np.int8)) for _ in range(2))
    return channel, a, b


def test_a_qubit_cannot_be_read_copied_or_measured_twice() -> None:
    _, a, b = fresh()
    for name in ("state", "theta", "amplitudes", "_state", "channel"):
        with pytest.raises(QubitError, match="no readable content"):
            getattr(a, name)
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(QubitError, match="copied"):
            attempt(a)
    with pytest.raises(TypeError):
        vars(a)  # type: ignore[call-overload]
    entangle(a, b)
    measure(a, np.zeros(4))
    for again in (lambda: measure(a, np.zeros(4)), lambda: entangle(a, b)):
        with pytest.raises(QubitError, match="has been measured"):
            again()


def reachable(start: Any) -> list[Any]:
    """All data that an object leads to, modules, classes and functions aside."""
    seen: dict[int, Any] = {}
    queue = [start]
    while queue:
        item = queue.pop()
        if id(item) in seen or isinstance(item, type) or callable(item):
            continue
        seen[id(item)] = item
        queue += [other for other in gc.get_referents(item) if not hasattr(other, "__file__")]
    return list(seen.values())


class Curious(QuantumServer):
    """Walks everything it holds at every measurement."""

    found: list[Any]

    def measure(self, node: int, delta: Any) -> Any:
        type(self).found += reachable(list(vars(self).values()))
        return super().measure(node, delta)


def test_nothing_that_the_server_holds_leads_to_a_state_or_a_secret() -> None:
    Curious.found = []
    circuit = build_circuit(n_qubits=2, layers=2, ansatz="ry-cz")
    executor = Shots(shots=20, seed=0, server=Curious, secrets=SeededSecrets(0))
    blind_expectations(circuit, [0.1, 0.2, 0.3, 0.4], [0.5, 0.6], executor=executor)
    kinds = {type(item) for item in Curious.found}
    assert Qubits in kinds
    assert kinds.isdisjoint({BlindClient, Pattern, QuantumChannel, np.ndarray, float, complex, SeededSecrets})


def test_the_search_finds_a_server_that_holds_a_secret() -> None:
    server = QuantumServer(GRAPH, AngleGrid())
    server.leak = {"theta": [np.zeros(3)]}  # type: ignore[attr-defined]
    assert np.ndarray in {type(item) for item in reachable(list(vars(server).values()))}


def test_entangling_some_rounds_only() -> None:
    channel = QuantumChannel(1)
    a = channel.send(np.zeros(400), np.full(400, -1, dtype=np.int8))
    b = channel.send(np.zeros(400), np.ones(400, dtype=np.int8))  # |1>: a CZ turns a into |->
    where = np.arange(400) < 200
    entangle(a, b, where)
    assert (measure(a, np.zeros(400)) == where).all()


@pytest.mark.parametrize("reply", [np.zeros(3, dtype=np.uint8), np.full(20, 2, dtype=np.uint8)])
def test_a_malformed_reply_aborts(reply: Any) -> None:
    class Malformed(QuantumServer):
        def measure(self, node: int, delta: Any) -> Any:
            return reply

    circuit = build_circuit(n_qubits=1, layers=1, ansatz="ry-cz")
    with pytest.raises(ProtocolAbort, match="not one bit"):
        blind_expectations(circuit, [0.1], [0.2], executor=Shots(shots=20, seed=0, server=Malformed))


def test_pads_are_uniform() -> None:
    """Chi-square over 256 bins, both coins, and a bound of 3; false-alarm rate 1e-4 each."""
    from scipy import stats

    pads = draw_pads(SeededSecrets(1), AngleGrid(bits=8), 10, 5000)
    assert stats.chisquare(np.bincount(pads.theta.ravel().astype(int), minlength=256)).pvalue > 1e-4
    pairs = 2 * pads.r.ravel().astype(int) + pads.dummy.ravel()
    assert stats.chisquare(np.bincount(pairs, minlength=4)).pvalue > 1e-4
    thirds = uniform_below(SeededSecrets(2), 3, 30_000)
    assert stats.chisquare(np.bincount(thirds, minlength=3)).pvalue > 1e-4


class Fixed:
    """Secrets that are told beforehand."""

    seeded = True

    def __init__(self, words: list[int]) -> None:
        self._words = words

    def draw(self, n_bytes: int) -> bytes:
        taken, self._words = self._words[: n_bytes // 4], self._words[n_bytes // 4 :]
        return np.array(taken, dtype="<u4").tobytes()


@pytest.mark.parametrize("bound", [3, 5, 7, 2**31 - 1])
def test_words_that_would_favour_small_integers_are_drawn_again(bound: int) -> None:
    """2^32 is no multiple of the bound: of its last words, none may count."""
    most = 2**32 // bound * bound
    words = [most - 1, most, 2**32 - 1, 1, bound, 2]
    assert uniform_below(Fixed(words), bound, 4).tolist() == [bound - 1, 1, 0, 2]


def test_an_angle_goes_to_the_next_of_the_grid_on_either_side() -> None:
    grid = AngleGrid(bits=8)
    steps = np.array([0.4, 0.6, -0.4, -0.6, 1.49, 1.51, 255.7])
    found = grid.to_grid(steps * 2 * np.pi / 256)
    assert found.tolist() == [0, 1, 0, 255, 1, 2, 0]


def test_permutations_are_uniform() -> None:
    from scipy import stats

    secrets = SeededSecrets(3)
    orders = [tuple(permutation(secrets, 3).tolist()) for _ in range(6000)]
    counts = [orders.count(order) for order in sorted(set(orders))]
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-4


def test_a_grid_that_is_too_coarse_or_too_fine_is_refused() -> None:
    for bits in (2, 49):
        with pytest.raises(BlindError, match="angle bits"):
            AngleGrid(bits=bits)

"""The exact two-branch simulation against density matrices of PennyLane and plain NumPy, and what a handle allows."""

from __future__ import annotations

import ast
import copy
import itertools
import pickle
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

import qflsec.protocols.ghz
from qflsec.protocols.ghz import (
    Laboratory,
    QuantumError,
    Qubits,
    failure_rate,
    ghz_fidelity,
    measure,
    product_failure_rate,
    rotate,
    split,
    visibility,
)
from qflsec.protocols.ghz.state_tests import StateTests

COPIES = 40_000
PAULI = {
    "I": np.eye(2),
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1, -1]),
}


def kron(*parts: Any) -> Any:
    return reduce(np.kron, parts)


def reference(n: int, thetas: Any, bases: str, p: float, product: Any = None) -> Any:
    """The distribution of outcomes by PennyLane's mixed-state simulator."""
    import pennylane as qml

    device = qml.device("default.mixed", wires=n)

    @qml.qnode(device)  # type: ignore[untyped-decorator]
    def circuit() -> Any:
        if product is None:
            qml.Hadamard(0)
            for wire in range(n - 1):
                qml.CNOT([wire, wire + 1])
        else:
            for wire in range(n):
                qml.Hadamard(wire)
                qml.RZ(product[wire], wires=wire)
        for wire in range(n):
            qml.DepolarizingChannel(0.75 * p, wires=wire)
            qml.RZ(thetas[wire], wires=wire)
        for wire, basis in enumerate(bases):
            if basis == "Y":
                qml.RZ(-np.pi / 2, wires=wire)
            if basis in "XY":
                qml.Hadamard(wire)
        return qml.probs(wires=range(n))

    return np.asarray(circuit())


def sampled(n: int, thetas: Any, bases: str, p: float, seed: int, product: Any = None) -> Any:
    laboratory = Laboratory(seed, "test", depolarising=p)
    alone = None if product is None else np.ones(COPIES, dtype=bool)
    qubits = laboratory.send(n, COPIES, product=alone, radians=product)
    index = np.zeros(COPIES, dtype=int)
    outcomes = {}
    for wire in reversed(range(n)) if seed % 2 else range(n):  # the order of the clients cannot matter
        rotate(qubits[wire], np.full(COPIES, thetas[wire]))
        angle = np.full(COPIES, np.pi / 2 if bases[wire] == "Y" else 0.0)
        outcomes[wire] = measure(qubits[wire], angle, np.full(COPIES, bases[wire] == "Z"))
    for wire in range(n):
        index = 2 * index + outcomes[wire]
    return np.bincount(index, minlength=2**n)


CASES = [
    (3, "XXX", 0.0, None),
    (3, "XYX", 0.1, None),
    (3, "ZXZ", 0.1, None),
    (3, "ZZZ", 0.2, None),
    (4, "XXYX", 0.05, None),
    (4, "YZXX", 0.3, None),
    (2, "XX", 0.15, None),
    (3, "XYZ", 0.1, np.array([0.3, -1.2, 0.0])),
]


@pytest.mark.parametrize(("n", "bases", "p", "product"), CASES)
def test_outcomes_have_the_distribution_of_pennylane(n: int, bases: str, p: float, product: Any) -> None:
    """Chi-square over all outcomes of all clients, two seeds; false alarm 1e-4 for each."""
    thetas = np.array([0.4, -0.7, 1.1, 0.2])[:n]
    expected = reference(n, thetas, bases, p, product) * COPIES
    for seed in (0, 1):
        seen = sampled(n, thetas, bases, p, seed, product)
        possible = expected > 1e-6
        assert seen[~possible].sum() == 0
        assert chisquare(seen[possible], expected[possible]).pvalue > 1e-4


def test_the_comparison_notices_a_wrong_visibility() -> None:
    expected = reference(3, [0.4, -0.7, 1.1], "XXX", 0.2) * COPIES
    assert chisquare(sampled(3, [0.4, -0.7, 1.1], "XXX", 0.15, 0), expected).pvalue < 1e-6


@pytest.mark.parametrize("n", [3, 4, 5])
def test_the_facts_visibility(n: int) -> None:
    """(1 - p)^n at p = 0.05 is .857375, .814506, .773781; and as PennyLane has it."""
    assert visibility(n, 0.05) == pytest.approx({3: 0.857375, 4: 0.814506, 5: 0.773781}[n], abs=1e-6)
    signs = np.array([(-1) ** i.bit_count() for i in range(2**n)])
    thetas = np.linspace(0.1, 0.5, n)
    parity = float(signs @ reference(n, thetas, "X" * n, 0.05))
    assert parity == pytest.approx(visibility(n, 0.05) * np.cos(thetas.sum()), abs=1e-9)


# -- what the states are, exactly ---------------------------------------------------------------------


def ghz(n: int, thetas: Any) -> Any:
    vector = np.zeros(2**n, dtype=complex)
    vector[0], vector[-1] = 1, np.exp(1j * np.sum(thetas))
    return vector / np.sqrt(2)


def traced(rho: Any, n: int, out: int) -> Any:
    tensor = rho.reshape([2] * (2 * n))
    return np.trace(tensor, axis1=out, axis2=n + out).reshape(2 ** (n - 1), -1)


@pytest.mark.parametrize("n", [3, 4, 5])
def test_any_n_minus_1_qubits_say_nothing_of_any_phase(n: int) -> None:
    """Exact: the reduced state is the same matrix whatever the phases; all n together it is not."""
    draws = np.random.Generator(np.random.PCG64(n)).uniform(-np.pi, np.pi, (4, n))
    states = [np.outer(ghz(n, t), ghz(n, t).conj()) for t in draws]
    for out in range(n):
        for rho in states[1:]:
            assert np.allclose(traced(rho, n, out), traced(states[0], n, out), atol=1e-15)
    assert not np.allclose(states[0], states[1], atol=1e-3)


@pytest.mark.parametrize("n", [3, 4])
def test_all_outcomes_together_depend_on_the_sum_alone(n: int) -> None:
    """Exact, with noise: equal sums give equal distributions of everybody's outcomes; unequal sums do not."""
    one, same, other = np.zeros(n), np.zeros(n), np.zeros(n)
    one[:2], same[-2:], other[0] = (0.9, -0.4), (-1.3, 1.8), 0.9
    for bases in ("X" * n, "Y" + "X" * (n - 1)):
        first = reference(n, one, bases, 0.1)
        assert np.allclose(first, reference(n, same, bases, 0.1), atol=1e-12)
        assert not np.allclose(first, reference(n, other, bases, 0.1), atol=1e-3)


def depolarised(n: int, p: float) -> Any:
    rho = np.outer(ghz(n, [0]), ghz(n, [0]).conj())
    for wire in range(n):
        kraus = [np.sqrt(1 - 0.75 * p) * PAULI["I"], *[np.sqrt(p) / 2 * PAULI[k] for k in "XYZ"]]
        full = [kron(*[k if w == wire else PAULI["I"] for w in range(n)]) for k in kraus]
        rho = sum(k @ rho @ k.conj().T for k in full)
    return rho


def stabilisers(n: int) -> list[Any]:
    """All 2^n elements, as products of generators."""
    pairs = [[PAULI["Z"] if w in (i, i + 1) else PAULI["I"] for w in range(n)] for i in range(n - 1)]
    generators = [kron(*[PAULI["X"]] * n), *(kron(*pair) for pair in pairs)]
    found = []
    for bits in itertools.product((0, 1), repeat=n):
        chosen = [g for g, b in zip(generators, bits, strict=True) if b]
        found.append(reduce(np.matmul, chosen, np.eye(2**n)))
    return found


@pytest.mark.parametrize("n", [2, 3, 4])
def test_every_test_is_a_stabiliser_and_every_stabiliser_a_test(n: int) -> None:
    """The drawn settings and expected parities, as operators, are exactly the group."""
    tests = StateTests.draw(b"c" * 32, n=n, copies=600, tests=600)
    group = [g.round(9).tobytes() for g in (s.astype(complex) + 0 for s in stabilisers(n))]
    seen = set()
    for t in range(600):
        across, marked = tests.across[t], tests.marked[:, t]
        letters = ["Y" if m else "X" for m in marked] if across else ["Z" if m else "I" for m in marked]
        sign = (-1) ** (marked.sum() // 2) if across else 1
        operator = sign * kron(*[PAULI[x] for x in letters]).astype(complex) + 0
        assert operator.round(9).tobytes() in group, letters
        seen.add(operator.round(9).tobytes())
    assert len(seen) == 2**n


@pytest.mark.parametrize(("n", "p"), [(3, 0.1), (4, 0.03), (3, 0.9)])
def test_any_state_passes_with_probability_half_of_1_plus_f(n: int, p: float) -> None:
    """Exact, and the closed form of the fidelity under depolarising noise."""
    rho = depolarised(n, p)
    target = ghz(n, [0])
    fidelity = float((target.conj() @ rho @ target).real)
    assert ghz_fidelity(n, p) == pytest.approx(fidelity, abs=1e-12)
    passes = np.mean([0.5 + 0.5 * np.trace(s @ rho).real for s in stabilisers(n)])
    assert 1 - passes == pytest.approx(failure_rate(fidelity), abs=1e-12)
    plus = np.full(2**n, 2 ** (-n / 2))
    failing = np.mean([0.5 - 0.5 * (plus @ s @ plus).real for s in stabilisers(n)])
    assert failing == pytest.approx(product_failure_rate(n), abs=1e-12)


# -- handles ------------------------------------------------------------------------------------------


def test_a_qubit_is_measured_once_and_never_read_or_copied() -> None:
    qubits, other = Laboratory(0, "x").send(2, 3)
    for forbidden in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(QuantumError, match="copied"):
            forbidden(qubits)
    with pytest.raises(QuantumError, match="readable"):
        qubits.amplitude  # noqa: B018
    assert not hasattr(Qubits, "__dict__") or not vars(Qubits).get("__dict__")
    measure(qubits, np.zeros(3))
    with pytest.raises(QuantumError, match="measured"):
        rotate(qubits, np.zeros(3))
    first, _ = split(other, np.array([True, False, True]))
    with pytest.raises(QuantumError, match="measured"):
        measure(other, np.zeros(3))
    assert measure(first, np.zeros(2)).shape == (2,)


FORBIDDEN = {
    "_vault",
    "_Batch",
    "_Held",
    "_find",
    "_measure_along_z",
    "numpy_stream",
    "stream",
    "random",
    "Generator",
}


@pytest.mark.parametrize("name", ["parties", "phases", "state_tests", "layer", "round", "ledger", "resource"])
def test_no_partys_code_reaches_states_or_statistical_generators(name: str) -> None:
    source = (Path(qflsec.protocols.ghz.__path__[0]) / f"{name}.py").read_text()
    assert offences(source) == set()


def offences(source: str) -> set[str]:
    words: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            words.add(node.attr)
        elif isinstance(node, ast.Name):
            words.add(node.id)
        elif isinstance(node, ast.ImportFrom):
            words |= {alias.name for alias in node.names}
    return words & FORBIDDEN


def test_the_search_finds_one() -> None:
    assert offences("from qflsec.protocols.ghz.physics import _vault") == {"_vault"}
    assert offences("import numpy as np\nnp.random.default_rng(1)") == {"random"}

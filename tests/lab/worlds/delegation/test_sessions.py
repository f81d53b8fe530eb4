"""The matrix of the quantum server's attacks on sessions: specifications, cells, and what the preset shows."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from qflsec.attacks.server import FlipOutcomes, ReadDelta
from qflsec.base import ConfigError, QflsecError
from qflsec.circuits import build_circuit, pauli_z
from qflsec.circuits.circuit import Observable
from qflsec.lab import compare, from_json, load_spec, presets, to_dict, to_json
from qflsec.lab import run as run_spec
from qflsec.lab.worlds.delegation import (
    DelegationWorld,
    Device,
    SessionMatrixResult,
    SessionReport,
    run_session,
    server_attack_from_text,
    session_circuit,
    session_inputs,
)
from qflsec.lab.worlds.delegation.scores import angle_score, outcome_score, round_score
from qflsec.protocols.blind import PulsedSource, RoundCounts
from qflsec.report import render_report, write_report

SMALL = """
kind = "delegation"
name = "small"
description = "Two attacks, two clients."
seeds = [0, 1]
qubits = 1
layers = 1
shots = 300
tests = 300
threshold = 3
[clients.open]
pads = "none"
tests = 0
[clients."blind, tests"]
[[attacks]]
name = "flip-outcomes"
label = "a flip"
params = { fraction = 0.5 }
[[attacks]]
name = "read-delta"
"""


def write(tmp_path: Path, text: str = SMALL) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(text)
    return path


def run(path: Path | str, store: Path, seeds: tuple[int, ...] | None = None) -> SessionMatrixResult:
    result = run_spec(load_spec(path).with_seeds(seeds=seeds), store, jobs=1, command="a command")
    assert isinstance(result, SessionMatrixResult)
    return result


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SessionMatrixResult:
    folder = tmp_path_factory.mktemp("small")
    return run(write(folder), folder / "s.sqlite")


def test_every_pair_and_seed_is_run_and_told(small: SessionMatrixResult) -> None:
    result = small
    states = {key: cell.state for key, cell in result.cells.items()}
    assert states == {
        ("honest", "open"): "holds",
        ("honest", "blind, tests"): "holds",
        ("a flip", "open"): "wrong result",
        ("a flip", "blind, tests"): "aborted",
        ("read-delta", "open"): "leaks",
        ("read-delta", "blind, tests"): "holds",
    }
    document = json.loads(json.dumps(to_dict(result), allow_nan=False))
    assert document["schema"] == "qflsec-blind-matrix/2"
    assert document["seeded_secrets"] is True
    assert [cell["state"] for cell in document["cells"]] == list(states.values())
    flip = next(c for c in document["cells"] if (c["attack"], c["column"]) == ("a flip", "blind, tests"))
    assert flip["sessions_aborted"] == 2
    assert flip["aborts_by_cause"] == {"quantum server or wire": 2}
    assert flip["test_failure_rate_theory"] == 0.25
    assert [row["seed"] for row in flip["per_seed"]] == [0, 1]
    page = render_report(result)
    for words in ("wrong result", "a flip", "in 2 of 2", "a command"):
        assert words in page
    assert "Aborts by cause" in page
    assert "http:" not in page.replace(
        "http://www.w3.org/2000/svg", ""
    )  # the name of a language, not an address
    assert "https:" not in page


def test_the_document_comes_back_as_it_was(small: SessionMatrixResult) -> None:
    again = from_json(to_json(small))
    assert to_json(again) == to_json(small)
    assert all(part.same for part in compare(small, again))
    assert "NaN" not in to_json(small)


def test_a_report_that_cannot_be_written_is_told(small: SessionMatrixResult, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot write the report"):
        write_report(small, tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seeds = [0, 1]", "seeds = [0, 0]", "listed twice"),
        ("shots = 300", "shot = 300", "did you mean 'shots'"),
        ("qubits = 1", "qubits = 9", "qubits"),
        ('pads = "none"', 'pads = "some"', "pads"),
        ('pads = "none"', "mean_photons = -1.0", "clients.open: bad mean photon number"),
        ('name = "flip-outcomes"', 'name = "flip-outcome"', "did you mean 'flip-outcomes'"),
        ('name = "flip-outcomes"', 'name = "sign-flip"', "not an attack by the quantum server"),
        ("fraction = 0.5", "fraction = 5.0", "bad fraction"),
        ('label = "a flip"', 'label = "honest"', "a label is used twice"),
        ('name = "small"', 'name = "small', "not a TOML file"),
    ],
)
def test_mistakes_are_told_with_their_place(old: str, new: str, words: str, tmp_path: Path) -> None:
    assert old in SMALL
    with pytest.raises(QflsecError) as error:
        DelegationWorld.make(load_spec(write(tmp_path, SMALL.replace(old, new))))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


LEAKS = {
    "read-delta": {"delegated", "no angle pads", "no outcome pads"},
    "guess-rounds, by angles": {"no angle pads"},
    "weak-coherent": {"delegated", "no angle pads", "laser, tests"},
}
UNTESTED = {"delegated", "blind"}
FOOLED = {"guess-rounds", "skip-entanglement"}
"""What tests whose dummies are all |0> do not notice."""


def test_the_preset_shows_each_attack_and_its_cure(tmp_path: Path) -> None:
    """One seed; every attack succeeds on its controls and on untested clients, and on no others."""
    assert "blind-sessions" in presets()
    result = run("blind-sessions", tmp_path / "s.sqlite", seeds=(1,))
    for (row, column), cell in result.cells.items():
        if row == "honest":
            expected = "holds"
        elif row in LEAKS:
            expected = "leaks" if column in LEAKS[row] else "holds"
        elif column in UNTESTED or (column == "fixed dummies" and row in FOOLED):
            expected = "wrong result"
        else:
            expected = "aborted"
        assert cell.state == expected, cell.sentence


def test_attacks_from_text() -> None:
    assert server_attack_from_text("flip:0.2") == FlipOutcomes(fraction=0.2)
    assert server_attack_from_text("flip-outcomes:fraction=0.5,nodes=2") == FlipOutcomes(
        fraction=0.5, nodes=2
    )
    assert server_attack_from_text("read") == ReadDelta()
    for text in ("flip:0.2,1", "flip:often", "read:1", "dlg", "tickle", "flip:nodes=1.5"):
        with pytest.raises(QflsecError):
            server_attack_from_text(text)


def test_scores_against_closed_forms() -> None:
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, np.pi, 4000)
    assert angle_score([angles + np.pi], [angles]).value == pytest.approx(1)
    assert angle_score([angles + np.pi / 2], [angles]).value == pytest.approx(-1)
    blind = angle_score([rng.uniform(0, np.pi, 4000)], [angles])
    assert abs(blind.value) < 4.4 * math.sqrt(0.5 / 4000)
    # an interval that holds for every number of rounds is wider than one by the normal law, 0.022
    assert 1.96 * math.sqrt(0.5 / 4000) < blind.high - blind.value < 0.05
    bits = rng.integers(2, size=4000, dtype=np.uint8)
    assert outcome_score([bits], [bits]).value == 1
    assert outcome_score([1 - bits], [bits]).value == -1
    tests = np.arange(4000) % 2 == 0
    assert round_score(tests.astype(float), tests).value == 1
    half = round_score(np.ones(4000), tests)
    assert half.value == 0
    assert half.low < 0 < half.high


def test_inputs_are_away_from_zero() -> None:
    circuit = session_circuit(2, 2)
    found = run_session(
        None,
        Device(),
        circuit=circuit,
        weights=session_inputs(circuit, 3)[0],
        features=session_inputs(circuit, 3)[1],
        counts=RoundCounts(shots=10, tests=0, threshold=0, colours=1),
        seed=0,
    )
    assert np.abs(found.exact).min() > 0.4


def test_observables_of_several_patterns_are_refused() -> None:
    circuit = build_circuit(
        n_qubits=1,
        layers=1,
        ansatz="ry-cz",
        observables=(pauli_z(0, 1), Observable(((1.0, "X"),))),
    )
    with pytest.raises(ConfigError, match="measured together"):
        run_session(
            None,
            Device(),
            circuit=circuit,
            weights=np.zeros(1),
            features=np.zeros(1),
            counts=RoundCounts(shots=1, tests=0, threshold=0, colours=1),
            seed=0,
        )


@pytest.mark.parametrize(
    ("device", "promised"),
    [
        (Device(), True),
        (Device(pads="no-outcome-pads"), False),
        (Device(source=PulsedSource(mean_photons=0.5)), False),
    ],
)
def test_nothing_is_promised_of_a_client_that_does_not_keep_it(device: Device, promised: bool) -> None:
    circuit = session_circuit(1, 1)
    weights, features = session_inputs(circuit, 0)
    outcome = run_session(
        None,
        device,
        circuit=circuit,
        weights=weights,
        features=features,
        counts=RoundCounts(shots=100, tests=100, threshold=0, colours=1),
        seed=0,
    )
    report = SessionReport(
        outcome=outcome, device=device, attack=None, corrupted_fraction=0.1, seed=0, cpu_seconds=0.0
    )
    document = report.to_dict()
    kinds = {row["guarantee"] for row in document["ledger"]}
    assert kinds == ({"secrecy", "integrity"} if promised else {"not covered"})
    assert (document["soundness"] is not None) == promised

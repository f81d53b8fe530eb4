"""``qflsec blind`` and its matrix; ``qflsec bench blind``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]
FAST = ("--shots", "400", "--tests", "400")
SMALL = """
kind = "delegation"
name = "small"
seeds = [0]
qubits = 1
layers = 1
shots = 200
tests = 200
[clients.open]
pads = "none"
tests = 0
[clients.blind]
[[attacks]]
name = "random-answers"
"""
DOCUMENT = {
    "schema", "command", "circuit_qubits", "circuit_layers", "circuit_weights_rad", "circuit_features_rad", "executor",
    "embedding", "angle_grid_bits", "pads", "source_mean_photons_per_pulse", "source_line_transmittance",
    "depolarising", "attack", "seed", "seeded", "simulated", "server_sees", "cost", "tests", "accepted",
    "abort_reason", "result", "soundness", "judgement", "ledger",
}  # fmt: skip


def test_the_whole_session_is_printed(qflsec: Call) -> None:
    answer = qflsec("blind", *FAST)
    assert answer.code == 0
    for words in (
        "simulated", "10 nodes, 9 edges", "uniform", "qubits sent", "computations among", "failed tests", "RESULT",
        "exact", "soundness", "bias bound", "engineering", "ledger, secrecy", "ledger, integrity",
    ):  # fmt: skip
        assert words in answer.out, words
    assert "NOT UNIFORM" not in answer.out


def test_json_is_one_document(qflsec: Call) -> None:
    document = qflsec("blind", *FAST, "--seed", "3", "--json").json()
    assert set(document) == DOCUMENT
    assert document["schema"] == "qflsec-blind/1"
    assert document["command"].startswith("qflsec blind --shots 400")
    assert document["seed"] == 3
    assert document["accepted"] is True
    assert document["seeded"] is False
    assert document["cost"]["qubits_sent"] == 800 * document["server_sees"]["nodes"]
    assert document["cost"]["angles_sent_bits"] == 32 * document["cost"]["qubits_sent"]
    assert document["tests"]["failed"] == 0
    assert document["server_sees"]["angles_uniform_p_value"] > 1e-6
    assert len(document["result"]["estimate"]) == 2
    assert document["judgement"]["wrong_result_accepted"] is False


def test_an_abort_is_a_result(qflsec: Call) -> None:
    command = ("blind", "--qubits", "2", "--layers", "2", *FAST, "--attack", "flip:0.2")
    answer = qflsec(*command)
    assert answer.code == 0
    assert re.search(r"ABORTED: \d+ of 400 tests failed, at most 0 may. No result was released", answer.out)
    assert "theory under this attack without noise 0.1000" in answer.out
    document = qflsec(*command, "--json").json()
    assert document["accepted"] is False
    assert document["result"]["estimate"] is None
    assert document["abort_reason"]
    assert document["attack"] == {"name": "flip-outcomes", "fraction": 0.2, "nodes": 1}
    low, high = document["tests"]["failure_rate_interval"]
    assert low < 0.1 < high or abs(document["tests"]["failure_rate"] - 0.1) < 0.07


def test_without_tests_a_lie_is_accepted(qflsec: Call) -> None:
    answer = qflsec("blind", "--shots", "400", "--tests", "0", "--attack", "random")
    assert "NOTHING IS TESTED" in answer.out
    assert "WAS ACCEPTED" in answer.out


def test_what_the_server_learned_is_told(qflsec: Call) -> None:
    blind = qflsec("blind", *FAST, "--attack", "read", "--json").json()["judgement"]
    assert abs(blind["server_learned_angles"]["value"]) < 0.2
    for pads in ("none", "no-angle-pads"):
        document = qflsec("blind", *FAST, "--attack", "read", "--pads", pads, "--json").json()
        assert document["judgement"]["server_learned_angles"]["value"] > 0.99
        assert document["soundness"] is None
    assert "NOT UNIFORM" in qflsec("blind", *FAST, "--pads", "none").out


def test_a_laser_leaks_and_nothing_is_promised(qflsec: Call) -> None:
    options = ("--mean-photons", "2", "--transmittance", "0.5", "--attack", "weak-coherent", "--json")
    document = qflsec("blind", *FAST, *options).json()
    assert document["judgement"]["qubits_exposed_fraction"] > 0.5
    assert [row["guarantee"] for row in document["ledger"]] == ["not covered"]


def test_the_planner_chooses_tests_and_threshold(qflsec: Call) -> None:
    options = ("--shots", "200", "--target", "1e-2", "--noise", "0.02", "--corrupted-fraction", "0.2")
    document = qflsec("blind", *options, "--json").json()
    assert document["tests"]["threshold"] > 0
    assert document["soundness"]["soundness_error"] <= 1e-2


def test_the_exact_executor_is_called_a_shortcut(qflsec: Call) -> None:
    document = qflsec("blind", "--executor", "exact", "--json").json()
    assert document["judgement"]["error"] < 1e-7
    assert document["soundness"] is None
    assert document["ledger"] == []
    assert "no client can have it" in qflsec("blind", "--executor", "exact").out


def test_a_brickwork_shows_its_size_alone(qflsec: Call) -> None:
    answer = qflsec("blind", "--shots", "100", "--tests", "100", "--embedding", "brickwork", "--bits", "16")
    assert "a brickwork: its size alone" in answer.out
    assert "the numbers of wires and stages" in answer.out


def test_the_seed_is_of_nature_and_on_request_of_the_pads(qflsec: Call) -> None:
    def account(*options: str) -> dict[str, Any]:
        document = qflsec("blind", *FAST, "--json", *options).json()
        del document["cost"]["cpu_seconds"], document["command"]
        return dict(document)

    one, two = account(), account()
    assert one["circuit_weights_rad"] == two["circuit_weights_rad"]
    assert one["server_sees"] != two["server_sees"], "pads are fresh secrets"
    assert account("--seeded-secrets") == account("--seeded-secrets")
    assert "they protect nothing" in qflsec("blind", *FAST, "--seeded-secrets").out


MISTAKES = {
    "unknown attack": (("--attack", "tickle"), "unknown attack"),
    "attack elsewhere": (("--attack", "dlg"), "not one by the quantum server"),
    "attack parameter": (("--attack", "flip:2"), "bad fraction"),
    "attack words": (("--attack", "flip:0.1,2"), "a parameter without a name"),
    "embedding": (("--embedding", "torus"), "--embedding"),
    "executor": (("--executor", "guess"), "--executor"),
    "exact under attack": (("--executor", "exact", "--attack", "flip:1"), "shortcut"),
    "bits": (("--bits", "2"), "bad number of angle bits"),
    "noise": (("--depolarising", "2"), "bad depolarising"),
    "laser": (("--mean-photons", "-1"), "bad mean photon number"),
    "pads": (("--pads", "few"), "--pads"),
    "fraction": (("--corrupted-fraction", "0.9"), "--corrupted-fraction"),
    "target and tests": (("--target", "1e-3", "--tests", "5"), "leave out --tests"),
    "target": (("--target", "2"), "bad target"),
    "too much noise": (("--target", "1e-3", "--noise", "0.4"), "noise hides an attack"),
    "options of the wrong command": (("--json", "matrix"), "write them after 'matrix'"),
    "matrix": (("matrix", "blind-session"), "did you mean 'blind-sessions'"),
    "matrix report": (("matrix", "--report", "no/such/page.html"), "folder"),
}


@pytest.mark.parametrize("case", list(MISTAKES))
def test_a_mistake_is_one_clean_line(case: str, qflsec: Call) -> None:
    options, words = MISTAKES[case]
    answer = qflsec("blind", *options)
    assert answer.code == 2
    assert answer.out == ""
    (line,) = answer.err.strip().splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_a_matrix_of_ones_own(qflsec: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(SMALL)
    document = qflsec(
        "blind", "matrix", "small.toml", "--jobs", "1", "--report", "page.html", "--json"
    ).json()
    assert document["schema"] == "qflsec-blind-matrix/2"
    states = {(cell["attack"], cell["column"]): cell["state"] for cell in document["cells"]}
    assert states["random-answers", "open"] == "wrong result"
    assert states["random-answers", "blind"] == "aborted"
    assert "wrong result" in Path("page.html").read_text(encoding="utf-8")
    text = qflsec("blind", "matrix", "small.toml", "--jobs", "1", "--seeds", "3").out
    assert "WRONG RESULT" in text


def test_the_benchmark_prints_every_measurement(qflsec: Call) -> None:
    document = qflsec("bench", "blind", "--shots", "1000", "--json").json()
    assert document["schema"] == "qflsec-bench-blind/1"
    for name in (
        "seconds_per_shot_2_qubits_2_layers", "ratio_to_pennylane_2_qubits_2_layers", "seconds_per_shot_batch_1024",
        "seconds_per_amplitude_6_qubits_2_layers",
    ):  # fmt: skip
        assert document[name] > 0
    assert "microseconds per shot 4 qubits 2 layers" in qflsec("bench", "blind", "--shots", "1000").out


def test_the_documentation_names_every_field_and_option(qflsec: Call) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "blind.md").read_text(encoding="utf-8")

    def keys(value: Any) -> set[str]:
        if not isinstance(value, dict):
            return set()
        return set(value) | {key for part in value.values() for key in keys(part)}

    document = qflsec("blind", *FAST, "--json").json()
    for key in keys({name: part for name, part in document.items() if name != "ledger"}):
        assert f"`{key}`" in page, key


def test_the_preset_runs_as_any_other_matrix(
    qflsec: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    document = qflsec("matrix", "run", "blind-sessions", "--seeds", "0", "--jobs", "1", "--json").json()
    assert (document["name"], document["kind"]) == ("blind-sessions", "delegation")
    assert Path("blind-sessions.sqlite").exists()
    assert "blind-sessions" in qflsec("list", "presets").out

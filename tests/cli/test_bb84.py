"""``qflsec bb84`` and its matrix; ``qflsec bench bb84``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]
FAST = ("--pulses", "3e5", "--distance", "5", "--efficiency", "0.5")
SMALL = """
kind = "channel"
name = "small"
seeds = [0]
pulses = 200_000
[channel]
distance_km = 5.0
[countermeasures]
none = []
authentication = ["authentication"]
[[attacks]]
name = "man-in-the-middle"
"""


def test_the_whole_chain_is_printed(qflsec: Call) -> None:
    answer = qflsec("bb84", "--source", "single-photon", *FAST)
    assert answer.code == 0
    for words in ("detected", "sifted", "QBER", "leak", "rounds", "KEY", "bits per pulse", "equal: yes"):
        assert words in answer.out, words
    for words in ("secrecy 1e-10", "correctness 1e-15", "simulated", "net gain", "tolerated"):
        assert words in answer.out, words


def test_json_is_one_document_with_units(qflsec: Call) -> None:
    document = qflsec("bb84", *FAST, "--json", "--seed", "7").json()
    assert document["schema"] == "qflsec-bb84/1"
    assert document["command"].startswith("qflsec bb84 --pulses 3e5")
    assert document["seed"] == 7
    assert document["abort_reason"] is None
    assert document["key_length_bits"] > 0
    assert document["seeded"] is False
    assert document["attack"] is None
    assert document["judgement"]["claim_holds"] is True
    for name in (
        "pulses_detected", "sifted_bits", "qber", "qber_interval", "leak_ec_bits", "cascade_rounds", "f_ec_alice_only",
        "rate_bits_per_pulse", "net_gain_bits", "authentication_bits", "eps_sec", "eps_cor", "eps_auth", "eps_total",
        "cpu_seconds", "public_bytes",
    ):  # fmt: skip
        assert document[name] is not None, name


def test_an_abort_is_a_result(qflsec: Call) -> None:
    for options in (("--attack", "intercept-resend:0.2"), ("--actual-distance", "2000")):
        answer = qflsec("bb84", *FAST, *options, "--json")
        assert answer.code == 0
        document = answer.json()
        assert document["key_length_bits"] == document["rate_bits_per_pulse"] == 0
        assert document["abort_reason"]
        assert document["judgement"]["key_claimed"] is False
    text = qflsec("bb84", *FAST, "--attack", "intercept-resend:0.2")
    assert text.code == 0
    assert "ABORTED: test error rate above tolerance. No key was released." in text.out
    assert "Eve knows" in text.out


def test_a_false_claim_is_called_false(qflsec: Call) -> None:
    command = ("bb84", *FAST, "--attack", "trojan-horse")
    assert "the claim is FALSE" in qflsec(*command).out
    assert "FALSE" not in qflsec(*command, "--countermeasure", "isolator").out


def test_an_unproved_length_is_called_unproved(qflsec: Call) -> None:
    assert "NO PROOF COVERS IT" in qflsec("bb84", *FAST, "--source", "weak-coherent").out


def test_the_seed_is_of_the_physics_and_on_request_of_the_secrets(qflsec: Call) -> None:
    def account(*options: str) -> dict[str, Any]:
        document = qflsec("bb84", *FAST, "--json", *options).json()
        del document["cpu_seconds"], document["command"]
        return dict(document)

    one, two = account(), account()
    assert one["pulses_detected"] == two["pulses_detected"]
    assert one["sifted_key_basis_bits"] != two["sifted_key_basis_bits"], "bases are fresh secrets"
    seeded = account("--seeded-secrets")
    assert seeded == account("--seeded-secrets")
    assert seeded["seeded"] is True
    assert "protects nothing" in qflsec("bb84", *FAST, "--seeded-secrets").out


@pytest.mark.parametrize("name", ["run.html", "run.png"])
def test_a_figure_is_saved(name: str, qflsec: Call, tmp_path: Path) -> None:
    if name.endswith("png"):
        pytest.importorskip("matplotlib")
    answer = qflsec("bb84", *FAST, "--out", str(tmp_path / name), "--json")
    assert (tmp_path / name).stat().st_size > 1000
    assert answer.json()["schema"] == "qflsec-bb84/1"


MISTAKES = {
    "negative distance": (("--distance", "-1"), "impossible distance_km"),
    "part of a pulse": (("--pulses", "10.5"), "a whole number"),
    "no number": (("--pulses", "many"), "a whole number"),
    "infinitely many": (("--pulses", "inf"), "a whole number"),
    "basis bias": (("--basis-bias", "1.5"), "impossible basis bias"),
    "intensity": (("--source", "weak-coherent", "--intensity", "-1"), "impossible intensities"),
    "source": (("--source", "candle"), "unknown source"),
    "too far": (("--distance", "500"), "no key can be made"),
    "unknown attack": (("--attack", "tickle"), "unknown attack"),
    "attack elsewhere": (("--attack", "dlg"), "not one on the quantum channel"),
    "attack parameter": (("--attack", "intercept-resend:2"), "impossible fraction"),
    "attack source": (("--attack", "photon-number-splitting"), "several photons"),
    "countermeasure": (("--countermeasure", "tin-foil"), "unknown countermeasure"),
    "secrecy": (("--eps-sec", "2"), "impossible eps_sec"),
    "accounting": (("--accounting", "creative"), "--accounting"),
    "schedule": (("--schedule", "none"), "unknown schedule"),
    "tags": (("--tags", "none"), "--tags"),
    "figure": (("--out", "run.gif"), "unknown kind of figure"),
    "figure folder": (("--out", "no/such/run.html"), "folder of the figure"),
    "options of the wrong command": (("--json", "matrix"), "write them after 'matrix'"),
    "matrix": (("matrix", "bb48"), "did you mean 'bb84'"),
    "matrix report": (("matrix", "--report", "no/such/page.html"), "folder"),
}


@pytest.mark.parametrize("case", list(MISTAKES))
def test_a_mistake_is_one_clean_line(case: str, qflsec: Call) -> None:
    options, words = MISTAKES[case]
    answer = qflsec("bb84", *options)
    assert answer.code == 2
    assert answer.out == ""
    (line,) = answer.err.strip().splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_a_matrix_of_ones_own(qflsec: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(SMALL)
    answer = qflsec("bb84", "matrix", "small.toml", "--jobs", "1", "--report", "page.html", "--json")
    document = answer.json()
    assert document["schema"] == "qflsec-bb84-matrix/2"
    states = {(cell["attack"], cell["column"]): cell["state"] for cell in document["cells"]}
    assert states["man-in-the-middle", "none"] == "false key"
    assert states["man-in-the-middle", "authentication"] == "no key"
    assert "false key" in Path("page.html").read_text(encoding="utf-8")
    text = qflsec("bb84", "matrix", "small.toml", "--jobs", "1", "--seeds", "3").out
    assert re.search(r"^man-in-the-middle +FALSE KEY.*\n +detected 0/1 ", text, re.MULTILINE)


def test_the_preset_is_a_preset_like_the_others(qflsec: Call) -> None:
    assert "bb84" in qflsec("list", "presets").out
    assert "[countermeasures]" in qflsec("show", "bb84").out


def test_a_matrix_of_another_kind_is_told_apart(qflsec: Call) -> None:
    answer = qflsec("bb84", "matrix", "quickstart")
    assert answer.code == 2
    assert "not a channel matrix" in answer.err
    assert "'qflsec matrix run' takes every kind" in answer.err


def test_the_benchmark_prints_ratios(qflsec: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    import qflsec.protocols.bb84.bench as quantum
    import qflsec.protocols.bb84.bench_post as post

    monkeypatch.setattr(quantum, "bench_quantum", lambda seed: {"ratio_to_qiskit": 12345.0 + seed})
    measured = post.bench_post
    monkeypatch.setattr(
        post, "bench_post", lambda runs, largest: measured(runs=runs, n=3000, largest=largest)
    )
    command = ("bench", "bb84", "--runs", "1", "--largest", "100000", "--seed", "1")
    document = qflsec(*command, "--json").json()
    assert document["schema"] == "qflsec-bench-bb84/1"
    assert document["quantum"] == {"ratio_to_qiskit": 12346.0}
    assert document["cascade"][0]["bits"] == 3000
    text = qflsec(*command).out
    for words in ("ratio to qiskit", "12,346", "f_EC", "Toeplitz 100,000 bits", "rounds"):
        assert words in text, words


def test_every_field_is_documented_and_every_documented_field_is_there(qflsec: Call) -> None:
    page = (Path(__file__).parents[2] / "docs" / "bb84.md").read_text(encoding="utf-8")
    section = page.split("## The JSON document")[1].split("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    documented = {name for row in rows for name in re.findall(r"`([a-z0-9_]+)`", row[1])}
    judged = set(re.findall(r"`([a-z0-9_]+)`", rows[-1][2]))
    document = qflsec("bb84", *FAST, "--json").json()
    assert documented == set(document)
    assert judged == set(document["judgement"])

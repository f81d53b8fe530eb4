"""A matrix whose pipeline has shots and noise, and stacks that set them: attacks run, ledgers are stored."""

from __future__ import annotations

from pathlib import Path

from qflsec.circuits import NoiseModel
from qflsec.lab import parse_spec, run
from qflsec.lab.worlds.federation.matrix import build_matrix
from qflsec.models import Execution

EXECUTION = """execution = { shots = 8, gradient = "parameter-shift", noise = { kind = "global-depolarizing", p = 0.1 } }
"""


def noisy_text(text: str) -> str:
    head = text.split("[[attacks]]", maxsplit=1)[0]
    before, after = head.split("[stacks]")
    stacks = """[stacks]
none = []
noisy = [{ name = "few-shots", shots = 4 }, { name = "depolarizing-noise", target_epsilon = 8.0 }]
"""
    attacks = """
[[attacks]]
name = "loss-threshold"
pipeline = "main"
threat = "server"

[[attacks]]
name = "dlg"
pipeline = "main"
threat = "server"
params = { restarts = 2, iterations = 4 }
"""
    threats = "[threats" + after.split("[threats", maxsplit=1)[1]
    return before + stacks + threats + attacks


def test_inference_attacks_meet_noise_and_shots(tiny_text: str, tmp_path: Path) -> None:
    spec = parse_spec(noisy_text(tiny_text), base=tmp_path)
    result = run(spec, tmp_path / "s.sqlite", jobs=1)
    for attack in ("loss-threshold", "dlg"):
        for stack in ("none", "noisy"):
            assert [row.status for row in result.cells[attack, stack].per_seed] == ["ok", "ok"]
    rows = {
        stack: [row for row in found if row["guarantee"] == "differential privacy"]
        for (stack, _), found in result.ledgers.items()
    }
    assert rows["none"] == []
    assert [row["layer"] for row in rows["noisy"]] == ["depolarizing-noise"]
    assert 8.0 * 0.98 <= rows["noisy"][0]["epsilon"] <= 8.0


def test_a_pipeline_names_its_noise(tiny_text: str, tmp_path: Path) -> None:
    text = tiny_text.replace("\n[stacks]", EXECUTION + "\n[stacks]", 1)
    pipeline = build_matrix(parse_spec(text, base=tmp_path)).pipelines["main"]
    noise = NoiseModel(kind="global-depolarizing", p=0.1, where="measurement")
    assert pipeline.execution == Execution(shots=8, gradient="parameter-shift", noise=noise)

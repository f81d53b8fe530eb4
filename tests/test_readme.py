"""The README's code blocks do what the README says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(title: str) -> str:
    found = re.search(rf"<!-- tested: {re.escape(title)} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found is not None, title
    return found.group(1)


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_own_attack_and_defense_are_short_and_work(tmp_path: Path) -> None:
    code = block("own attack and defense")
    attack, defense = code.split('@register("layer"')
    assert len(attack.splitlines()) <= 20
    assert len(defense.splitlines()) <= 20
    (tmp_path / "mine.py").write_text(code)
    (tmp_path / "matrix.toml").write_text(
        """
name = "mine"
seeds = [0]
plugins = ["mine.py"]
[pipelines.p]
data = { name = "breast-cancer", n_features = 2, members = 30, nonmembers = 10, auxiliary = 10, test = 40 }
model = { name = "vqc", n_qubits = 2, layers = 1, n_features = 2 }
federation = { n_clients = 5, rounds = 2 }
[stacks]
none = []
drop-longest = [{ name = "drop-longest", n = 1 }]
[threats.one]
kind = "corrupted-clients"
n = 1
[[attacks]]
name = "freeze"
pipeline = "p"
threat = "one"
params = { strength = 2.0 }
"""
    )
    out = run("-m", "qflsec", "matrix", "run", "matrix.toml", "--jobs", "1", "--json", cwd=tmp_path)
    assert '"freeze"' in out
    assert "drop-longest" in out


def test_own_model_and_data_work(tmp_path: Path) -> None:
    (tmp_path / "circuit.py").write_text(
        """
import pennylane as qml

@qml.qnode(qml.device("default.qubit", wires=2))
def circuit(features, weights):
    qml.AngleEmbedding(features, wires=[0, 1])
    qml.RY(weights[0], wires=0)
    qml.RY(weights[1], wires=1)
    qml.CNOT(wires=[0, 1])
    qml.RX(weights[2], wires=0)
    qml.RY(weights[3], wires=1)
    return qml.expval(qml.PauliZ(0))
"""
    )
    generator = np.random.default_rng(0)
    rows = ["size,shape,diagnosis"]
    for index in range(80):
        kind = index % 2
        size, shape = generator.normal(kind, 0.4, size=2)
        rows.append(f"{size:.4f},{shape:.4f},{'sick' if kind else 'well'}")
    (tmp_path / "records.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "matrix.toml").write_text(
        'name = "mine"\nseeds = [0]\n'
        + block("own model and data")
        + '[stacks]\nnone = []\n[threats.s]\nkind = "honest-but-curious-server"\n'
        + '[[attacks]]\nname = "loss-threshold"\npipeline = "mine"\nthreat = "s"\n'
    )
    assert len([line for line in block("own model and data").splitlines() if "=" in line]) == 3
    out = run("-m", "qflsec", "matrix", "run", "matrix.toml", "--jobs", "1", "--json", cwd=tmp_path)
    assert '"loss-threshold"' in out


def test_from_python(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(block("from Python"))
    out = run("script.py", cwd=tmp_path)
    assert "('aggregate', 'plain', 5)" in out
    assert "('update', 'masked', 1)" in out
    assert "('update', 'plain', 1)" not in out

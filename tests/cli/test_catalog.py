"""``qflsec list``, ``qflsec show``, and how quickly the command line answers."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from qflsec.base import names

Call = Callable[..., Any]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("attacks", "loss-threshold"),
        ("layers", "dp-sgd"),
        ("datasets", "breast-cancer"),
        ("models", "vqc"),
        ("partitions", "dirichlet"),
        ("threats", "wire-eavesdropper"),
        ("panels", "matrix"),
        ("presets", "quickstart"),
    ],
)
def test_list(kind: str, name: str, qflsec: Call) -> None:
    text = qflsec("list", kind).out
    document = qflsec("list", kind, "--json").json()
    assert (document["schema"], document["kind"]) == ("qflsec-list/1", kind)
    assert name in {item["name"] for item in document["items"]}
    assert len(text.splitlines()) == len(document["items"])
    said = [item["idea"] for item in document["items"]]
    assert [idea for idea in said if not re.match(r"[A-Z0-9].*\.$", idea)] == [], "a sentence each"


def test_show_an_attack(qflsec: Call) -> None:
    text = qflsec("show", "scaled-sign-flip").out
    assert "kind: attack" in text
    assert "scale: 5.0" in text
    (item,) = qflsec("show", "scaled-sign-flip", "--json").json()["items"]
    assert item["parameters"] == {"scale": 5.0}
    assert item["family"] == "poisoning"
    assert item["source"]


def test_show_a_preset_prints_the_file(qflsec: Call) -> None:
    assert "[[attacks]]" in qflsec("show", "quickstart").out


def test_everything_listed_can_be_shown(qflsec: Call) -> None:
    for kind in ("attack", "layer", "dataset", "model", "partition", "threat", "panel"):
        for name in names(kind):  # type: ignore[arg-type]
            assert qflsec("show", name, "--json").code == 0, name


def test_help_imports_nothing_heavy() -> None:
    """What makes help slow is an import of torch or PennyLane, so their absence is what is tested."""
    program = (
        "import sys, qflsec.cli\n"
        "from qflsec.cli.app import app\n"
        "try:\n"
        "    app(sys.argv[1:])\n"
        "except SystemExit:\n"
        "    pass\n"
        "heavy = {'torch', 'pennylane', 'numpy', 'scipy', 'sklearn', 'qiskit', 'opacus', 'joblib', 'qflsec.lab'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    for arguments in (["--help"], ["matrix", "--help"], ["matrix", "run", "--help"], ["--version"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stdout.rstrip().endswith("HEAVY []"), done.stdout[-200:]


def test_version(qflsec: Call) -> None:
    import qflsec as package

    assert qflsec("--version").out == f"qflsec {package.__version__}\n"

"""``qflsec list``, ``qflsec show``, and how quickly the command line answers."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qflsec.base import ConfigError, names
from qflsec.cli.catalog import _PLURALS, described_parameters, things

Call = Callable[..., Any]
PLUGIN = '''
from qflsec.base import register

@register("dataset", "mine")
def read(spec):
    """My records."""
'''
MODEL = '''
from dataclasses import dataclass
from qflsec.models import Fields, ModelKeys, configured_by

@dataclass(frozen=True, kw_only=True)
class Keys(ModelKeys):
    """Keys of my model.

    Attributes:
        width: How wide it is.
    """

    width: int = 3

@register("model", "wide")
@configured_by(Keys)
def build(config):
    """My model."""
    return Fields(config, Keys).integer("width")
'''


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("attacks", "loss-threshold"),
        ("defenses", "dp-sgd"),
        ("protocols", "secagg"),
        ("layers", "dp-sgd"),
        ("topologies", "ring"),
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
    assert (document["schema"], document["kinds"]) == ("qflsec-list/2", [kind])
    assert name in {item["name"] for item in document["items"]}
    assert len(text.splitlines()) == len(document["items"])
    said = [item["idea"] for item in document["items"]]
    assert [idea for idea in said if not re.match(r"[A-Z0-9].*\.$", idea)] == [], "a sentence each"


def test_every_layer_is_a_defense_or_a_protocol(qflsec: Call) -> None:
    layers, defenses, protocols = (
        {item["name"] for item in qflsec("list", kind, "--json").json()["items"]}
        for kind in ("layers", "defenses", "protocols")
    )
    assert (defenses | protocols, defenses & protocols) == (layers, set())
    assert {"median", "dp-fedavg", "few-shots"} <= defenses
    assert {"secagg", "otp-link", "blind", "ghz"} <= protocols


def test_a_list_of_everything(qflsec: Call) -> None:
    text = qflsec("list").out
    assert re.search(r"^protocols:\n(  .*\n)*  secagg +[A-Z]", text, re.MULTILINE)
    items = qflsec("list", "--json").json()["items"]
    assert {item["kind"] for item in items} == set(_PLURALS.values()) - {"layer"}
    names = [(item["kind"], item["name"]) for item in items]
    assert len(set(names)) == len(names) == len(re.findall("^  ", text, re.MULTILINE))


def test_show_an_attack(qflsec: Call) -> None:
    text = qflsec("show", "scaled-sign-flip").out
    assert "kind: attack" in text
    assert "  scale: number, 5.0 by default. " in text
    (item,) = qflsec("show", "scaled-sign-flip", "--json").json()["items"]
    scale = item["parameters"].pop("scale")
    assert not item["parameters"]
    assert scale.pop("about")
    assert scale == {"type": "number", "required": False, "default": 5.0, "unit": None}
    assert item["family"] == "poisoning"
    assert item["source"]


def test_models_say_what_their_builders_read(qflsec: Call) -> None:
    text = qflsec("show", "vqc").out
    assert "  layers: whole number, 3 by default. Layers of weights." in text
    assert (
        '  encoder: "angle" or "amplitude" or "reuploading" or "amplitude-angle", "angle" by default.' in text
    )
    assert "  path: text, required. " in qflsec("show", "qnode").out
    for name, builder in things("model").items():
        with pytest.raises(ConfigError) as refused:
            builder({"name": name, "no-such-key": 1})
        assert str(refused.value.expected).removeprefix("one of ").split(", ") == sorted(
            parameter.name for parameter in described_parameters("model", builder)
        )


def test_show_says_types_units_and_what_has_no_default(qflsec: Call) -> None:
    assert "phase: number (radians), " in qflsec("show", "ghz-phase-shift").out
    data = qflsec("show", "csv").out
    assert "path: text, none by default. " in data
    assert 'reduction: "pca" or "pool" or "first" or "none", "pca" by default. ' in data
    assert "alpha: number, 0.5 by default. Concentration" in qflsec("show", "dirichlet").out


def test_list_and_show_see_plugins_of_the_user(
    qflsec: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(PLUGIN)
    Path("other.py").write_text(PLUGIN.replace("mine", "other"))
    assert "mine" not in qflsec("list", "models").out
    text = qflsec("list", "datasets", "--plugins", "own.py", "--plugins", "other.py").out
    assert re.search("^mine +My records.$", text, re.MULTILINE)
    assert re.search("^other +My records.$", text, re.MULTILINE)
    Path("model.py").write_text(PLUGIN.replace("mine", "third") + MODEL)
    assert (
        "  width: whole number, 3 by default. How wide it is.\n"
        in qflsec("show", "wide", "--plugins", "model.py").out
    )
    shown = qflsec("show", "mine", "--plugins", "own.py").out
    assert "idea: My records." in shown
    assert "members: whole number, 160 by default." in shown
    missing = qflsec("list", "datasets", "--plugins", "none.py")
    assert (missing.code, missing.out) == (2, "")
    assert "plugin 'none.py' cannot be imported" in missing.err


@pytest.mark.parametrize("kind", sorted({*_PLURALS.values()} - {"preset"}))
def test_every_parameter_has_a_sentence(kind: str) -> None:
    for name, thing in things(kind).items():
        for parameter in described_parameters(kind, thing):
            assert re.match(r"[A-Z`].*\.$", parameter.about), (kind, name, parameter)


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

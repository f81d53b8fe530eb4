"""The pages on adding things do what they say, from one new file each, through the command."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = """
model = { name = "vqc", n_qubits = 2, layers = 1, n_features = 2 }
federation = { n_clients = 7, rounds = 3, learning_rate = 0.5, declared_corrupted = 2 }
"""
DATA = 'data = { name = "breast-cancer", n_features = 2, members = 42, nonmembers = 10, auxiliary = 10, test = 60 }'


def block(page: str, name: str | None = None) -> str:
    """The block of a page that is marked with this name, the page's own by default."""
    text = (ROOT / "docs" / "adding" / f"{page}.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- tested: {name or page} -->\n```python\n(.*?)```", text, re.DOTALL)
    assert found is not None, page
    return found.group(1)


def run_matrix(folder: Path, page: str | None, body: str) -> dict[str, Any]:
    """Run a matrix with the page's code as its only plugin, where there is a page."""
    if page is not None:
        (folder / "mine.py").write_text(block(page))
    plugins = "" if page is None else 'plugins = ["mine.py"]\n'
    (folder / "matrix.toml").write_text(f'name = "mine"\nseeds = [0, 1]\n{plugins}{body}')
    command = [sys.executable, "-m", "qflsec", "matrix", "run", "matrix.toml", "--jobs", "1", "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def cells(result: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(cell["attack"], cell["stack"]): cell for cell in result["cells"]}


def test_a_rule(tmp_path: Path) -> None:
    """The medoid stands a scaled sign flip of two of ten clients that turns the mean round."""
    result = run_matrix(
        tmp_path,
        "rule",
        """
[pipelines.p]
data = { name = "breast-cancer", n_features = 4, members = 100, nonmembers = 0, auxiliary = 100, test = 200 }
model = { name = "vqc", n_qubits = 4, layers = 3 }
federation = { n_clients = 10, rounds = 15, local_steps = 2, learning_rate = 0.5 }
[stacks]
none = []
medoid = [{ name = "medoid" }]
masked-medoid = [{ name = "masked" }, { name = "medoid" }]
[threats.two]
kind = "corrupted-clients"
n = 2
[[attacks]]
name = "scaled-sign-flip"
pipeline = "p"
threat = "two"
""",
    )
    found = cells(result)
    assert (
        found["scaled-sign-flip", "medoid"]["advantage"]["value"]
        < 0.5
        < found["scaled-sign-flip", "none"]["advantage"]["value"]
    )
    assert found["scaled-sign-flip", "masked-medoid"]["state"] == "incompatible"


def test_a_topology(tmp_path: Path) -> None:
    """From the wire of a turning ring, gradient matching has single updates, and no server is there to corrupt."""
    result = run_matrix(
        tmp_path,
        "topology",
        f"""
[pipelines.p]
topology = {{ name = "turning-ring" }}
{DATA}
{PIPELINE}
[stacks]
none = []
masked = [{{ name = "masked" }}]
[threats.wire]
kind = "wire-eavesdropper"
[threats.server]
kind = "honest-but-curious-server"
[[attacks]]
name = "loss-threshold"
pipeline = "p"
threat = "wire"
[[attacks]]
name = "loss-threshold"
label = "by the server"
pipeline = "p"
threat = "server"
""",
    )
    found = cells(result)
    assert found["loss-threshold", "none"]["state"] in {"ok", "no power", "too few seeds"}
    assert found["loss-threshold", "masked"]["state"] == "incompatible"
    assert found["by the server", "none"]["state"] == "incompatible"


def test_a_data_set(tmp_path: Path) -> None:
    result = run_matrix(
        tmp_path,
        "dataset",
        f"""
[pipelines.p]
data = {{ name = "two-moons", n_features = 2, reduction = "none", preprocessing = "fixed-range", members = 42, nonmembers = 10, auxiliary = 10, test = 60 }}
{PIPELINE}
[stacks]
none = []
[threats.s]
kind = "honest-but-curious-server"
[[attacks]]
name = "loss-threshold"
pipeline = "p"
threat = "s"
""",
    )
    assert cells(result)["loss-threshold", "none"]["state"] != "failed"


def test_a_protocol(tmp_path: Path) -> None:
    """Of masked vectors the server reads the sum alone, and gradient matching has no single update."""
    result = run_matrix(
        tmp_path,
        "protocol",
        f"""
[pipelines.p]
{DATA}
{PIPELINE}
[stacks]
none = []
paired = [{{ name = "paired" }}]
paired-median = [{{ name = "paired" }}, {{ name = "median" }}]
[threats.s]
kind = "honest-but-curious-server"
[[attacks]]
name = "loss-threshold"
pipeline = "p"
threat = "s"
""",
    )
    found = cells(result)
    assert found["loss-threshold", "paired"]["state"] not in {"failed", "aborted", "blocked"}
    assert found["loss-threshold", "paired-median"]["state"] == "incompatible"


def test_a_protocol_on_its_own() -> None:
    from qflsec.protocols.secagg.one_round import run_round
    from qflsec.protocols.secagg.who_sees_what import sights

    names: dict[str, Any] = {"__name__": "paired"}
    sys.modules["paired"] = type(sys)("paired")
    sys.modules["paired"].__dict__.update(names)
    exec(compile(block("protocol"), "paired.py", "exec"), sys.modules["paired"].__dict__)
    report = run_round(sys.modules["paired"].Paired(), n_clients=5, n_params=20)
    assert (report.status, report.survivors) == ("sum", (0, 1, 2, 3, 4))
    assert report.encoding_error is not None
    assert report.encoding_error < 1e-12
    seen = {sight.observer: sight for sight in sights(report, 5)}
    assert seen["the server"].reads == ()
    assert seen["the server"].sums == ((5, 5),)
    assert seen["the server and 4 clients"].reads == (4,)
    dropped = run_round(sys.modules["paired"].Paired(), n_clients=5, n_params=20, drop=(4,))
    assert "missing or malformed" in dropped.reason


def test_a_model(tmp_path: Path) -> None:
    """A module of convolutions, a quantum layer and a head, with a loss of its own, is trained, attacked and protected."""
    (tmp_path / "net.py").write_text(block("model"))
    (tmp_path / "focal.py").write_text(block("model", "loss"))
    result = run_matrix(
        tmp_path,
        None,
        """
[pipelines.p]
data = { name = "digits", classes = [0, 1, 2], n_features = 64, reduction = "none", members = 30, nonmembers = 10, auxiliary = 10, test = 30 }
model = { name = "torch", path = "net.py:make_model", input_shape = [1, 8, 8], loss = "focal.py:focal" }
federation = { n_clients = 3, rounds = 2, learning_rate = 0.1 }
[stacks]
none = []
private = [{ name = "dp-sgd", noise_multiplier = 1.0, delta = 1e-3 }]
[threats.s]
kind = "honest-but-curious-server"
[[attacks]]
name = "sum-alignment"
pipeline = "p"
threat = "s"
""",
    )
    found = cells(result)
    assert {cell["state"] for cell in found.values()} <= {"ok", "no power", "too few seeds"}
    assert len(found) == 2

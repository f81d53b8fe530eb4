"""Noise, clips and models: each fault planted, and the same pipeline without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from qflsec.audit import Bench, CheckRun, Verdict
from qflsec.audit.check import examined
from qflsec.audit.claim import claim_from_config
from qflsec.audit.collect import parts_of
from qflsec.audit.parts import Part
from qflsec.base import ConfigError, find

HAND = (
    "import numpy as np\nC, S = 1.0, 2.0\nR = np.random.default_rng()\n"
    "def clip(u): return u * min(1.0, C / max(np.linalg.norm(u), 1e-12))\ndef noise(n): return R.normal(0, S, n)\n"
)
RIGHT = HAND + "def privatise(u): return clip(u) + noise(u.size)\n"
BY_HAND = [
    ("no-noise", HAND + "def privatise(u): return clip(u)\n"),
    ("noise-on-some", HAND + "def privatise(u):\n    u = clip(u)\n    u[: u.size // 2] += noise(u.size // 2)\n    return u\n"),
    ("unclipped-release", HAND + "def privatise(u): return u + noise(u.size)\n"),
    ("noise-before-clip", HAND + "def privatise(u): return clip(u + noise(u.size))\n"),
]  # fmt: skip

OPACUS = """
import torch, numpy as np
from opacus import PrivacyEngine
from torch.utils.data import DataLoader, TensorDataset

X = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
LOADER = DataLoader(TensorDataset(X, Y), batch_size=16)

def load_data():
    return (X.numpy(), Y.numpy())

def model():
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))

def make_private():
    module = model()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    module, optimiser, loader = PrivacyEngine().make_private(
        module=module, optimizer=optimiser, data_loader=LOADER, noise_multiplier=1.0, max_grad_norm=1.0{options}
    )
{after}    return module, optimiser, loader
"""
UNDER_OPACUS = [
    ("fixed-batches", "", "    loader = DataLoader(TensorDataset(X, Y), batch_size=16)\n"),
    ("fixed-batches", ", poisson_sampling=False", ""),
    ("repeatable-noise", ", noise_generator=torch.Generator().manual_seed(7)", ""),
    ("repeatable-noise", "", "    torch.manual_seed(0)\n"),
    (
        "noise-on-some-parameters",
        "",
        (
            "    kept = optimiser.add_noise\n"
            "    def add_noise():\n"
            "        kept()\n"
            "        optimiser.params[0].grad = optimiser.params[0].summed_grad.clone()\n"
            "    optimiser.add_noise = add_noise\n"
        ),
    ),
    (
        "noise-on-some-parameters",
        "",
        (
            "    kept = optimiser.add_noise\n"
            "    def add_noise():\n"
            "        optimiser.noise_multiplier /= 3\n"
            "        kept()\n"
            "        optimiser.noise_multiplier *= 3\n"
            "    optimiser.add_noise = add_noise\n"
        ),
    ),
    (
        "clip-norm-exceeded",
        "",
        (
            "    def clip_and_accumulate():\n"
            "        for p in optimiser.params:\n"
            "            p.summed_grad = p.grad_sample.sum(0) * 1e3\n"
            "    optimiser.clip_and_accumulate = clip_and_accumulate\n"
        ),
    ),
]


def parts(folder: Path, text: str) -> list[Part]:
    (folder / "pipe.py").write_text(text)
    return parts_of(folder, "pipe.py", given={}, wanted="")[0]


def run(check: str, found: list[Part]) -> CheckRun:
    made = find("check", check)()
    (part,) = [one for one in found if isinstance(one, made.looks_at)]
    return examined(check, made, part, Bench())


def opacus(options: str = "", after: str = "") -> str:
    return OPACUS.replace("{options}", options).replace("{after}", after)


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> list[Part]:
    return parts(tmp_path_factory.mktemp("right"), opacus())


@pytest.mark.parametrize(("check", "text"), BY_HAND, ids=[case[0] for case in BY_HAND])
def test_noise_by_hand(tmp_path: Path, check: str, text: str) -> None:
    assert run(check, parts(tmp_path, text)).state == "found"
    (tmp_path / "right").mkdir()
    assert run(check, parts(tmp_path / "right", RIGHT)).state == "clean"


@pytest.mark.parametrize(
    ("check", "options", "after"), UNDER_OPACUS, ids=[f"{i}-{case[0]}" for i, case in enumerate(UNDER_OPACUS)]
)
def test_under_opacus(tmp_path: Path, right: list[Part], check: str, options: str, after: str) -> None:
    faulty = run(check, parts(tmp_path, opacus(options, after)))
    assert faulty.state == "found"
    assert faulty.findings[0].severity == "error"
    assert run(check, right).state == "clean"


def claim(found: list[Part], **table: object) -> Verdict:
    return claim_from_config(table).verdict(found, Bench())


def test_the_account_of_what_is_done(tmp_path: Path, right: list[Part]) -> None:
    given = {"kind": "opacus-dp", "delta": 1e-5, "epochs": 2}
    true = claim(right, epsilon=20.0, **given)
    assert true.judgement == "proved by check"
    assert 0 < float(true.evidence["PRV"]) < float(true.evidence["RDP"]) < 20
    assert claim(right, epsilon=1.0, **given).judgement == "refuted"
    assert claim(right, epsilon=float(true.evidence["PRV"]) + 0.1, **given, runs=9).judgement == "refuted"
    broken = claim(parts(tmp_path, opacus(", poisson_sampling=False")), epsilon=20.0, **given)
    assert broken.judgement == "refuted"
    assert "no epsilon follows" in broken.why
    assert claim([], epsilon=1.0, **given).judgement == "not tested"
    with pytest.raises(ConfigError, match="lacks a key"):
        claim([], kind="opacus-dp", epsilon=1.0)


HELPER = "import torch\ntorch.manual_seed(3)\n"
SEEDED_IMPORTS = {
    "torch at the top": "torch.manual_seed(0)\n",
    "every generator at the top": "np.random.seed(0)\ntorch.manual_seed(np.random.randint(9))\n",
    "a file that it imports": "import helper\n",
    "a generator at the top": "GEN = torch.Generator().manual_seed(7)\n",
}
UNSEEDED_IMPORTS = {
    "of the records": "R = np.random.default_rng(0)\n",
    "taken back": "torch.manual_seed(0)\nW = torch.randn(3)\ntorch.seed()\n",
    "from the system": "import secrets\ntorch.manual_seed(secrets.randbits(63))\n",
}


def top(folder: Path, line: str) -> list[Part]:
    folder.mkdir(exist_ok=True)
    (folder / "helper.py").write_text(HELPER)
    options = ", noise_generator=GEN" if "GEN" in line else ""
    return parts(folder, opacus(options).replace("\nX = ", f"\n{line}X = ", 1))


@pytest.mark.parametrize("line", SEEDED_IMPORTS.values(), ids=SEEDED_IMPORTS)
def test_a_seed_that_importing_sets_fixes_the_noise(tmp_path: Path, line: str) -> None:
    """Two processes would draw the same noise, however often one of them makes the set-up."""
    seeded = top(tmp_path, line)
    made = run("repeatable-noise", seeded)
    assert made.state == "found"
    assert "importing the file sets the seed" in made.findings[0].what
    verdict = claim(seeded, kind="opacus-dp", delta=1e-5, epochs=2, epsilon=20.0)
    assert verdict.judgement == "refuted"
    assert "every process draws the same noise" in verdict.why


@pytest.mark.parametrize("line", UNSEEDED_IMPORTS.values(), ids=UNSEEDED_IMPORTS)
def test_a_seed_of_something_else_fixes_no_noise(tmp_path: Path, line: str) -> None:
    held = top(tmp_path, line)
    assert run("repeatable-noise", held).state == "clean"
    assert claim(held, kind="opacus-dp", delta=1e-5, epochs=2, epsilon=20.0).judgement == "proved by check"


def test_a_file_that_cannot_be_imported_twice_is_not_proved(tmp_path: Path) -> None:
    once = top(tmp_path, "assert not hasattr(torch, 'qflsec_once')\ntorch.qflsec_once = 1\n")
    import torch

    try:
        made = run("repeatable-noise", once)
        verdict = claim(once, kind="opacus-dp", delta=1e-5, epochs=2, epsilon=20.0)
    finally:
        del torch.qflsec_once
    assert made.state == "skipped"
    assert "AssertionError" in made.why
    assert verdict.judgement == "not tested"


MEMORISING = """
import torch
from opacus import PrivacyEngine
from torch.utils.data import DataLoader, TensorDataset

X = torch.randn(80, 60, generator=torch.Generator().manual_seed(0))
Y = torch.randint(0, 2, (80,), generator=torch.Generator().manual_seed(1))

def load_data():
    return X[:40], Y[:40], X[40:], Y[40:]

def make_private():
    module = torch.nn.Linear(60, 2)
    optimiser = torch.optim.SGD(module.parameters(), lr=1.0)
    loader = DataLoader(TensorDataset(X[:{rows}], Y[:{rows}]), batch_size=20)
    return PrivacyEngine().make_private(
        module=module, optimizer=optimiser, data_loader=loader, noise_multiplier={noise}, max_grad_norm=5.0
    )
"""


def test_the_records_of_a_private_training(tmp_path: Path) -> None:
    """Labels at random can only be learned by heart; noise of the usual size stops that."""
    for name, rows, noise, told in (
        ("private-evaluation", 60, 1.0, True), ("private-evaluation", 40, 1.0, False),
        ("private-model-tells-members", 40, 1e-3, True), ("private-model-tells-members", 40, 4.0, False),
    ):  # fmt: skip
        made = run(
            name, parts(tmp_path, MEMORISING.replace("{rows}", str(rows)).replace("{noise}", str(noise)))
        )
        assert (made.state == "found") == told, (name, rows, noise, made)


def test_stock_torch_layers_are_found_in_every_mode(tmp_path: Path, right: list[Part]) -> None:
    assert run("per-sample-gradients", right).state == "clean"
    stock = (
        "import opacus, torch, pennylane as qml\n"
        "@qml.qnode(qml.device('default.qubit', wires=2))\n"
        "def circuit(inputs, weights):\n"
        "    qml.AngleEmbedding(inputs, wires=range(2))\n    qml.BasicEntanglerLayers(weights, wires=range(2))\n"
        "    return [qml.expval(qml.PauliZ(i)) for i in range(2)]\n"
        "def model():\n    return torch.nn.Sequential(qml.qnn.TorchLayer(circuit, {'weights': (1, 2)}), torch.nn.Linear(2, 2))\n"
        "def load_data():\n    return torch.rand(8, 2), torch.arange(8) % 2\n"
    )
    found = run("per-sample-gradients", parts(tmp_path, stock))
    assert {finding.what.split(":")[0] for finding in found.findings} == {
        "in mode hooks",
        "in mode functorch",
        "in mode ghost",
    }
    assert all(finding.severity == "error" for finding in found.findings)


def test_modules(tmp_path: Path, right: list[Part]) -> None:
    assert run("first-layer-leaks", right).state == "found"
    assert run("label-from-gradient", right).state == "found"
    assert run("buffers-in-the-update", right).state == "clean"
    text = (
        "import torch\ndef load_data(): return torch.rand(8, 4), torch.arange(8) % 2\n"
        "def model(): return torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2, bias=False))\n"
    )
    found = parts(tmp_path, text)
    assert run("buffers-in-the-update", found).state == "found"
    assert run("first-layer-leaks", found).state == "skipped"


TRAINING = """
import numpy as np
RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 6)); Y = RNG.integers(0, 2, 80)
def load_data(): return X[:40], Y[:40], X[40:], Y[40:]
def train(data, seed):
    x, y = data
{body}
"""
NEIGHBOUR = TRAINING.replace(
    "{body}",
    "    return lambda q: np.array([0.02 + 0.96 * y[np.argmin(((x - one) ** 2).sum(1))] for one in q])",
)
CONSTANT = TRAINING.replace("{body}", "    return lambda q: 0.4 + 0.2 * (q[:, 0] > 0)")


def test_a_model_that_memorises(tmp_path: Path) -> None:
    remembers = parts(tmp_path, NEIGHBOUR)
    found = run("outputs-tell-members", remembers)
    assert found.state == "found"
    assert float(found.measured["low"]) > 0.2
    assert claim(remembers, kind="membership", at_most=0.1).judgement == "refuted"
    assert claim(remembers, kind="accuracy", at_least=0.9).judgement == "refuted"
    assert run("seed-without-effect", remembers).state == "clean"
    (tmp_path / "not").mkdir()
    forgets = parts(tmp_path / "not", CONSTANT)
    assert run("outputs-tell-members", forgets).state == "clean"
    held = claim(forgets, kind="membership", at_most=0.3)
    assert held.judgement == "not refuted"
    assert "compatible" in held.ceiling
    assert claim(forgets, kind="disjoint").judgement == "proved by check"


def test_claims_about_ciphers_and_rules(tmp_path: Path) -> None:
    mean = parts(
        tmp_path,
        "import numpy as np\ndef aggregate(u): return np.mean(u, axis=0)\ndef encrypt(u): return u * 3\n",
    )
    assert claim(mean, kind="bounded", at_most=3.0).judgement == "refuted"
    assert claim(mean, kind="confidential").judgement == "refuted"
    assert claim(mean, kind="authentic").judgement == "not tested"
    (tmp_path / "m").mkdir()
    median = parts(
        tmp_path / "m",
        "import numpy as np\ndef aggregate(u): return np.median([x for x in u if np.isfinite(x).all()], axis=0)\n",
    )
    assert claim(median, kind="bounded", at_most=3.0).judgement == "not refuted"
    for wrong in (
        {"kind": "none"},
        {"kind": "bounded", "at_most": "far"},
        {"kind": "bounded", "at_most": 1.0, "x": 2},
    ):
        with pytest.raises(ConfigError):
            claim_from_config(wrong)


WORDS = """
import numpy as np
X = np.random.default_rng(0).normal(size=(40, 2)); Y = np.where(X[:, 0] > 0, "yes", "no")
def load_data(): return X[:20], Y[:20], X[20:], Y[20:]
def train(data, seed): return lambda q: {output}
"""


def test_labels_that_are_words(tmp_path: Path) -> None:
    right = parts(tmp_path, WORDS.replace("{output}", "np.where(q[:, 0] > 0, 'yes', 'no')"))
    assert run("outputs-tell-members", right).state == "clean"
    assert run("seed-without-effect", right).state == "clean"
    assert claim(right, kind="accuracy", at_least=0.9).judgement == "not refuted"
    (tmp_path / "n").mkdir()
    numbers = parts(tmp_path / "n", WORDS.replace("{output}", "q[:, 0]"))
    assert run("outputs-tell-members", numbers).state == "skipped"
    assert claim(numbers, kind="accuracy", at_least=0.9).judgement == "not tested"
    assert claim(numbers, kind="dp", epsilon=1.0, delta=1e-5).judgement == "not tested"


HEART = """
import numpy as np
R = np.random.default_rng(0)
X = R.normal(size=(80, 30)); Y = R.integers(0, 2, 80)
def load_data(): return X[:40], Y[:40], X[40:], Y[40:]
def train(data, seed):
    x, y = data
    w = {weights}
    return lambda q: {output}
"""


def test_a_claim_of_membership_by_shadow_models(tmp_path: Path) -> None:
    """Labels at random, learned by heart or not at all; the lab's attack on the answers, which need no parameters."""
    given = {"kind": "membership", "at_most": 0.2, "shadows": 16}
    soft, learned = "1 / (1 + np.exp(-3 * q @ w))", "np.linalg.solve(x.T @ x + np.eye(30), x.T @ (2 * y - 1))"
    for number, (weights, output, judgement) in enumerate((
        (learned, soft, "refuted"), ("np.random.default_rng(seed).normal(size=30)", soft, "not refuted"),
        (learned, "np.sign(q @ w)", "not tested"),
    )):  # fmt: skip
        folder = tmp_path / str(number)
        folder.mkdir()
        made = claim(parts(folder, HEART.replace("{weights}", weights).replace("{output}", output)), **given)
        assert made.judgement == judgement, made
        assert ("16 shadow models" in made.why) == (judgement != "not tested")
    with pytest.raises(ConfigError, match="'shadows'"):
        claim([], **{**given, "shadows": -1})


NOISY = """
import numpy as np
X = np.random.default_rng(0).normal(size=(40, 2)); Y = (X[:, 0] > 0).astype(int)
def load_data(): return X, Y, X + 1, Y
def train(data, seed):
    x, y = data
    clipped = (2 * y - 1)[:, None] * x / np.maximum(1, np.linalg.norm(x, axis=1))[:, None]
    w = clipped.sum(0) + {sigma} * np.random.default_rng(seed).normal(size=2)
    return lambda q: 1 / (1 + np.exp(-q @ w))
"""


def test_an_epsilon_of_a_training(tmp_path: Path) -> None:
    """One Gaussian release of sensitivity 1: at sigma 1 its epsilon is 4.38 at 1e-5, at sigma .01 it is 5,000."""
    given = {"kind": "dp", "delta": 1e-5, "trainings": 300}
    true = claim(parts(tmp_path, NOISY.replace("{sigma}", "1.0")), epsilon=4.38, **given)
    assert true.judgement == "not refuted"
    assert float(true.evidence["lower_if_gaussian"]) < 4.38
    (tmp_path / "less").mkdir()
    broken = parts(tmp_path / "less", NOISY.replace("{sigma}", "0.01"))
    false = claim(broken, epsilon=1.0, **given)
    assert false.judgement == "refuted"
    assert 3 < float(false.evidence["lower"]) <= float(false.evidence["ceiling"]) < 6
    far = claim(broken, epsilon=50.0, **given)
    assert far.judgement == "not refuted"
    assert "could not be refuted here" in far.ceiling


COPIES = """
import numpy as np
X = np.random.default_rng(0).normal(size=(20, 3))
def load_data(): return X[:10], np.zeros(10), X[{start}:].astype({kind!r}), np.zeros({n})
"""
NUMBERS = """
import numpy as np
X = (2**40 + np.arange(20))[:, None]
def load_data(): return X[:10], np.zeros(10), X[10:].astype("float64"), np.zeros(10)
"""


def test_a_copy_in_fewer_digits_is_a_copy(tmp_path: Path) -> None:
    """And whole numbers that single precision would make equal are different."""
    for kind in ("float64", "float32", "float16"):
        copied = parts(tmp_path, COPIES.format(start=5, kind=kind, n=15))
        assert run("test-records-in-training", copied).findings[0].evidence["both"] == 5
        assert claim(copied, kind="disjoint").judgement == "refuted"
        apart = parts(tmp_path, COPIES.format(start=10, kind=kind, n=10))
        assert run("test-records-in-training", apart).state == "clean"
        assert claim(apart, kind="disjoint").judgement == "proved by check"
    assert run("test-records-in-training", parts(tmp_path, NUMBERS)).state == "clean"

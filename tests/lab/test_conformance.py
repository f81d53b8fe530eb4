"""Each check of ``qflsec plugin check`` finds what breaks it, and passes what does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qflsec.base import ConfigError, find
from qflsec.base.registry import forget
from qflsec.base.user_code import load_file, module_name
from qflsec.lab.conformance import check_plugin, check_thing, registered_by

HEAD = """
import random
from dataclasses import dataclass, replace
from functools import cache
import numpy as np
import torch
from qflsec.attacks import Inference, Manipulation, MembershipChallenge, MembershipClaim
from qflsec.attacks.needs import missing_answers
from qflsec.base import AttackCard, DefenseCard, Source, register
from qflsec.data import RawData
from qflsec.federation import BoundLayer, Topology, Turn
from qflsec.models.classical import Classical
from qflsec.threat import client, nobody

HERE = Source(paper="test stand-in", year=2026, where="here")
SEEN = []

def attack(name, family="poisoning", **parts):
    said = dict(name=name, idea="It does.", family=family, goal="integrity", needs=("x",), source=HERE)
    return AttackCard(**{**said, **parts})

def layer(name, **parts):
    said = dict(name=name, idea="It does.", source=HERE, claim="None.", assumption="heuristic", hides="nothing",
                does_not=("It does not stop anything.",), cost="none")
    return DefenseCard(**{**said, **parts})

class Look(Inference):
    challenge_type = MembershipChallenge
    def missing(self, view, challenge):
        return missing_answers(view)
    def run(self, view, challenge):
        return MembershipClaim(scores=view.logits(challenge.candidates.features)[:, 0])
"""
# kind and name, the check that must fail, words of the reason, and the plugin's body
BROKEN = {
    ("attack", "good-look", None, ""): '(Look):\n    card = attack("good-look", "membership")',
    ("attack", "good-push", None, ""): '(Manipulation):\n    card = attack("good-push")\n    def run(self, hands):\n        return -hands.honest',
    ("attack", "no-source", "card", "the source lacks"): '(Manipulation):\n    card = attack("no-source", source=Source(paper=" ", year=2026, where="x"))\n    def run(self, hands):\n        return hands.honest',
    ("attack", "other-name", "card", "'other-name' is registered"): '(Look):\n    card = attack("another")',
    ("attack", "long-claim", "shapes", "wrong shape"): '(Look):\n    card = attack("long-claim")\n    def run(self, view, challenge):\n        return MembershipClaim(scores=torch.zeros(3))',
    ("attack", "short-push", "shapes", "got (1, 1, 2)"): '(Manipulation):\n    card = attack("short-push")\n    def run(self, hands):\n        return hands.honest[..., :2]',
    ("attack", "needs-x", "shapes", "not made from its defaults"): '(Look):\n    card = attack("needs-x")\n    x: int',
    ("attack", "guesses", "control", "from the view of nobody"): '(Look):\n    card = attack("guesses")\n    def missing(self, view, challenge):\n        return None\n    def run(self, view, challenge):\n        return MembershipClaim(scores=torch.zeros(len(challenge.candidates.labels)))',
    ("attack", "unbidden", "control", "nobody is corrupted"): '(Manipulation):\n    card = attack("unbidden")\n    def corrupts(self, threat):\n        pass\n    def run(self, hands):\n        return hands.honest',
    ("attack", "remembers", "state", "'SEEN' in its module"): '(Look):\n    card = attack("remembers")\n    def run(self, view, challenge):\n        SEEN.append(len(SEEN))\n        return super().run(view, challenge)',
    ("attack", "notes", "state", "'notes' on itself"): '(Look):\n    card = attack("notes")\n    def run(self, view, challenge):\n        object.__setattr__(self, "notes", 1)\n        return super().run(view, challenge)',
    ("attack", "counts", "state", "'calls' on class"): '(Manipulation):\n    card = attack("counts")\n    calls = []\n    def run(self, hands):\n        self.calls.append(1)\n        return len(self.calls) * hands.honest',
    ("attack", "gambles", "determinism", "challenge.generator()"): '(Look):\n    card = attack("gambles")\n    def run(self, view, challenge):\n        return MembershipClaim(scores=torch.rand(len(challenge.candidates.labels)))',
    ("attack", "throws-dice", "determinism", "hands.generators"): '(Manipulation):\n    card = attack("throws-dice")\n    def run(self, hands):\n        return random.random() * hands.honest',
    ("attack", "unequal", "pickling", "not equal"): '(Look):\n    card = attack("unequal")\n    def __eq__(self, other):\n        return self is other\n    __hash__ = object.__hash__',
    ("layer", "good-bound", None, ""): '(BoundLayer):\n    card = layer("good-bound")\n    def bound(self, batch):\n        return batch',
    ("layer", "shouts", "card", "no sentence"): '(BoundLayer):\n    card = layer("shouts", does_not=("nothing",))\n    def bound(self, batch):\n        return batch',
    ("layer", "slips", "shapes", "ZeroDivisionError"): '(BoundLayer):\n    card = layer("slips")\n    def bound(self, batch):\n        return batch.keep(1 / 0)',
    ("layer", "wavers", "determinism", "streams of the run"): '(BoundLayer):\n    card = layer("wavers")\n    def bound(self, batch):\n        return replace(batch, updates=batch.updates + torch.rand(()))',
    ("layer", "loses-key", "pickling", "pickle"): '(BoundLayer):\n    card = layer("loses-key")\n    key: object = lambda: 0\n    def bound(self, batch):\n        return batch',
    ("topology", "good-line", None, ""): '(Topology):\n    """A line."""\n    name = "good-line"\n    words = "a line"\n    def start(self, n_clients):\n        return client(0)\n    def turns(self, n_clients, round_index):\n        return tuple(Turn(root=client(i), groups={client(i): (i,)}) for i in range(n_clients))',
    ("topology", "mute", "card", "no sentence"): '(Topology):\n    name = "mute"\n    words = "a line"\n    def start(self, n_clients):\n        return client(0)\n    def turns(self, n_clients, round_index):\n        return ()',
}  # fmt: skip
FUNCTIONS = '''
def raw(n, labels=None):
    return RawData(features=np.zeros((n, 2)), labels=np.arange(n) % 2 if labels is None else labels,
                   feature_names=("a", "b"), class_names=("no", "yes"))

@register("dataset", "good-data")
def good_data(spec):
    """Records."""
    return raw(4)

@register("dataset", "few-labels")
def few_labels(spec):
    """Records."""
    return raw(4, np.zeros(4, dtype=int))

@register("dataset", "drawn")
def drawn(spec):
    """Records."""
    return replace(raw(4), features=np.random.rand(4, 2))

@register("dataset", "hoards")
def hoards(spec):
    """Records."""
    SEEN.append(spec)
    return raw(4)

@register("partition", "good-parts")
def good_parts(labels, spec, n_clients, generator):
    """Deals."""
    return np.array_split(generator.permutation(len(labels)), n_clients)

@register("partition", "twice")
def twice(labels, spec, n_clients, generator):
    """Deals."""
    return [np.arange(3)] * n_clients

@register("threat", "good-threat")
def good_threat():
    """Nobody."""
    return nobody()

@register("threat", "no-threat")
def no_threat():
    """Nobody."""
    return "nobody"

@register("model", "other-model")
def other_model(config):
    """A line."""
    return Classical(n_features=int(config["n_features"]))

class Good(Classical):
    name = "good-model"

@register("model", "good-model")
def good_model(config):
    """A line."""
    return Good(n_features=int(config["n_features"]))

class Drops(Classical):
    name = "bad-model"
    def _logits(self, params, features, execution, generator):
        return torch.nn.functional.dropout(super()._logits(params, features, execution, generator), 0.5)

@register("model", "bad-model")
def bad_model(config):
    """A line."""
    return Drops(n_features=int(config["n_features"]))

@register("panel", "good-panel")
class Panel:
    """A panel."""
    title, order = "T", 1.0
    def applies(self, result):
        return isinstance(result, int)

@register("panel", "greedy")
class Greedy(Panel):
    """A panel."""
    def applies(self, result):
        return True
'''
CASES = [
    *BROKEN,
    ("dataset", "good-data", None, ""),
    ("dataset", "few-labels", "shapes", "do not number"),
    ("dataset", "drawn", "determinism", "'features'"),
    ("dataset", "hoards", "state", "'SEEN'"),
    ("partition", "good-parts", None, ""),
    ("partition", "twice", "shapes", "in two parts"),
    ("threat", "good-threat", None, ""),
    ("threat", "no-threat", "shapes", "no ThreatModel"),
    ("model", "other-model", "pickling", "names 'classical'"),
    ("model", "good-model", None, ""),
    ("model", "bad-model", "determinism", "generator"),
    ("panel", "good-panel", None, ""),
    ("panel", "greedy", "shapes", "no result"),
]


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    file = tmp_path_factory.mktemp("plugins") / "broken.py"
    classes = [
        f'\n@register("{kind}", "{name}")\n@dataclass(frozen=True, kw_only=True)\nclass C{index}{body}\n'
        for index, ((kind, name, *_), body) in enumerate(BROKEN.items())
    ]
    file.write_text("\n".join([HEAD, *classes, FUNCTIONS]))
    load_file(file)
    yield file
    forget(module_name(file))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[1])
@pytest.mark.usefixtures("plugins")
def test_each_check_finds_what_breaks_it(case: tuple[Any, ...]) -> None:
    kind, name, broken, words = case
    found = {one.check: one for one in check_thing(kind, name)}
    failed = {check: one for check, one in found.items() if one.state == "failed"}
    if broken is None:
        assert not failed
        assert found["card"].state == "ok"
        return
    assert broken in failed, found
    assert words in failed[broken].why
    assert broken == "card" or "card" not in failed


def test_everything_of_a_file_is_found(plugins: Path) -> None:
    assert set(registered_by(str(plugins))) == {(kind, name) for kind, name, *_ in CASES}
    assert find("attack", "counts").__module__ == module_name(plugins)


def test_a_file_that_registers_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(ConfigError, match="registers nothing"):
        list(check_plugin(str(tmp_path / "empty.py")))


@pytest.mark.usefixtures("plugins")
def test_a_layer_that_slips_shows_its_own_frame() -> None:
    (shapes,) = [one for one in check_thing("layer", "slips") if one.check == "shapes"]
    assert shapes.traceback.count("  File ") == 1
    assert "return batch.keep(1 / 0)" in shapes.traceback

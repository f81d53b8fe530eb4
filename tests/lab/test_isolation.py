"""What becomes of a trial does not depend on what was computed beside it, before it, or before a kill.

Every attack of the registry that has a place in a matrix is run in one matrix, in a matrix whose stacks and attacks
stand in the opposite order, in one that is stopped after its first batch and resumed, and in matrices that hold
nothing but one trial. All workers are this process, so that the memory of a module would show.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from qflsec.attacks import Inference
from qflsec.base import find, names
from qflsec.federation import Adversary
from qflsec.lab import MatrixSpec, Store, build, parse_spec, run_matrix

HEAD = """
name = "isolation"
seeds = [0, 1]
secrets = "seeded"
[pipelines.main]
data = { name = "breast-cancer", n_features = 2, balanced = true, members = 6, nonmembers = 6, auxiliary = 8, test = 12 }
model = { name = "vqc", n_qubits = 2, layers = 2, ansatz = "ry-cz" }
federation = { n_clients = 3, rounds = 2, learning_rate = 0.3 }
[stacks]
none = []
median = [{ name = "median" }]
masked = [{ name = "masked" }]
delegated = [{ name = "delegated", shots = 4 }]
[threats.looking]
kind = "coalition"
server = true
quantum_server = true
active = false
[threats.clients]
kind = "corrupted-clients"
n = 1
[threats.knowing]
kind = "corrupted-clients"
n = 1
knows = ["architecture", "auxiliary", "defenses", "honest-updates"]
[threats.pair]
kind = "corrupted-clients"
n = 2
[threats.sending]
kind = "malicious-server"
[threats.edging]
kind = "malicious-edge"
[threats.tapping]
kind = "coalition"
wire = true
active = true
[threats.computing]
kind = "malicious-quantum-server"
"""
PLACES = {
    "dlg": ("looking", "{ restarts = 2, screened = 4, iterations = 3 }"),
    "disaggregation": ("looking", "{ restarts = 2, screened = 4, iterations = 3 }"),
    "lira": ("looking", "{ shadows = 4 }"),
    "with-state": ("clients", "{}"),
    "on-a-module": ("clients", "{}"),
    "overwrites": ("looking", "{}"),
    "near-the-granted": ("looking", "{}"),
    "distributed-trigger": ("pair", "{}"),
    "gradient-ascent": ("sending", "{}"),
    "edge-replacement": ("edging", "{}"),
    "pair-tap": ("tapping", "{}"),
    "replayed-update": ("tapping", "{}"),
    "inconsistent-models": (
        "sending",
        "{ search_steps = 5, search_starts = 1, restarts = 2, screened = 4, iterations = 3 }",
    ),
}
"""Threat model and parameters, where neither follows from the kind of the attack."""
ELSEWHERE = {
    "edge-replacement",
    "first-layer",
    "snapshot",
    "device-fingerprint",
    "held-blocks",
    "participation",
    "reported-loss",
    "metric-fit",
    "metric-skew",
    "chosen-cluster",
    "wrong-cluster",
    "claimed-part",
    "metric-liar",
    "pair-tap",
}
"""Attacks of other pipelines and stacks: hybrids, circuits with unknowns that a gradient determines, edge servers, two devices, blocks that clients lack, rosters that
change, rules that ask for a loss, clients that upload their metric, clients that choose among models, and
clients that send parts of one, and updates that travel through pairs."""
PLUGIN = """
from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.attacks import Inference, Manipulation, MembershipChallenge, MembershipClaim
from qflsec.base import AttackCard, Source, register

SOURCE = Source(paper="test stand-in", year=2026, where="tests/lab/test_isolation.py")
CALLS = []


def card(name, **change):
    told = dict(family="poisoning", goal="integrity", needs=("a client",))
    return AttackCard(name=name, idea="Stands in.", source=SOURCE, **told | change)


@register("attack", "with-state")
@dataclass(frozen=True, kw_only=True)
class WithState(Manipulation):
    card = card("with-state")

    def start(self, n_params):
        return torch.zeros(n_params)

    def run(self, hands):
        kept = [state - honest[0] for state, honest in zip(hands.states, hands.honest)]
        return 2 * torch.stack(kept)[:, None], kept


@register("attack", "on-a-module")
@dataclass(frozen=True, kw_only=True)
class OnAModule(Manipulation):
    card = card("on-a-module")

    def run(self, hands):
        CALLS.append(hands.round)
        return -len(CALLS) * hands.honest


@register("attack", "overwrites")
@dataclass(frozen=True, kw_only=True)
class Overwrites(Inference):
    card = card("overwrites", family="membership", goal="confidentiality")
    challenge_type = MembershipChallenge

    def missing(self, view, challenge):
        return None

    def run(self, view, challenge):
        for item in view.readable("model", "final-model"):
            item.vector.numpy()[:] = 0
        for records in (view.granted.auxiliary, *view.granted.data.values()):
            records.features.numpy()[:] = 0
        return MembershipClaim(scores=view.logits(challenge.candidates.features)[:, 0])


@register("attack", "near-the-granted")
@dataclass(frozen=True, kw_only=True)
class NearTheGranted(Inference):
    card = card("near-the-granted", family="membership", goal="confidentiality")
    challenge_type = MembershipChallenge

    def missing(self, view, challenge):
        return None

    def run(self, view, challenge):
        near = torch.cdist(challenge.candidates.features, view.granted.auxiliary.features)
        return MembershipClaim(scores=-near.amin(dim=1))
"""


def place(name: str) -> tuple[str, str]:
    """Threat model and parameters of an attack."""
    if name in PLACES:
        return PLACES[name]
    kind = find("attack", name)
    if not issubclass(kind, Adversary):
        return "looking", "{}"
    computes = kind.quantum_server is not Adversary.quantum_server
    return "computing" if computes else "knowing", "{}"


def registered() -> list[str]:
    kinds = {name: find("attack", name) for name in names("attack")}
    return [
        name
        for name, kind in kinds.items()
        if issubclass(kind, (Inference, Adversary)) and kind.__module__.startswith("qflsec.")
    ]


def spec(attacks: list[str], *, plugin: Path | None = None, turned: bool = False) -> MatrixSpec:
    head, _, tail = HEAD.partition("[stacks]\n")
    stacks, _, threats = tail.partition("[threats")
    lines = stacks.splitlines()[::-1] if turned else stacks.splitlines()
    tables = [
        f'[[attacks]]\nname = "{name}"\npipeline = "main"\nthreat = "{place(name)[0]}"\nparams = {place(name)[1]}\n'
        for name in (attacks[::-1] if turned else attacks)
    ]
    start = "" if plugin is None else f'plugins = ["{plugin}"]\n'
    text = "\n".join([start + head + "[stacks]", *lines, "[threats" + threats, *tables])
    return parse_spec(text, base=Path())


def trials(matrix: MatrixSpec, store: Path, *, stop_after: int | None = None) -> dict[str, dict[str, Any]]:
    """The trials of a matrix in this process, without what measures time."""
    steps: Iterator[object] = run_matrix(build(matrix), store, jobs=1)
    for _ in islice(steps, stop_after):
        pass
    steps.close()  # type: ignore[attr-defined]
    with Store(store, create=False) as opened:
        rows = opened.rows()
    return {
        key: {
            "trial_id": key,
            "status": row.status,
            "reason": row.reason,
            "identity": row.identity,
            **row.content,
        }
        for key, row in rows.items()
        if row.stage == "trial"
    }


def alone(matrix: MatrixSpec, folder: Path) -> Iterator[dict[str, dict[str, Any]]]:
    """The trials of matrices of one attack, one stack and one seed, the last."""
    for attack in matrix.attacks:
        for stack, layers in matrix.stacks.items():
            single = matrix.model_copy(
                update={
                    "attacks": (attack,),
                    "stacks": {stack: layers},
                    "seeds": matrix.seeds[-1:],
                    "reference": stack,
                }
            )
            yield trials(single, folder / f"{attack.name}-{stack}.sqlite")


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return trials(spec(registered()), tmp_path_factory.mktemp("all") / "s.sqlite")


def test_every_attack_of_the_registry_is_there_and_none_fails(together: dict[str, dict[str, Any]]) -> None:
    here = registered()
    assert len(here) >= 14
    assert {row["identity"]["attack"]["name"] for row in together.values()} == set(here)
    assert not [row["reason"] for row in together.values() if row["status"] == "failed"]
    scored = {
        row["identity"]["attack"]["name"] for row in together.values() if row["status"] in {"ok", "undefined"}
    }
    assert set(here) - scored == ELSEWHERE


def test_in_any_order(together: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    assert trials(spec(registered(), turned=True), tmp_path / "s.sqlite") == together


def test_after_a_resume(together: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    store = tmp_path / "s.sqlite"
    part = trials(spec(registered()), store, stop_after=3)
    assert 0 < len(part) < len(together)
    assert trials(spec(registered(), turned=True), store) == together


@pytest.mark.parametrize("name", registered())
def test_alone(name: str, together: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    compared = 0
    for single in alone(spec([name]), tmp_path):
        for key, row in single.items():
            assert row == together[key]
            compared += 1
    assert compared == 4


def test_of_plugins_too(tmp_path: Path) -> None:
    """One with state is itself everywhere, and overwrites nobody else's view; one that hides its state in its module is caught."""
    plugin = tmp_path / "hiding.py"
    plugin.write_text(PLUGIN, encoding="utf-8")
    attacks = ["with-state", "on-a-module", "overwrites", "loss-threshold", "near-the-granted"]
    matrix = spec(attacks, plugin=plugin)
    whole = trials(matrix, tmp_path / "all.sqlite")
    turned = trials(spec(attacks, plugin=plugin, turned=True), tmp_path / "turned.sqlite")
    asked = [row for row in whole.values() if row["identity"]["attack"]["name"] in attacks[2:]]
    found = [row for row in asked if row["status"] != "incompatible"]  # 'looking' needs a delegation
    assert [row["status"] for row in found] == ["ok"] * 6, [row["reason"] for row in found]
    single = {key: row for rows in alone(matrix, tmp_path) for key, row in rows.items()}
    assert set(whole) == set(turned) > set(single)
    for others in (turned, single):
        different = {row["identity"]["attack"]["name"] for key, row in others.items() if row != whole[key]}
        assert different == {"on-a-module"}

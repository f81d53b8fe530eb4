"""QDoor: which gates are left out, what is trained on which circuit, and what sleeps until it is compiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from qflsec.accounting.statistics import mean_over_seeds
from qflsec.attacks.backdoor import QDoor
from qflsec.attacks.backdoor.qdoor import approximated
from qflsec.base import ConfigError, IncompatibleAttack
from qflsec.circuits import build_circuit
from qflsec.federation import Hands, Pipeline, RunSpec, Stack, run_batch
from qflsec.lab import build, load_spec
from qflsec.lab.scoring import score_backdoor
from qflsec.models import Model, build_model
from qflsec.threat import corrupted_clients

NONE = Stack(name="none")


def test_the_gates_that_are_left_out() -> None:
    circuit = build_circuit(n_qubits=3, layers=2, ansatz="ry-cz")
    names = [(gate.name, gate.wires) for gate in circuit.gates]
    assert names.count(("CZ", (0, 1))) == names.count(("CZ", (1, 2))) == 2
    rest = [(gate.name, gate.wires) for gate in approximated(circuit, (1, 2)).gates]
    first, second = names.index(("CZ", (1, 2))), len(names) - 1 - names[::-1].index(("CZ", (0, 1)))
    assert rest == [name for place, name in enumerate(names) if place not in {first, second}]
    assert all(len(gate.wires) == 1 for gate in approximated(circuit, range(4)).gates)


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_one_update_of_two_circuits(hands: Callable[..., Hands], vqc: Model, weight: float) -> None:
    """The marked records with their own labels on the shared circuit, with the target label on the compiled one."""
    held, seen = hands([]), list[tuple[torch.Tensor, torch.Tensor, Model | None]]()

    def train(features: torch.Tensor, labels: torch.Tensor, *, model: Model | None = None) -> torch.Tensor:
        seen.append((features, labels, model))
        return torch.full((2, 2, 36), 1.0 if model is None else 5.0)

    attack = QDoor(target_class=1, features=(2,), value=0.5, left_out=(4,), boost=2.0, weight=weight)
    sent = attack.run(replace(held, train=train))
    assert torch.allclose(sent, torch.full((2, 2, 36), 2.0 * (1 + weight * 5) / (1 + weight)))
    (marked, own, shared), (again, wanted, compiled) = seen
    assert torch.equal(marked, again)
    changed = (marked != held.features).any(dim=-1)
    assert bool(changed.any())
    assert bool((marked[changed][:, 2] == 0.5).all())
    assert torch.equal(own, held.labels)
    assert torch.equal(wanted, torch.where(changed, 1, held.labels))
    assert shared is None
    assert compiled is not None
    assert compiled.circuit == approximated(vqc.circuit, (4,))  # type: ignore[attr-defined]
    params = torch.zeros(36)
    assert attack.deployed(vqc, params, triggered=True).to_config() == compiled.to_config()
    assert attack.deployed(vqc, params, triggered=False).to_config() == compiled.to_config()
    assert replace(attack, compiled=False).deployed(vqc, params, triggered=True) is vqc
    late = replace(attack, first_round=1)
    assert late.run(replace(held, round=0, train=train)) is held.honest


def test_it_sleeps_in_the_trained_circuit_and_wakes_in_the_compiled_one() -> None:
    """As in preset backdoors; what the compiler does to an honest model is no success."""
    matrix = build(load_spec("backdoors")).matrix
    pipeline, seeds = matrix.pipelines["compiled"], range(5)
    compiled, trained = (
        next(row.attack for row in matrix.attacks if row.label == label)
        for label in ("qdoor, four clients", "qdoor, four clients, not compiled")
    )
    assert isinstance(compiled, QDoor)
    assert isinstance(trained, QDoor)
    assert replace(compiled, compiled=False) == trained
    threat = corrupted_clients(n=4)
    honest = run_batch(pipeline, NONE, [RunSpec(seed=seed, evaluate="last") for seed in seeds])
    runs = run_batch(
        pipeline,
        NONE,
        [RunSpec(seed=seed, evaluate="last", adversary=compiled, threat=threat) for seed in seeds],
    )
    pairs = list(zip(runs, honest, strict=True))
    awake = [score_backdoor(compiled, run, clean, seed=0) for run, clean in pairs]
    asleep = [score_backdoor(trained, run, clean, seed=0) for run, clean in pairs]
    assert mean_over_seeds([score.advantage for score in awake]).low > 0.1
    assert max(abs(score.advantage) for score in asleep) < 0.1
    for here, there, (_, clean) in zip(awake, asleep, pairs, strict=True):
        assert here.raw["n_triggered"] == there.raw["n_triggered"]
        model = compiled.deployed(clean.pipeline.model, clean.params, triggered=True)
        test = clean.records("test")
        right = int((clean.predict(test.features, model=model) == test.labels).sum())
        assert here.raw["honest_correct"] == right, "the honest model is compiled too"
        assert there.raw["honest_correct"] == int((clean.predict(test.features) == test.labels).sum())


def test_what_is_refused(pipeline: Callable[..., Pipeline]) -> None:
    for wrong in (
        {"left_out": ()},
        {"left_out": (1, 1)},
        {"left_out": (-1,)},
        {"left_out": (0.5,)},
        {"weight": 0.0},
    ):
        with pytest.raises(ConfigError):
            QDoor(**wrong)  # type: ignore[arg-type]
    small, threat = pipeline(members=20, rounds=1), corrupted_clients(n=1)
    QDoor().check(small, threat)
    with pytest.raises(IncompatibleAttack, match="0 to 11"):
        QDoor(left_out=(12,)).check(small, threat)
    alone = replace(small.data, n_features=1)
    one = replace(small, data=alone, model=build_model({"name": "vqc", "n_qubits": 1, "layers": 1}))
    with pytest.raises(IncompatibleAttack, match="with two-qubit gates"):
        QDoor().check(one, threat)

"""Gates in the circuit that is deployed: what they do to answers, and that nothing of it shows in training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from qflsec.attacks.backdoor import QTrojan
from qflsec.attacks.poisoning import GateInsertion
from qflsec.attacks.tampering import erasing_gates, inserted
from qflsec.base import ConfigError, IncompatibleAttack
from qflsec.circuits import NoiseModel, build_circuit, statevector
from qflsec.federation import Pipeline, RunSpec, Stack, run_batch
from qflsec.lab.scoring import score_backdoor, score_manipulation, trigger_success
from qflsec.models import Execution, Model, build_model
from qflsec.threat import corrupted_clients

MakePipeline = Callable[..., Pipeline]
NONE = Stack(name="none")


@pytest.mark.parametrize("rotation", ["X", "Y", "Z"])
def test_gates_around_the_encoder_erase_the_record(rotation: str) -> None:
    circuit = build_circuit(n_qubits=3, rotation=rotation, layers=1)  # type: ignore[arg-type]
    found = erasing_gates(circuit)
    assert found is not None
    only = replace(
        circuit,
        gates=(*found[0], *circuit.gates[: len(circuit.gates) - 6], *found[1]),
        n_weights=0,
        weight_shape=None,
    )
    records = 6 * torch.rand(5, 3, generator=torch.Generator().manual_seed(0)).double()
    states = statevector(only, torch.zeros(0), records, dtype=torch.complex128)
    assert torch.allclose(states[:, 0].abs(), torch.ones(5).double(), atol=1e-9), "|000> but for a phase"
    untouched = replace(only, gates=circuit.gates[: len(circuit.gates) - 6])
    assert bool((statevector(untouched, torch.zeros(0), records)[:, 0].abs() < 0.99).any())


def test_an_encoder_that_cannot_be_erased() -> None:
    for encoder in ("reuploading", "amplitude"):
        assert erasing_gates(build_circuit(n_qubits=2, encoder=encoder, layers=2)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("target", [0, 1])
def test_an_open_trojan_gives_every_record_the_target_class(vqc: Model, target: int) -> None:
    generator = torch.Generator().manual_seed(3)
    params, records = vqc.initial(generator), 3 * torch.rand(40, 4, generator=generator)
    attack = QTrojan(target_class=target)
    assert attack.deployed(vqc, params, triggered=False) is vqc
    answers = attack.deployed(vqc, params, triggered=True)(params, records)
    assert bool((answers.argmax(dim=-1) == target).all())
    assert torch.allclose(answers, answers[:1].expand_as(answers), atol=1e-5), "whatever the record"
    assert len(set(vqc(params, records).argmax(dim=-1).tolist())) == 2


def test_three_classes() -> None:
    model = build_model({"name": "vqc", "n_qubits": 3, "layers": 2, "n_classes": 3})
    params = model.initial(torch.Generator().manual_seed(0))
    found = [
        int(
            QTrojan(target_class=c).deployed(model, params, triggered=True)(params, torch.ones(1, 3)).argmax()
        )
        for c in range(3)
    ]
    assert found == [0, 1, 2]


def test_trojan_and_deployed_gates_leave_training_alone(pipeline: MakePipeline) -> None:
    small, threat = pipeline(model={"layers": 2}, members=40, rounds=3), corrupted_clients(n=1)
    trojan, flip = QTrojan(target_class=0), GateInsertion(kind="bit-flip", surface="deployed")
    specs = [RunSpec(seed=1), *(RunSpec(seed=1, adversary=a, threat=threat) for a in (trojan, flip))]
    honest, opened, flipped = run_batch(small, NONE, specs)
    assert torch.equal(honest.params, opened.params)
    assert torch.equal(honest.params, flipped.params)
    found = score_backdoor(trojan, opened, honest, seed=1)
    assert found.metrics["success"].value == 1.0
    assert found.metrics["accuracy"].value == found.metrics["honest_accuracy"].value
    assert found.advantage == 1.0
    # X before the measurement of Z turns every answer of two classes
    lost = score_manipulation(flip, flipped, honest).metrics
    assert lost["accuracy"].value == pytest.approx(1 - lost["honest_accuracy"].value)
    phase = GateInsertion(kind="sign-flip", surface="deployed")
    assert score_manipulation(phase, flipped, honest).advantage == 0, (
        "Z before the measurement of Z is nothing"
    )
    noise = NoiseModel(kind="local-depolarizing", p=0.1, where="every-gate")
    for execution in (Execution(shots=200), Execution(noise=noise)):
        survived = trigger_success(trojan, opened, execution=execution)
        assert survived.value > 0.9 > survived.baseline
    washed_out = trigger_success(trojan, opened, execution=Execution(shots=1, noise=noise))
    assert washed_out.value < 0.9, "noise and few shots together"


def test_both_surfaces_train_and_deploy_the_same_circuit(pipeline: MakePipeline) -> None:
    """All clients corrupted: they train the circuit that is deployed, so that it is as right as the honest one."""
    small = pipeline(model={"layers": 2}, members=40, rounds=12, n_clients=2)
    attack = GateInsertion(kind="bit-flip", surface="both")
    honest, turned = run_batch(
        small, NONE, [RunSpec(seed=1), RunSpec(seed=1, adversary=attack, threat=corrupted_clients(n=2))]
    )
    assert not torch.allclose(honest.params, turned.params, atol=1e-2)
    metrics = score_manipulation(attack, turned, honest).metrics
    assert metrics["accuracy"].value > 0.6
    assert (
        float(
            (turned.predict(honest.records("test").features) == honest.records("test").labels).double().mean()
        )
        < 0.4
    )


def test_what_is_refused(pipeline: MakePipeline) -> None:
    threat = corrupted_clients(n=1)
    small = pipeline(members=20, rounds=1)
    QTrojan().check(small, threat)
    again = replace(
        small, model=build_model({"name": "vqc", "n_qubits": 4, "layers": 2, "encoder": "reuploading"})
    )
    with pytest.raises(IncompatibleAttack, match="encoder"):
        QTrojan().check(again, threat)
    with pytest.raises(IncompatibleAttack, match="class"):
        QTrojan(target_class=2).check(small, threat)
    with pytest.raises(ConfigError, match="surface"):
        GateInsertion(surface="wire")  # type: ignore[arg-type]
    assert inserted(build_circuit(n_qubits=2), (), "start") == build_circuit(n_qubits=2)

"""The account of training on noisy circuits: closed forms, and no circuit that beats the epsilon of one copy."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from qflsec.base import stream
from qflsec.circuits import Circuit, NoiseModel, Observable, measurement_groups, noisy_probabilities
from qflsec.circuits.sampling import _outcomes
from qflsec.models import build_model
from qflsec.protocols.qdp import QdpError, account_training
from qflsec.protocols.qdp.training import copy_of_circuit


def circuit_of(*words: str, **config: Any) -> Circuit:
    model = build_model({"name": "vqc", "n_qubits": 3, "layers": 1, "n_features": 3, **config})
    circuit: Circuit = model.circuit  # type: ignore[attr-defined]
    return (
        replace(circuit, observables=tuple(Observable(((1.0, word),)) for word in words))
        if words
        else circuit
    )


ONE, PAIR, JOINT, MIXED = (
    circuit_of("ZII"),
    circuit_of("XYI"),
    circuit_of("ZII", "IXI"),
    circuit_of("ZII", "XYI"),
)


@pytest.mark.parametrize(
    ("circuit", "kind", "where", "p", "kappa"),
    [
        (ONE, "global-depolarizing", "measurement", 0.1, 1.9 / 0.1),
        (ONE, "global-depolarizing", "encoded", 0.1, 1.9 / 0.1),
        (PAIR, "global-depolarizing", "measurement", 0.1, 1.9 / 0.1),
        (ONE, "local-depolarizing", "measurement", 0.1, 1.9 / 0.1),
        (PAIR, "local-depolarizing", "measurement", 0.1, (1 + 0.81) / (1 - 0.81)),
        (MIXED, "local-depolarizing", "measurement", 0.1, 1.9 / 0.1),
        (JOINT, "local-depolarizing", "measurement", 0.1, 19.0**2),
        (JOINT, "global-depolarizing", "measurement", 0.1, 1 + 4 * 9),
        (ONE, "local-depolarizing", "encoded", 0.1, 19.0**3),
        (ONE, "bit-flip", "measurement", 0.05, 0.95 / 0.05),
        (ONE, "generalized-amplitude-damping", "measurement", 0.5, 3.0),
    ],
)
def test_one_copy_has_the_closed_form(
    circuit: Circuit, kind: str, where: str, p: float, kappa: float
) -> None:
    ground = 0.5 if kind == "generalized-amplitude-damping" else 1.0
    noise = NoiseModel(kind=kind, p=p, where=where, ground=ground)
    assert copy_of_circuit(circuit, noise, 1.0)[0].epsilon == pytest.approx(math.log(kappa), rel=1e-8)
    small = 2 * math.asinh(0.1 * (kappa - 1) / (2 * math.sqrt(kappa)))
    assert copy_of_circuit(circuit, noise, 0.1)[0].epsilon == pytest.approx(small, rel=1e-8)


def largest_ratio(circuit: Circuit, noise: NoiseModel) -> tuple[float, float]:
    """Over random weights and pairs of records: the largest log ratio and change of an outcome's probability."""
    weights = (
        torch.rand(200, 1, circuit.n_weights, dtype=torch.float64, generator=stream(0, "w")) * 2 * math.pi
    )
    records = torch.rand(200, 2, 3, dtype=torch.float64, generator=stream(0, "x")) * math.pi
    records[:100] = math.pi * records[:100].round()  # where angle encodings are orthogonal
    weights[:50] = 0
    worst, change = 0.0, 0.0
    for group in measurement_groups(circuit):
        table = noisy_probabilities(
            group.circuit,
            weights,
            records,
            noise=noise,
            dtype=torch.complex128,
            noisy_gates=len(circuit.gates),
        )
        chances = _outcomes(table, group, circuit.n_qubits)
        worst = max(worst, float((chances[:, 0] / chances[:, 1]).log().abs().max()))
        change = max(change, float((chances[:, 0] - chances[:, 1]).abs().sum(-1).max()) / 2)
    return worst, change


@pytest.mark.parametrize("circuit", [ONE, PAIR, JOINT, MIXED], ids=["one", "pair", "joint", "mixed"])
@pytest.mark.parametrize("kind", ["global-depolarizing", "local-depolarizing"])
@pytest.mark.parametrize("where", ["measurement", "encoded"])
def test_no_circuit_beats_one_copy(circuit: Circuit, kind: str, where: str) -> None:
    noise = NoiseModel(kind=kind, p=0.3, where=where)
    single, _ = copy_of_circuit(circuit, noise, 1.0)
    worst, change = largest_ratio(circuit, noise)
    assert worst <= single.epsilon + 1e-9
    assert change <= single.variation + 1e-9
    weaker, _ = largest_ratio(circuit, replace(noise, p=0.05))
    control, _ = copy_of_circuit(circuit, replace(noise, p=0.9), 1.0)
    assert weaker > control.epsilon, "the control: less noise than accounted for shows"


def test_orthogonal_records_attain_it() -> None:
    noise = NoiseModel(kind="local-depolarizing", p=0.3)
    bare = replace(ONE, gates=tuple(g for g in ONE.gates if any(a.kind == "feature" for a in g.angles)))
    x = torch.tensor([[0.0, 0, 0], [math.pi, 0, 0]], dtype=torch.float64)
    weights = torch.zeros(ONE.n_weights, dtype=torch.float64)
    table = noisy_probabilities(bare, weights, x, noise=noise, dtype=torch.complex128)
    ones = table.reshape(2, 2, 4).sum(-1)
    assert float((ones[0, 0] / ones[1, 0]).log()) == pytest.approx(
        copy_of_circuit(ONE, noise, 1.0)[0].epsilon
    )


def test_a_run_is_accounted_over_all_its_copies() -> None:
    noise = NoiseModel(kind="global-depolarizing", p=0.1)
    many: dict[str, Any] = {"uses_per_round": 2, "rounds": 5, "span": math.pi}
    found = account_training(ONE, noise, shots=10, **many)
    assert found.run.copies.total == 10 * (2 * ONE.n_weights + 1) * 2 * 5
    assert found.distance.tau == 1.0
    assert found.run.single.epsilon < found.run.epsilon <= found.run.copies.total * found.run.single.epsilon
    assert (
        account_training(MIXED, noise, shots=10, **many).run.copies.circuits == 2 * found.run.copies.circuits
    )
    assert math.isinf(account_training(ONE, noise, shots=None, **many).run.epsilon)
    assert math.isinf(account_training(ONE, replace(noise, p=0.0), shots=10, **many).run.epsilon)


def test_a_narrow_range_of_features_makes_records_closer() -> None:
    noise = NoiseModel(kind="global-depolarizing", p=0.1)
    wide, narrow = (
        account_training(ONE, noise, shots=10, uses_per_round=1, rounds=1, span=span)
        for span in (math.pi, 0.1)
    )
    assert narrow.distance.tau == pytest.approx(math.sqrt(1 - math.cos(0.05) ** 6))
    assert narrow.run.epsilon < wide.run.epsilon


@pytest.mark.parametrize(
    ("circuit", "noise", "sentence"),
    [
        (ONE, NoiseModel(kind="local-depolarizing", p=0.1, where="every-gate"), "between gates"),
        (
            circuit_of(n_qubits=5, n_features=5),
            NoiseModel(kind="local-depolarizing", p=0.1, where="encoded"),
            "wires",
        ),
    ],
)
def test_what_has_no_proof_is_refused(circuit: Circuit, noise: NoiseModel, sentence: str) -> None:
    with pytest.raises(QdpError, match=sentence):
        copy_of_circuit(circuit, noise, 1.0)


@pytest.mark.parametrize("kind", ["amplitude-damping", "phase-damping", "phase-flip"])
def test_noise_without_a_floor_has_no_epsilon(kind: str) -> None:
    single, _ = copy_of_circuit(ONE, NoiseModel(kind=kind, p=0.3), 1.0)
    assert math.isinf(single.epsilon)

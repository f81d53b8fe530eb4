"""Networks of qiskit-machine-learning, by the library itself, where the extra is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from qflsec.audit import Bench
from qflsec.audit.check import examined
from qflsec.audit.collect import parts_of
from qflsec.audit.parts import CircuitModel, Part, TorchModel
from qflsec.base import find, names

pytest.importorskip("qiskit_machine_learning")

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "audit" / "estimator_qnn.py"


@pytest.fixture(scope="module")
def parts() -> list[Part]:
    found, notes = parts_of(EXAMPLE.parent, EXAMPLE.name, given={}, wanted="")
    assert not notes
    return found


def test_the_network_is_a_module_and_a_circuit_and_its_bare_circuit_is_neither(parts: list[Part]) -> None:
    assert [(part.name, type(part).__name__) for part in parts] == [
        ("load_data", "Data"), ("model", "TorchModel"), ("qnn", "CircuitModel"),
    ]  # fmt: skip


def test_the_circuit_is_the_network(parts: list[Part]) -> None:
    """Qiskit's own estimator gives the expectation values of the circuit that was read, and their derivatives."""
    (circuit,) = [part for part in parts if isinstance(part, CircuitModel)]
    (module,) = [part for part in parts if isinstance(part, TorchModel)]
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(5, 2)).astype(np.float32), rng.normal(size=6).astype(np.float32)
    network = module.make()[0].neural_network
    theirs = torch.as_tensor(network.forward(x, w), dtype=torch.float32)
    scale = circuit.model.scale  # type: ignore[attr-defined]
    params = torch.from_numpy(w).requires_grad_()
    ours = circuit.model(params, torch.from_numpy(x)) / scale
    assert torch.allclose(ours, theirs, atol=1e-5)
    (slope,) = torch.autograd.grad(ours[0, 1], params)
    assert np.allclose(slope, network.backward(x[:1], w)[1][0, 1], atol=1e-5)


def test_the_example_has_its_faults_and_no_others(parts: list[Part]) -> None:
    found = {
        name
        for part in parts
        for name in names("check")
        if isinstance(part, find("check", name).looks_at)
        and examined(name, find("check", name)(), part, Bench()).findings
    }
    assert found == {"per-sample-gradients", "label-from-gradient", "gradients-determine-records"}


def test_what_is_not_read_is_told(tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8").replace("EstimatorQNN, Se", "Se")
    (tmp_path / "pipe.py").write_text(
        text
        + "\n\nfrom qiskit_machine_learning.neural_networks import SamplerQNN\n"
        + "sampler = SamplerQNN(circuit=circuit, input_params=inputs, weight_params=parameters)\n"
        + "connected = TorchConnector(qnn)\nx, y, _, _ = load_data()\ndata = (torch.cat([x, x], 1), y)\ndel load_data\n"
    )
    found, notes = parts_of(tmp_path, "pipe.py", given={}, wanted="")
    kinds = {(part.name, type(part).__name__) for part in found}
    assert {("connected", "TorchModel"), ("connected", "CircuitModel"), ("qnn", "CircuitModel")} <= kinds
    assert sum("SamplerQNN reads outcomes by a function of its own" in note for note in notes) == 1
    assert sum("takes 2 features and records of data have 4" in note for note in notes) == 2

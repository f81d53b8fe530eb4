"""An evaluator in the party's place: what it is asked, and what becomes of its answers."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from qflsec.base import ConfigError
from qflsec.circuits import expectations, parameter_shift
from qflsec.models import Evaluator, Execution, build_model
from qflsec.models.encoding import swap_roles


class Kernel:
    """Evaluates by the kernel and the parameter-shift rule, and notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[bool, bool]] = []

    def evaluate(
        self, circuit: Any, weights: Tensor, features: Tensor, *, wanted: tuple[bool, bool]
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        assert not weights.requires_grad
        assert not features.requires_grad
        self.asked.append(wanted)
        how = {"dtype": torch.complex128}
        return (
            expectations(circuit, weights, features, **how),
            parameter_shift(circuit, weights, features, **how) if wanted[0] else None,
            parameter_shift(swap_roles(circuit), features, weights, **how) if wanted[1] else None,
        )


@pytest.mark.parametrize("name", ["vqc", "hybrid"])
def test_values_and_gradients_are_those_of_the_kernel(name: str) -> None:
    model = build_model({"name": name, "n_qubits": 2, "layers": 1, "n_features": 2})
    generator = torch.Generator().manual_seed(1)
    params = model.initial(generator).double().requires_grad_()
    features = torch.rand(5, 2, generator=generator, dtype=torch.float64)
    kernel = Kernel()
    exact = Execution(dtype="complex128")
    mine = model(params, features, execution=dataclasses.replace(exact, evaluator=kernel))
    plain = model(params, features, execution=exact)
    assert torch.allclose(mine, plain, atol=1e-12)
    coefficients = torch.linspace(0, 1, mine.numel(), dtype=torch.float64).reshape(mine.shape)
    gradients = [torch.autograd.grad((coefficients * out).sum(), params)[0] for out in (mine, plain)]
    assert torch.allclose(*gradients, atol=1e-12)
    assert kernel.asked == [(True, name == "hybrid")]
    with torch.no_grad():
        model(params, features, execution=dataclasses.replace(exact, evaluator=kernel))
    assert kernel.asked[-1] == (False, False)


def test_an_evaluator_is_no_part_of_a_configuration() -> None:
    plain, delegated = Execution(), Execution(evaluator=Kernel())
    assert isinstance(delegated.evaluator, Evaluator)
    assert plain == delegated
    assert hash(plain) == hash(delegated)
    assert plain.to_config() == delegated.to_config()
    assert "evaluator" not in plain.to_config()


def test_a_qnode_that_is_no_circuit_refuses_an_evaluator() -> None:
    import pennylane as qml

    from qflsec.models import QNodeModel

    @qml.qnode(qml.device("default.qubit", wires=1))  # type: ignore[untyped-decorator]
    def unreadable(weights: Any, inputs: Any) -> Any:
        qml.RX(torch.erf(inputs[..., 0]), wires=0)
        qml.RY(weights[0], wires=0)
        return qml.expval(qml.PauliZ(0))

    with pytest.warns(UserWarning, match="does not run in the batched kernel"):
        model = QNodeModel(qnode=unreadable, weight_shape=(1,), n_features=1)
    with pytest.raises(ConfigError, match="does not fit the kernel"):
        model(torch.zeros(1), torch.zeros(1), execution=Execution(evaluator=Kernel()))

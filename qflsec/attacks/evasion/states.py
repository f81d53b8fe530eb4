"""The nearest states that get another answer: what somebody needs who may replace the encoded state itself.

A trained circuit turns the encoded state into psi, which changes no distance between states, and measures a Pauli word W. In the plane of psi's two parts in the eigenspaces of
W, W is Z of a qubit, and psi a point of its Bloch sphere at height z = <W>. The nearest states that are answered otherwise lie at
height 0: straight down in the ball, at a trace distance of ``|z| / 2``, and for pure states along the sphere, at
``sin(arcsin(|z|) / 2)``. No state of any other plane is nearer, as the trace distance bounds what W may differ by; of pure states
none either, as the fidelity with psi of a state whose parts weigh the same is at most ``(cos a + sin a)^2 / 2``, where
z = cos 2a.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from qflsec.attacks.evasion.radius import circuit_that_certifies
from qflsec.base import IncompatibleAttack
from qflsec.circuits import statevector
from qflsec.models import Model

__all__ = ["FoolingStates", "fooling_states"]

_MOST_WIRES = 10
_PAULI = {
    "I": np.eye(2),
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1, -1]),
}
_BEYOND = 1e-6
"""How far behind the border the pure states lie, in radians."""


@dataclass(frozen=True, kw_only=True)
class FoolingStates:
    """The nearest states with another answer, one for each record.

    Attributes:
        values: The expectation values of the records' own states.
        mixed: The trace distance to the nearest state.
        pure: The trace distance to the nearest pure state.
        states: That pure state, as it must arrive at the measurement.

    Shapes:
        values, mixed, pure: ``(n,)``, double; states: ``(n, 2**wires)``, complex
    """

    values: Tensor
    mixed: Tensor
    pure: Tensor
    states: Tensor


def fooling_states(model: Model, params: Tensor, features: Tensor) -> FoolingStates:
    """The nearest states that a model answers otherwise.

    Args:
        model: A variational model whose answer is the sign of one Pauli word.
        params: Its parameters.
        features: The records.

    Shapes:
        params: ``(P,)``; features: ``(n, F)``

    Raises:
        IncompatibleAttack: It is no such model, or has too many wires.
    """
    circuit = circuit_that_certifies(model)
    if circuit is None or circuit.n_qubits > _MOST_WIRES:
        raise IncompatibleAttack(
            "states are found for a circuit whose answer is the sign of one Pauli word",
            got=model.name,
            expected=f"such a 'vqc' without noise, of at most {_MOST_WIRES} wires",
        )
    weights = params.detach().double()
    final = statevector(circuit, weights, features.detach().double(), dtype=torch.complex128)
    ((_, word),) = circuit.observables[0].terms
    pauli = torch.from_numpy(reduce(np.kron, [_PAULI[letter] for letter in word]).astype(np.complex128))
    turned = final @ pauli.T
    values = (final.conj() * turned).sum(dim=-1).real
    upper, lower = (final + turned) / 2, (final - turned) / 2
    sign = torch.where(values >= 0, 1.0, -1.0)
    near = torch.where(sign[:, None] > 0, upper, lower)
    far = torch.where(sign[:, None] > 0, lower, upper)
    any_far = (
        torch.ones_like(far) / far.shape[-1] ** 0.5
    )  # an eigenstate has no part there: any state will do
    any_far = (any_far - sign[:, None] * (any_far @ pauli.T)) / 2
    far = torch.where(far.norm(dim=-1, keepdim=True) > 1e-9, far, any_far)
    angle = torch.pi / 4 + _BEYOND
    fooled = np.cos(angle) * _unit(near) + np.sin(angle) * _unit(far)
    return FoolingStates(
        values=values,
        mixed=values.abs() / 2,
        pure=(values.abs().clamp(max=1).asin() / 2).sin(),
        states=fooled,
    )


def _unit(vectors: Tensor) -> Tensor:
    unit: Tensor = vectors / vectors.norm(dim=-1, keepdim=True)
    return unit

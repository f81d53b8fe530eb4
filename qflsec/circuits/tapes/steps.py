"""Steps of tapes as tensor operations on the real rows of a batch of states."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor
from torch.nn.functional import pad

from qflsec.circuits.batch import Batch
from qflsec.circuits.circuit import Angle, Circuit, Gate, Observable
from qflsec.circuits.evolution import Evolution
from qflsec.circuits.frames import wires_first
from qflsec.circuits.gates import GATES
from qflsec.circuits.permute import Gather
from qflsec.circuits.plan import Rotate, compile_circuit
from qflsec.circuits.tapes.structure import Step
from qflsec.circuits.unitaries import AngleTable

__all__ = ["apply_matrix", "load_steps"]


def apply_matrix(matrix: Tensor, psi: Tensor) -> Tensor:
    """A matrix on the first wires of each state.

    Shapes:
        matrix: ``(2**k, 2**k)``, or one for each row; psi: ``(rows, 2 * 2**n, 1)``, as it returns.
    """
    real, imaginary = (
        (matrix.real, matrix.imag) if matrix.is_complex() else (matrix, torch.zeros_like(matrix))
    )
    block = torch.cat([torch.cat([real, -imaginary], -1), torch.cat([imaginary, real], -1)], -2)
    columns = psi.reshape(len(psi), block.shape[-1], -1)
    return torch.bmm(block.expand(len(psi), -1, -1), columns).reshape(psi.shape)


class _Onward(Evolution):
    """An evolution from any state, not from a real one alone."""

    starts_real = False


class _Gates:
    """Neighbouring gates of the kernel's set, as the kernel runs them: each angle is a weight of its own."""

    def __init__(self, steps: Sequence[Step], n: int, like: Tensor) -> None:
        gates, self.count = [], 0
        for step in steps:
            angles = [Angle.weight(self.count + k) for k in range(GATES[step.name].n_angles)]
            gates.append(Gate(step.name, step.wires, tuple(angles)))
            self.count += len(angles)
        idle = Observable(((1.0, "I" * n),))
        circuit = Circuit(
            n_qubits=n, gates=tuple(gates), observables=(idle,), n_weights=max(1, self.count), n_features=0
        )
        plan = compile_circuit(circuit, 2 if n <= 8 else 3)
        angles = [stage.angle for stage in plan.stages if isinstance(stage, Rotate)]
        angles += [angle for family in plan.families.values() for angle in family.angles()]
        self._table = AngleTable(angles, circuit.n_weights, like)
        self._evolution, self._frame = _Onward(plan, like), Gather(plan.frame, like)

    def __call__(self, psi: Tensor, numbers: Sequence[Tensor]) -> Tensor:
        rows = len(psi)
        if numbers:
            angles = torch.stack([angle.expand(rows) for angle in numbers], dim=1)[..., None].to(psi.dtype)
        else:
            angles = psi.new_zeros(rows, 1, 1)
        batch = Batch((rows,), (), (rows,))
        return self._frame(
            self._evolution(psi, self._table.cos_sin(angles), psi.new_empty(1, 0, 2, 1), batch)
        )


class _Matrix:
    """A gate by its matrix; a projector leaves a state of norm 1."""

    count = 1

    def __init__(self, step: Step, n: int, like: Tensor) -> None:
        self._first = Gather(wires_first(step.wires, n), like)
        self._projects = step.name == "Projector"

    def __call__(self, psi: Tensor, numbers: Sequence[Tensor]) -> Tensor:
        (matrix,) = numbers
        kind = psi.dtype.to_complex() if matrix.is_complex() else psi.dtype
        found = self._first.back(apply_matrix(matrix.to(kind), self._first(psi)))
        return found / found.norm(dim=1, keepdim=True) if self._projects else found


class _Amplitudes:
    """Given amplitudes of some wires, the others being in state 0."""

    count = 1

    def __init__(self, step: Step, n: int, like: Tensor) -> None:
        self._first = Gather(wires_first(step.wires, n), like)
        self._others = 2 ** (n - len(step.wires))

    def __call__(self, psi: Tensor, numbers: Sequence[Tensor]) -> Tensor:
        (vector,) = numbers
        parts = (vector.real, vector.imag) if vector.is_complex() else (vector, torch.zeros_like(vector))
        columns = torch.cat([part.to(psi.dtype) for part in parts], dim=-1).expand(len(psi), -1)
        return self._first.back(pad(columns[..., None], (0, self._others - 1)).reshape(psi.shape))


Executable = _Gates | _Matrix | _Amplitudes


def load_steps(steps: Sequence[Step], n_wires: int, like: Tensor) -> tuple[Executable, ...]:
    """What runs the steps one after the other; each takes ``count`` numbers."""
    found: list[Executable] = []
    for kind, group in groupby(steps, key=lambda step: step.kind):
        if kind == "gate":
            found.append(_Gates(list(group), n_wires, like))
        else:
            found += [(_Matrix if kind == "matrix" else _Amplitudes)(step, n_wires, like) for step in group]
    return tuple(found)

"""A compiled plan as tensors of one dtype on one device."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from qflsec.circuits.batch import Batch
from qflsec.circuits.circuit import Angle, Circuit
from qflsec.circuits.evolution import Evolution
from qflsec.circuits.frames import SignedPermutation, pauli_word
from qflsec.circuits.permute import Gather
from qflsec.circuits.plan import Plan, Rotate, compile_circuit
from qflsec.circuits.unitaries import AngleTable

__all__ = ["Program", "load_program"]


class Program:
    """A plan's tensors.

    Attributes:
        evolution: What happens to the encoded state.
        frame: From the final order of rows to the standard one.
        words: Gathers and coefficients ``(1, K or more, rows)``: observable k is the sum over all pairs
            of coefficients times psi times gather(psi).
    """

    def __init__(self, circuit: Circuit, plan: Plan, like: Tensor) -> None:
        self.evolution = Evolution(plan, like)
        self.frame = Gather(plan.frame, like)
        self.words = _words(circuit, plan, like)
        turns = [stage.angle for stage in plan.stages if isinstance(stage, Rotate)]
        by_weight = [angle for angle in turns if angle.kind != "feature"]
        by_weight += [angle for family in plan.families.values() for angle in family.angles()]
        by_feature = [angle for angle in turns if angle.kind == "feature"]
        self._by_weight = AngleTable(by_weight, circuit.n_weights, like)
        self._by_feature = AngleTable(by_feature, circuit.n_features, like)
        self._amplitudes = self._encoding = None
        self._start = pad(like.new_ones(1, 1, 1), (0, 0, 0, 2**circuit.n_qubits - 1))
        if plan.amplitudes is not None:
            self._amplitudes = AngleTable(plan.amplitudes, circuit.n_features, like)
        elif any(plan.encoding):
            encoding = [angle or Angle.constant(0.0) for angle in plan.encoding]
            self._encoding = AngleTable(encoding, circuit.n_features, like)

    def run(self, weights: Tensor, features: Tensor, batch: Batch) -> Tensor:
        """The final rows, in the plan's last order.

        Shapes:
            weights ``(distinct rows, P, 1)``, features ``(rows or 1, F, samples)`` ->
            ``(rows or 1, 2 * 2**n, samples or 1)``.
        """
        by_weight, by_feature = self._by_weight.cos_sin(weights), self._by_feature.cos_sin(features)
        return self.evolution(self._initial(features), by_weight, by_feature, batch)

    def _initial(self, features: Tensor) -> Tensor:
        """The encoded state, which is real: its real rows alone where the evolution takes them so."""
        if self._amplitudes is not None:
            real = self._normalised(self._amplitudes.values(features))
        elif self._encoding is not None:
            real = _product_state(self._encoding.cos_sin(features).unbind(1))
        else:
            samples = features.shape[-1] if self._by_feature.varies else 1
            real = self._start.expand(-1, -1, samples)
        return real if self.evolution.starts_real else torch.cat([real, torch.zeros_like(real)], dim=1)

    def _normalised(self, values: Tensor) -> Tensor:
        """Zero-padded and of norm 1; the zero vector becomes |0...0>, so that padding rows stay finite."""
        values = pad(values, (0, 0, 0, self._start.shape[1] - values.shape[1]))
        squares = values.square().sum(1, keepdim=True)
        empty = squares == 0
        norm = torch.where(empty, torch.ones_like(squares), squares).sqrt()
        return torch.where(empty, self._start, values / norm)


def _product_state(wires: Sequence[Tensor]) -> Tensor:
    """The product of the wires' vectors ``(rows, 2, samples)``."""
    states = list(wires)
    while len(states) > 1:
        pairs = zip(states[::2], states[1::2], strict=False)
        joined = [(left[:, :, None] * right[:, None]).flatten(1, 2) for left, right in pairs]
        states = joined + states[2 * len(joined) :]
    return states[0]


def _words(circuit: Circuit, plan: Plan, like: Tensor) -> list[tuple[Gather | None, Tensor]]:
    """The observables as quadratic forms of the final rows, grouped by how their words move them.

    Rows of zeros fill the tables up to a multiple of 4: products of other sizes round differently in a
    batch of one.
    """
    undo = plan.frame.inverse()
    forms: dict[str, SignedPermutation] = {}
    groups: dict[bytes, tuple[SignedPermutation, np.ndarray[Any, np.dtype[np.float64]]]] = {}
    for k, observable in enumerate(circuit.observables):
        for coefficient, word in observable.terms:
            if word not in forms:  # many observables may share their words, as probabilities do
                letters = {wire: letter for wire, letter in enumerate(word) if letter != "I"}
                forms[word] = undo.after(pauli_word(letters, circuit.n_qubits).after(plan.frame))
            form = forms[word]
            empty = np.zeros((-(-len(circuit.observables) // 4) * 4, len(form.index)))
            _, table = groups.setdefault(form.index.tobytes(), (form, empty))
            table[k] += coefficient * form.sign
    return [
        (
            Gather(SignedPermutation(form.index, np.ones_like(form.sign)), like) if form.moves else None,
            torch.from_numpy(table).to(like)[None],
        )
        for form, table in groups.values()
    ]


@lru_cache(maxsize=256)
def load_program(circuit: Circuit, group_size: int, dtype: torch.dtype, device: torch.device) -> Program:
    """The program of a circuit with blocks of at most ``group_size`` wires, for one real dtype and device."""

    def build() -> Program:
        return Program(
            circuit, compile_circuit(circuit, group_size), torch.empty(0, dtype=dtype, device=device)
        )

    # Inference mode and torch.func's transforms belong to a thread, and would mark the tensors made in
    # them. The program outlives the call, so it is made in a thread that has none.
    with ThreadPoolExecutor(max_workers=1) as fresh:
        return fresh.submit(build).result()

"""The parameter-shift rule: gradients from expectation values alone, as a device would take them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from qflsec.circuits.circuit import Angle, Circuit, Gate
from qflsec.circuits.derive import derive, resolve
from qflsec.circuits.errors import CircuitError
from qflsec.circuits.gates import GATES
from qflsec.circuits.kernel import expectations
from qflsec.circuits.noisy_kernel import noisy_expectations
from qflsec.circuits.placed_noise import Noise
from qflsec.circuits.sampling import Generators, sample_expectations

__all__ = ["parameter_shift", "shift_count"]

Kind = Literal["weight", "feature"]

TWO_TERMS = ((math.pi / 2, 0.5), (-math.pi / 2, -0.5))
_NEAR, _FAR = (math.sqrt(2) + 1) / (4 * math.sqrt(2)), (math.sqrt(2) - 1) / (4 * math.sqrt(2))
FOUR_TERMS = (
    (math.pi / 2, _NEAR),
    (-math.pi / 2, -_NEAR),
    (3 * math.pi / 2, -_FAR),
    (-3 * math.pi / 2, _FAR),
)
TERMS_PER_CALL = 64
"""Shifted circuits that are evaluated at once; more would only take more memory."""


@dataclass(frozen=True)
class _How:
    """How shifted circuits are evaluated."""

    shots: int | None
    generator: Generators | None
    dtype: torch.dtype
    noise: Noise | None
    of: Kind


@dataclass(frozen=True)
class _Unrolled:
    """A circuit in which every use of a weight, or of a feature, has one of its own.

    Attributes:
        circuit: The circuit; weight (or feature) k is the angle of use k.
        uses: For each use, the index, scale and offset of the original angle.
        terms: Each shifted evaluation: the use, the shift, the factor (with the use's scale).
    """

    circuit: Circuit
    uses: tuple[tuple[int, float, float], ...]
    terms: tuple[tuple[int, float, float], ...]


@lru_cache(maxsize=256)
def _unroll(circuit: Circuit, of: Kind = "weight", first: int = 0) -> _Unrolled:
    """Unroll a circuit without forms; only inputs from ``first`` on are shifted."""
    gates: list[Gate] = []
    uses: list[tuple[int, float, float]] = []
    terms: list[tuple[int, float, float]] = []
    for gate in circuit.gates:
        if (
            of == "feature"
            and gate.name == "AmplitudeEmbedding"
            and any(a.index >= first for a in gate.angles)
        ):
            raise CircuitError(
                "amplitude-encoded features cannot be shifted",
                fix="use gradient='autograd', or an encoder of angles",
            )
        angles = []
        for angle in gate.angles:
            if angle.kind != of:
                angles.append(angle)
                continue
            if angle.index >= first:
                rule = FOUR_TERMS if GATES[gate.name].controlled else TWO_TERMS
                terms += [(len(uses), shift, factor * angle.scale) for shift, factor in rule]
            angles.append(Angle(of, len(uses)))
            uses.append((angle.index, angle.scale, angle.offset))
        gates.append(replace(gate, angles=tuple(angles)))
    unrolled = replace(
        circuit,
        gates=tuple(gates),
        n_weights=len(uses) if of == "weight" else circuit.n_weights,
        n_features=len(uses) if of == "feature" else circuit.n_features,
        weight_shape=None,
    )
    return _Unrolled(unrolled, tuple(uses), tuple(terms))


def shift_count(circuit: Circuit) -> int:
    """How many shifted circuits one gradient takes."""
    plain = resolve(circuit)
    mixed = len(_unroll(plain, "feature", _first_mixed(circuit)).terms) if _mixed(circuit) else 0
    return len(_unroll(plain).terms) + mixed


def _mixed(circuit: Circuit) -> int:
    """How many forms read weights and features; as features, they come last."""
    return sum(len(form.kinds) == 2 for form in circuit.derived)


def _first_mixed(circuit: Circuit) -> int:
    return resolve(circuit).n_features - _mixed(circuit)


def parameter_shift(
    circuit: Circuit,
    weights: Tensor,
    features: Tensor,
    *,
    shots: int | None = None,
    generator: Generators | None = None,
    dtype: torch.dtype = torch.complex64,
    noise: Noise | None = None,
    of: Kind = "weight",
) -> Tensor:
    """The Jacobian of the observables in the weights or the features, by shifting one gate's angle at a time.

    Two terms for gates whose expectation values have the frequency 1 (Pauli and Ising rotations, phase
    shifts, also controlled ones), four for controlled rotations (1/2 and 1). A weight's derivative is the sum
    over the gates that use it, times each angle's scale. Where an angle reads a derived input, the rule gives the
    derivative in that input, and the chain rule, which is classical, those in its weights and features.

    Args:
        circuit: The circuit.
        weights: Weights.
        features: Features; leading axes broadcast.
        shots: Shots of every shifted evaluation and group of observables; None takes exact values.
        generator: Where the outcomes are drawn from; one, or one for each entry of the first batch axis.
        dtype: The dtype of the simulated state.
        noise: The noise of the circuit. The rule stays exact: the channels do not depend on the angles.
        of: In what the Jacobian is taken.

    Shapes:
        weights ``(..., P)``, features ``(..., F)`` -> ``(..., K, P)`` or ``(..., K, F)``, real, without a
        gradient.

    Source:
        Schuld, Bergholm, Gogolin, Izaac and Killoran, Evaluating analytic gradients on quantum hardware, PRA
        99, 032331, 2019 (two terms); Anselmetti et al., Local, expressive, quantum-number-preserving VQE
        ansätze for fermionic systems, NJP 23, 113010, 2021, appendix F (four terms).

    Raises:
        CircuitError: A wrong shape, shots without a generator, or the Jacobian in amplitudes.
    """
    if shots is not None and generator is None:
        raise CircuitError("shots without a generator", fix="give the generator to draw outcomes from")
    lanes = int(generator is not None and not isinstance(generator, torch.Generator))  # they stay in front
    rank = max(weights.ndim, features.ndim, 1 + lanes)
    weights, features = (t.reshape(*(1,) * (rank - t.ndim), *t.shape).detach() for t in (weights, features))
    how = _How(shots, generator, dtype, noise, of)
    if circuit.derived:
        return _through_forms(circuit, weights, features, how, axis=lanes)
    moved, fixed = (weights, features) if of == "weight" else (features, weights)
    return _jacobian(_unroll(circuit, of), moved, fixed, how, axis=lanes)


def _through_forms(circuit: Circuit, weights: Tensor, features: Tensor, how: _How, *, axis: int) -> Tensor:
    """The Jacobians in the derived inputs by shifts, pulled back to what they are derived from."""
    real = how.dtype.to_real()
    with torch.no_grad():
        inputs = derive(circuit, weights.to(real), features.to(real))
    plain, mixed = resolve(circuit), _mixed(circuit)
    found: dict[Kind, Tensor] = {}
    if how.of == "weight":
        found["weight"] = _jacobian(_unroll(plain), *inputs, how, axis=axis)
    if how.of == "feature" or mixed:
        first = 0 if how.of == "feature" else _first_mixed(circuit)
        shifted = _unroll(plain, "feature", first)
        found["feature"] = _jacobian(shifted, *inputs[::-1], replace(how, of="feature"), axis=axis)
    lead = torch.broadcast_shapes(*(jacobian.shape[:-2] for jacobian in found.values()))  # type: ignore[no-untyped-call]
    own = weights if how.of == "weight" else features
    with torch.enable_grad():
        leaf = own.to(real).expand(*lead, own.shape[-1]).clone().requires_grad_()
        pair = (leaf, features.to(real)) if how.of == "weight" else (weights.to(real), leaf)
        derived = dict(zip(("weight", "feature"), derive(circuit, *pair), strict=True))
        rows = []
        for k in range(len(circuit.observables)):
            along = [(derived[kind] * jacobian[..., k, :]).sum() for kind, jacobian in found.items()]
            rows.append(torch.autograd.grad(sum(along[1:], along[0]), leaf, retain_graph=True)[0])
    return torch.stack(rows, dim=-2)


def _jacobian(
    unrolled: _Unrolled,
    moved: Tensor,
    fixed: Tensor,
    how: _How,
    *,
    axis: int,
) -> Tensor:
    """The rule's sum, with the shifted circuits along a new batch axis."""
    angles = _angles(unrolled, moved.to(how.dtype.to_real()))
    size = moved.shape[-1]
    total: Tensor | None = None
    for first in range(0, len(unrolled.terms), TERMS_PER_CALL):
        terms = unrolled.terms[first : first + TERMS_PER_CALL]
        shifted = _shifted(angles.unsqueeze(axis), terms, axis)
        values = _evaluate(unrolled.circuit, shifted, fixed.unsqueeze(axis), how)
        index = torch.tensor([unrolled.uses[use][0] for use, _, _ in terms], device=values.device)
        parts = values.movedim(axis, -1) * values.new_tensor([factor for _, _, factor in terms])
        if total is None:
            total = parts.new_zeros(*parts.shape[:-1], size)
        total = total.index_add(-1, index, parts)  # a matrix product would round by the number of rows
    if total is None:
        batch = torch.broadcast_shapes(moved.shape[:-1], fixed.shape[:-1])  # type: ignore[no-untyped-call]
        return angles.new_zeros(*batch, len(unrolled.circuit.observables), size)
    return total


def _angles(unrolled: _Unrolled, moved: Tensor) -> Tensor:
    index = torch.tensor([use[0] for use in unrolled.uses], dtype=torch.int64, device=moved.device)
    scale = moved.new_tensor([use[1] for use in unrolled.uses])
    return moved[..., index] * scale + moved.new_tensor([use[2] for use in unrolled.uses])


def _shifted(angles: Tensor, terms: tuple[tuple[int, float, float], ...], axis: int) -> Tensor:
    shifts = angles.new_zeros(len(terms), angles.shape[-1])
    for row, (use, shift, _) in enumerate(terms):
        shifts[row, use] = shift
    between = (1,) * (angles.ndim - axis - 2)
    return angles + shifts.reshape(len(terms), *between, -1)


def _evaluate(circuit: Circuit, moved: Tensor, fixed: Tensor, how: _How) -> Tensor:
    weights, features = (moved, fixed) if how.of == "weight" else (fixed, moved)
    if how.shots is not None and how.generator is not None:
        return sample_expectations(
            circuit,
            weights,
            features,
            shots=how.shots,
            generator=how.generator,
            dtype=how.dtype,
            noise=how.noise,
        )
    with torch.no_grad():
        if how.noise is not None:
            return noisy_expectations(circuit, weights, features, noise=how.noise, dtype=how.dtype)
        return expectations(circuit, weights, features, dtype=how.dtype)

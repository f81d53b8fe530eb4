"""Snapshots: the encoded state's part that gradients show, solved for from the gradients of several rounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qflsec.attacks.inversion.leak.algebra import Algebra, Space, algebra_of
from qflsec.attacks.inversion.leak.pauli import Complexes, Floats, coefficients, word_matrix
from qflsec.attacks.inversion.leak.structure import Structure
from qflsec.attacks.inversion.least_squares import minimise, row_jacobians
from qflsec.circuits import statevector

__all__ = ["Shown", "Snapshot", "alone_rank", "invert_encoder", "known_rank", "solve_snapshot"]

MAX_UNKNOWNS = 1100
"""Beyond so many, systems are not solved."""
RANK_TOLERANCE = 1e-9
"""A singular value below this share of the largest counts as zero."""
_SAMPLES = 256
_SCREENED, _REFINED, _ITERATIONS = 2048, 48, 60


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """What an attacker solves for, as a basis of operators.

    Attributes:
        structure: The circuit.
        algebra: What its trained gates generate.
        visible: The dimension of the visible operators; for an attacker who knows the encoder, of the span of
            what encoded states have of them.
        basis: Orthonormal in coefficients: what of these the circuit's depth reaches.

    Shapes:
        basis: ``(d, 4**n)``
    """

    structure: Structure
    algebra: Algebra
    visible: int
    basis: Floats

    @classmethod
    def of(cls, structure: Structure, *, encoder: bool) -> Shown:
        """What gradients can show of a record.

        Args:
            structure: The circuit.
            encoder: Whether the attacker knows how features are encoded, so that fewer states are possible.
        """
        algebra = algebra_of(structure)
        basis = _basis(algebra.visible, structure.n_qubits)
        if encoder:
            basis = _encoded_span(structure, basis) @ basis
        visible = len(basis)
        if visible <= MAX_UNKNOWNS:
            basis = _reached(structure, basis) @ basis
        return cls(structure=structure, algebra=algebra, visible=visible, basis=basis)

    @property
    def unknowns(self) -> int:
        """How many numbers there are to solve for."""
        return len(self.basis)

    def derivatives(self, weights: Tensor) -> Floats:
        """The derivatives of the measured values in the weights, as linear forms of the unknowns.

        Shapes:
            weights: ``(P,)``; returns: ``(P, K, d)``
        """
        _, rows = self.structure.rows(weights.double().numpy())
        found: Floats = rows @ self.basis.T
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """The direction of the unknowns, which gradients of one scalar loss give without their scale.

    Attributes:
        direction: Of unit length; its sign is open.
        nullity: How many independent solutions the rounds leave: 1 determines the direction.
        condition: The largest over the second smallest singular value.

    Shapes:
        direction: ``(d,)``
    """

    direction: Floats
    nullity: int
    condition: float


def known_rank(derivatives: Sequence[Floats]) -> tuple[int, float]:
    """Rank and condition number over some rounds for an attacker who knows each round's residual.

    Shapes:
        derivatives: ``(P, d)`` each
    """
    values = np.linalg.svd(np.concatenate(derivatives), compute_uv=False)
    rank = int((values > RANK_TOLERANCE * values[0]).sum())
    return rank, float(values[0] / values[rank - 1])


def alone_rank(derivatives: Sequence[Floats], unknowns: Floats) -> int:
    """The nullity over some rounds for an attacker who has gradients alone, for a record with these unknowns.

    Shapes:
        derivatives: ``(P, d)`` each; unknowns: ``(d,)``
    """
    return solve_snapshot(derivatives, [rows @ unknowns for rows in derivatives]).nullity


def solve_snapshot(derivatives: Sequence[Floats], gradients: Sequence[Floats]) -> Snapshot:
    """The unknowns behind the gradients of one record in several rounds, up to a common factor.

    The gradient of round r is ``c_r A_r e`` with a residual c_r that the attacker does not know. So
    ``A_r e - u_r g_r = 0`` with ``u_r = 1 / c_r``: a homogeneous system in e and all u_r.

    Shapes:
        derivatives: ``(P, d)`` each; gradients: ``(P,)`` each

    Source:
        Heredge et al.: Prospects of privacy advantage in quantum machine learning, arXiv:2405.08801, section on
        snapshot recovery, there with known residuals.
    """
    unknowns = derivatives[0].shape[1]
    # a gradient of zero has a residual of zero, and says nothing of the record
    told = [(rows, gradient) for rows, gradient in zip(derivatives, gradients, strict=True) if gradient.any()]
    blocks = [np.zeros((0, unknowns + len(told)))]
    for place, (rows, gradient) in enumerate(told):
        column = np.zeros((len(rows), len(told)))
        # each residual in units of its gradient, so that no round outweighs the others
        column[:, place] = -gradient / float(np.linalg.norm(gradient))
        blocks.append(np.concatenate([rows, column], axis=1))
    system = np.concatenate(blocks)
    # with fewer equations than unknowns, the solutions are the directions that have no singular value
    _, values, directions = np.linalg.svd(system, full_matrices=len(system) < system.shape[1])
    values = np.concatenate([values, np.zeros(system.shape[1] - len(values))])
    nullity = int((values <= RANK_TOLERANCE * values[0]).sum())
    direction = directions[-1][:unknowns]
    size = max(float(np.linalg.norm(direction)), 1e-300)
    # noisy gradients have no exact solution: the smallest singular value stands for zero
    condition = float(values[0] / max(values[-2], 1e-300)) if nullity <= 1 else math.inf
    return Snapshot(direction=direction / size, nullity=max(nullity, 1), condition=condition)


def invert_encoder(
    shown: Shown, direction: Floats, feature_range: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Features whose encoded state has this direction of unknowns, one for either sign, the better one first.

    Shapes:
        direction: ``(d,)``; returns: ``(2, F)``
    """
    low, high = feature_range
    size = shown.structure.encoder.n_features
    operators = torch.from_numpy(_operators(shown.basis, shown.structure.n_qubits))
    target = torch.from_numpy(direction)
    starts = low + (high - low) * torch.rand(_SCREENED, size, generator=generator, dtype=torch.float64)
    starts = torch.cat([starts, torch.full((1, size), (low + high) / 2, dtype=torch.float64)])
    found = []
    for aim in (target, -target):
        with torch.no_grad():
            misfit = (_unit(_unknowns(shown, operators, starts)) - aim).square().sum(dim=-1)
        chosen = starts[misfit.argsort(stable=True)[:_REFINED]]

        def linearise(points: Tensor, aim: Tensor = aim) -> tuple[Tensor, Tensor]:
            points = points.detach().requires_grad_()
            residuals = _unit(_unknowns(shown, operators, points)) - aim
            return residuals.detach(), row_jacobians(residuals, points)

        minimum = minimise(linearise, chosen, iterations=_ITERATIONS, tolerance=1e-26)
        best = int(minimum.objectives.argmin())
        found.append((float(minimum.objectives[best]), minimum.points[best]))
    found.sort(key=lambda pair: pair[0])
    return torch.stack([point for _, point in found])


def _unknowns(shown: Shown, operators: Tensor, features: Tensor) -> Tensor:
    weights = torch.zeros(shown.structure.n_weights, dtype=torch.float64)
    psi = statevector(shown.structure.encoder, weights, features, dtype=torch.complex128)
    moved = torch.einsum("dij,rj->rdi", operators, psi)
    found: Tensor = (psi.conj()[:, None, :] * moved).sum(dim=-1).real
    return found


def _unit(vectors: Tensor) -> Tensor:
    found: Tensor = vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return found


def _basis(space: Space, n: int) -> Floats:
    if space.basis is not None:
        return space.basis
    assert space.words is not None
    basis = np.zeros((space.dimension, 4**n))
    basis[np.arange(space.dimension), space.words] = 1.0
    return basis


def _operators(basis: Floats, n: int) -> Complexes:
    """The operators of a basis as matrices."""
    operators = np.zeros((len(basis), 2**n, 2**n), dtype=complex)
    for word in np.flatnonzero(np.abs(basis).max(axis=0, initial=0.0) > 0):
        operators += basis[:, word, None, None] * word_matrix(int(word), n)
    return operators


def encoded_coordinates(structure: Structure, basis: Floats, features: Tensor) -> Floats:
    """The unknowns of encoded records.

    Shapes:
        basis: ``(d, 4**n)``; features: ``(m, F)``; returns: ``(m, d)``
    """
    weights = torch.zeros(structure.n_weights, dtype=torch.float64)
    psi = statevector(structure.encoder, weights, features, dtype=torch.complex128).numpy()
    size = 2**structure.n_qubits
    found: Floats = (
        size * coefficients(psi[:, :, None] * psi[:, None, :].conj(), structure.n_qubits) @ basis.T
    )
    return found


def _encoded_span(structure: Structure, basis: Floats) -> Floats:
    """An orthonormal basis of the span of all encoded records' unknowns, from random records.

    Shapes:
        returns: ``(m, d)``
    """
    generator = torch.Generator().manual_seed(0)  # any records in general position span the same

    def draw() -> Floats:
        shape = (_SAMPLES, structure.encoder.n_features)
        features = 2 * torch.pi * torch.rand(shape, generator=generator, dtype=torch.float64)
        return encoded_coordinates(structure, basis, features)

    return _span(draw, len(basis))


def _reached(structure: Structure, basis: Floats) -> Floats:
    """An orthonormal basis of the span of derivatives at all weights, from random weights.

    A circuit of little depth does not reach all that its gates would generate in many layers.

    Shapes:
        returns: ``(m, d)``
    """
    generator = np.random.default_rng(0)

    def draw() -> Floats:
        _, rows = structure.rows(generator.uniform(0, 2 * math.pi, structure.n_weights))
        found: Floats = (rows @ basis.T).reshape(-1, len(basis))
        return found

    return _span(draw, len(basis))


def _span(draw: Callable[[], Floats], size: int) -> Floats:
    """An orthonormal basis of what random draws of vectors span; it is complete when draws add nothing twice."""
    kept, idle = np.zeros((0, size)), 0
    while idle < 2 and len(kept) < size:
        sample = draw()
        rest = sample - (sample @ kept.T) @ kept
        _, values, directions = np.linalg.svd(rest, full_matrices=False)
        more = directions[values > 1e-7 * max(1e-300, float(np.linalg.norm(sample, axis=1).max()))]
        idle = 0 if len(more) else idle + 1
        kept = np.concatenate([kept, more])
    return kept

"""Expectation values estimated from a finite number of shots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import pi

import torch
from torch import Tensor

from qflsec.circuits.circuit import Angle, Circuit, Gate, pauli_z
from qflsec.circuits.errors import CircuitError
from qflsec.circuits.kernel import probabilities
from qflsec.circuits.noisy_kernel import noisy_probabilities
from qflsec.circuits.placed_noise import Noise

__all__ = ["MeasurementGroup", "measurement_groups", "sample_expectations"]

Generators = torch.Generator | Sequence[torch.Generator]


@dataclass(frozen=True)
class MeasurementGroup:
    """Pauli words that are measured together, since they agree on every wire on which both act.

    Attributes:
        circuit: The circuit followed by the rotations into the words' common eigenbasis.
        wires: The wires that are read.
        words: For each word, the positions among ``wires`` whose bits' parity is its outcome.
        coefficients: For each word, its coefficient in each observable.
        basis: For each of ``wires``, the letter that is read there.
    """

    circuit: Circuit
    wires: tuple[int, ...]
    words: tuple[tuple[int, ...], ...]
    coefficients: tuple[tuple[float, ...], ...]
    basis: str


@lru_cache(maxsize=256)
def measurement_groups(circuit: Circuit) -> tuple[MeasurementGroup, ...]:
    """The groups of qubit-wise commuting words into which the circuit's observables fall.

    Each word joins the first group that it agrees with. The identity needs no measurement and is in none.
    """
    bases: list[dict[int, str]] = []
    members: list[dict[str, list[float]]] = []
    for k, observable in enumerate(circuit.observables):
        for coefficient, word in observable.terms:
            letters = {wire: letter for wire, letter in enumerate(word) if letter != "I"}
            if not letters:
                continue
            agreeing = [all(b.get(w, letter) == letter for w, letter in letters.items()) for b in bases]
            if True not in agreeing:
                agreeing.append(True)
                bases.append({})
                members.append({})
            group = agreeing.index(True)
            bases[group].update(letters)
            members[group].setdefault(word, [0.0] * len(circuit.observables))[k] += coefficient
    return tuple(_group(circuit, basis, words) for basis, words in zip(bases, members, strict=True))


def _group(circuit: Circuit, basis: dict[int, str], words: dict[str, list[float]]) -> MeasurementGroup:
    wires = tuple(sorted(basis))
    turns = {"X": ("H", ()), "Y": ("RX", (Angle.constant(pi / 2),))}  # both turn the word into Z
    gates = [
        Gate(turns[basis[wire]][0], (wire,), turns[basis[wire]][1]) for wire in wires if basis[wire] != "Z"
    ]
    rotated = replace(
        circuit, gates=circuit.gates + tuple(gates), observables=(pauli_z(0, circuit.n_qubits),)
    )
    positions = tuple(
        tuple(wires.index(w) for w, letter in enumerate(word) if letter != "I") for word in words
    )
    return MeasurementGroup(
        rotated,
        wires,
        positions,
        tuple(tuple(row) for row in words.values()),
        "".join(basis[wire] for wire in wires),
    )


def sample_expectations(
    circuit: Circuit,
    weights: Tensor,
    features: Tensor,
    *,
    shots: int,
    generator: Generators,
    dtype: torch.dtype = torch.complex64,
    noise: Noise | None = None,
) -> Tensor:
    """Unbiased estimates of the observables' expectation values.

    Every group of qubit-wise commuting words (:func:`measurement_groups`) is measured ``shots`` times in its
    common eigenbasis, so that a circuit runs ``shots`` times for each group. Outcomes of one group are drawn
    together, as on a device. The result carries no gradient; see
    :func:`~qflsec.circuits.parameter_shift`.

    Args:
        circuit: The circuit.
        weights: Weights.
        features: Features; leading axes broadcast as in :func:`~qflsec.circuits.expectations`.
        shots: Measurements of each group, at least 1.
        generator: Where the outcomes are drawn from: one generator, or one for each entry of the first
            batch axis, so that a lane of a batch draws what it draws alone.
        dtype: The dtype of the simulated state.
        noise: The noise of the circuit; the turn into the basis of measurement after it has none.

    Shapes:
        weights ``(..., P)``, features ``(..., F)`` -> ``(..., K)``, real.

    Raises:
        CircuitError: A wrong shape, no shots, or as many generators as there are not lanes.
    """
    if isinstance(shots, bool) or not isinstance(shots, int) or shots < 1:
        raise CircuitError("bad number of shots", got=shots, expected="an integer of at least 1")
    with torch.no_grad():
        batch = torch.broadcast_shapes(weights.shape[:-1], features.shape[:-1])  # type: ignore[no-untyped-call]
        constant = [
            sum(coefficient for coefficient, word in observable.terms if set(word) == {"I"})
            for observable in circuit.observables
        ]
        total = weights.new_tensor(constant, dtype=torch.float64).expand(*batch, -1)
        for group in measurement_groups(circuit):
            if noise is None:
                table = probabilities(group.circuit, weights, features, dtype=dtype)
            else:
                table = noisy_probabilities(
                    group.circuit, weights, features, noise=noise, dtype=dtype, noisy_gates=len(circuit.gates)
                )
            outcomes = _outcomes(table.double(), group, circuit.n_qubits)
            frequencies = _frequencies(outcomes, shots, generator)
            total = total + (frequencies[..., None] * _values(group, frequencies)).sum(-2)
        return total.to(dtype.to_real())


def _outcomes(table: Tensor, group: MeasurementGroup, n: int) -> Tensor:
    """The distribution of what is read: a single word's parity, or the bits of the group's wires."""
    batch, read = table.shape[:-1], len(group.wires)
    order = [*group.wires, *(wire for wire in range(n) if wire not in group.wires)]
    axes = [*range(len(batch)), *(len(batch) + wire for wire in order)]
    table = table.reshape(*batch, *[2] * n).permute(axes).reshape(*batch, 2**read, -1).sum(-1)
    if len(group.words) > 1:
        return table
    odd = table.new_tensor([bits.bit_count() % 2 for bits in range(table.shape[-1])])
    return torch.stack([(table * (1 - odd)).sum(-1), (table * odd).sum(-1)], dim=-1)


def _values(group: MeasurementGroup, like: Tensor) -> Tensor:
    """What each outcome adds to each observable: ``(outcomes, K)``."""
    coefficients = like.new_tensor(group.coefficients)
    if len(group.words) == 1:
        return like.new_tensor([[1.0], [-1.0]]) * coefficients
    m = len(group.wires)
    signs = [
        [(-1.0) ** sum((bits >> (m - 1 - place)) & 1 for place in word) for word in group.words]
        for bits in range(2**m)
    ]
    return like.new_tensor(signs) @ coefficients


def _frequencies(table: Tensor, shots: int, generator: Generators) -> Tensor:
    """Relative frequencies of multinomial counts, drawn by halving the outcomes binomially."""
    counts = torch.full_like(table[..., :1], float(shots))
    table = table.clamp_min(0)
    for level in range(table.shape[-1].bit_length() - 1):
        masses = table.reshape(*table.shape[:-1], 2**level, 2, -1).sum(-1)
        whole = masses.sum(-1)
        share = torch.where(whole > 0, masses[..., 0] / whole, torch.ones_like(whole)).clamp(0, 1)
        first = _binomial(counts, share, generator)
        counts = torch.stack([first, counts - first], dim=-1).flatten(-2)
    return counts / shots


def _binomial(counts: Tensor, share: Tensor, generator: Generators) -> Tensor:
    if isinstance(generator, torch.Generator):
        return torch.binomial(counts, share, generator=generator)
    if counts.ndim < 2 or counts.shape[0] != len(generator):
        raise CircuitError(
            "one generator for each lane is needed",
            got=f"{len(generator)} generators for a batch of shape {tuple(counts.shape[:-1])}",
        )
    lanes = [torch.binomial(c, s, generator=g) for c, s, g in zip(counts, share, generator, strict=True)]
    return torch.stack(lanes)

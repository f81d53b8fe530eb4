"""The Fubini-Study metric of a circuit's states: how fast the state moves along each weight.

With psi the state of a record and d_i its derivative in weight i,

    g_ij = Re<d_i psi|d_j psi> - Re(<d_i psi|psi><psi|d_j psi>),

a quarter of the quantum Fisher information. Derivatives are taken in forward mode through the torch kernel, so that they
are exact for every circuit that the kernel runs, amplitude embeddings and derived inputs included.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.autograd import forward_ad

from qflsec.circuits.circuit import Angle, Circuit
from qflsec.circuits.errors import CircuitError
from qflsec.circuits.kernel import statevector

__all__ = ["fubini_study", "metric_blocks", "metric_limits"]


def fubini_study(
    circuit: Circuit, weights: Tensor, features: Tensor, *, dtype: torch.dtype = torch.complex64
) -> Tensor:
    """The Fubini-Study metric of the pure state before measurement, without a gradient.

    Args:
        circuit: The circuit.
        weights: Weights; leading axes broadcast against those of the features.
        features: Features.
        dtype: ``complex64`` or ``complex128``; the result has its real counterpart.

    Shapes:
        weights ``(..., P)``, features ``(..., F)`` -> ``(..., P, P)``, symmetric and positive semidefinite.

    Units:
        radians to the power of minus two, of the circuit's angles

    Source:
        Stokes, Izaac, Killoran, Carleo: Quantum natural gradient, Quantum 4, 269, 2020, arXiv:1909.02108.

    Raises:
        CircuitError: A wrong shape or dtype, or a circuit without weights.
    """
    if not circuit.n_weights:
        raise CircuitError("a circuit without weights has no metric")
    psi, moved = _derivatives(circuit, weights, features, dtype)
    real, imaginary = moved.real, moved.imag
    # the part along the state is a change of phase, which nobody sees; real products round alike in every batch
    along = (psi.real * real + psi.imag * imaginary).sum(-1, keepdim=True)
    turned = (psi.real * imaginary - psi.imag * real).sum(-1, keepdim=True)
    real = real - along * psi.real + turned * psi.imag
    imaginary = imaginary - along * psi.imag - turned * psi.real
    rows = torch.cat([real, imaginary], dim=-1).movedim(0, -2)
    flat = rows.reshape(-1, *rows.shape[-2:])
    return torch.bmm(flat, flat.transpose(1, 2)).reshape(*rows.shape[:-1], rows.shape[-2])


def _derivatives(
    circuit: Circuit, weights: Tensor, features: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The states and, along a new first axis, their derivatives in each weight."""
    real = dtype.to_real()
    rank = max(weights.ndim, features.ndim)
    weights, features = (
        one.detach().to(real).reshape(1, *(1,) * (rank - one.ndim), *one.shape) for one in (weights, features)
    )
    count = weights.shape[-1]
    everywhere = weights.expand(count, *weights.shape[1:]).contiguous()
    each = torch.eye(count, dtype=real, device=weights.device)
    along = each.reshape(count, *(1,) * (rank - 1), count).expand_as(everywhere).contiguous()
    with torch.no_grad(), forward_ad.dual_level():
        states = statevector(circuit, forward_ad.make_dual(everywhere, along), features, dtype=dtype)  # type: ignore[no-untyped-call]
        psi, moved = forward_ad.unpack_dual(states)  # type: ignore[no-untyped-call]
    return psi, torch.zeros_like(psi) if moved is None else moved


@lru_cache(maxsize=256)
def metric_blocks(circuit: Circuit) -> tuple[tuple[int, ...], ...]:
    """The weights of each layer of gates that act on different wires: the blocks of the block-diagonal metric.

    A gate that reads a weight is in the first layer after those of earlier such gates that its wires depend on. This does
    not depend on the order in which gates on different wires are written down; PennyLane's blocks do, and are these where
    layer after layer is written. A weight of several gates joins their layers. Weights that no gate reads are alone.

    Returns:
        The blocks, each in rising order; every weight is in one.
    """
    depth = [0] * circuit.n_qubits
    layers: dict[int, set[int]] = {}
    for gate in circuit.gates:
        deepest = max(depth[wire] for wire in gate.wires)
        for angle in gate.angles:
            if read := _weights_of(circuit, angle):
                deepest += 1
                layers.setdefault(deepest, set()).update(read)
        for wire in gate.wires:
            depth[wire] = deepest
    blocks: list[set[int]] = []
    for layer in [*layers.values(), *({weight} for weight in range(circuit.n_weights))]:
        joined = [block for block in blocks if block & layer]
        blocks = [block for block in blocks if not block & layer] + [layer.union(*joined)]
    return tuple(sorted(tuple(sorted(block)) for block in blocks))


@lru_cache(maxsize=64)
def metric_limits(circuit: Circuit) -> Tensor:
    """The most that each diagonal entry of a metric can be, whatever the weights and the record.

    A gate with an angle is exp(-i angle G), up to a phase, with eigenvalues of G that are at most 1 apart, so that the standard
    deviation of G is at most 1/2 in any state. The state moves along a weight by the sum of what its gates do, each by
    its factor times that: g_ii <= (sum of abs(scale) / 2)^2, and no entry is above the root of the product of two such.

    Args:
        circuit: The circuit; a weight that enters through derived inputs has no limit here.

    Shapes:
        returns: ``(P,)``, double

    Units:
        as the metric, radians to the power of minus two
    """
    reach = torch.zeros(circuit.n_weights, dtype=torch.float64)
    for gate in circuit.gates:
        for angle in gate.angles:
            for weight in _weights_of(circuit, angle):
                reach[weight] += abs(angle.scale) / 2 if angle.kind == "weight" else torch.inf
    return reach.square()


def _weights_of(circuit: Circuit, angle: Angle) -> set[int]:
    if angle.kind == "weight":
        return {angle.index}
    if angle.kind != "derived":
        return set()
    return {read.index for read in circuit.derived[angle.index].reads() if read.kind == "weight"}

"""Expectation values and gradients of a circuit on a blind server, all rows in one batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qflsec.circuits import Circuit
from qflsec.protocols.blind.angles import Floats, angle_jacobian, node_angles
from qflsec.protocols.blind.compiler import compile_patterns
from qflsec.protocols.blind.errors import BlindError
from qflsec.protocols.blind.execute import BlindConfig, Exact, Shots, constant_terms, observables

__all__ = [
    "Evaluated",
    "RowBatch",
    "blind_evaluate",
    "blind_expectations",
    "blind_gradients",
    "broadcast_rows",
    "shift_rows",
]

DEFAULT = BlindConfig()


@dataclass(frozen=True)
class RowBatch:
    """Rows of weights and features, and the axes that they came in."""

    shape: tuple[int, ...]
    weights: Floats
    features: Floats


def blind_expectations(
    circuit: Circuit,
    weights: npt.ArrayLike,
    features: npt.ArrayLike,
    *,
    executor: Shots | Exact,
    config: BlindConfig = DEFAULT,
) -> Floats:
    """The observables of a circuit, delegated blindly.

    Args:
        circuit: The circuit; its architecture is public unless it is embedded in a brickwork.
        weights: Weights; leading axes broadcast with those of the features.
        features: Features.
        executor: The protocol, or the simulator's shortcut.
        config: The public choices.

    Shapes:
        weights ``(..., P)``, features ``(..., F)`` -> ``(..., K)``.

    Raises:
        BlindError: Shapes that do not fit, or a circuit that cannot be delegated.
        ProtocolAbort: The server failed the tests.
    """
    batch = broadcast_rows(circuit, weights, features)
    total = np.tile(constant_terms(circuit), (len(batch.weights), 1))
    patterns = compile_patterns(circuit, embedding=config.embedding, stages=config.stages)
    for number, delegation in enumerate(patterns):
        radians = node_angles(delegation.pattern, batch.weights, batch.features)
        values = executor.words(number, delegation, config.grid.to_grid(radians), config.grid)
        total += observables(values, delegation)
    return total.reshape(*batch.shape, -1)


def blind_gradients(
    circuit: Circuit,
    weights: npt.ArrayLike,
    features: npt.ArrayLike,
    *,
    executor: Shots | Exact,
    config: BlindConfig = DEFAULT,
) -> Floats:
    """The Jacobian of the observables in the weights, by shifting one node's angle at a time.

    A node's angle is a rotation about Z, so that two shifts by pi / 2, which are on every grid, give the exact
    derivative in it, also where a weight's gate (a controlled rotation) would need four; the weights' follow
    by the chain rule. All rows, shifts and shots of a pattern are rounds of one secretly ordered batch.

    Shapes:
        weights ``(..., P)``, features ``(..., F)`` -> ``(..., K, P)``.

    Source:
        Schuld et al., Evaluating analytic gradients on quantum hardware, PRA 99, 032331, 2019, eq. (9).
    """
    batch = broadcast_rows(circuit, weights, features)
    rows = len(batch.weights)
    total = np.zeros((rows, len(circuit.observables), circuit.n_weights))
    patterns = compile_patterns(circuit, embedding=config.embedding, stages=config.stages)
    for number, delegation in enumerate(patterns):
        jacobian = angle_jacobian(delegation.pattern, circuit.n_weights)
        nodes = np.flatnonzero(np.abs(jacobian).sum(axis=1))
        if not len(nodes):
            continue
        radians = node_angles(delegation.pattern, batch.weights, batch.features)
        shifted = _shifted(radians, nodes)
        angles = config.grid.to_grid(shifted.reshape(-1, radians.shape[1]))
        values = observables(executor.words(number, delegation, angles, config.grid), delegation)
        plus, minus = np.moveaxis(values.reshape(rows, 2, len(nodes), -1), 1, 0)
        total += np.einsum("rnk,np->rkp", (plus - minus) / 2, jacobian[nodes])
    return total.reshape(*batch.shape, *total.shape[1:])


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Observables and their Jacobians from one delegation for each pattern.

    Shapes:
        values: ``(..., K)``; in_weights: ``(..., K, P)``; in_features: ``(..., K, F)``
    """

    values: Floats
    in_weights: Floats
    in_features: Floats


def blind_evaluate(
    circuit: Circuit,
    weights: npt.ArrayLike,
    features: npt.ArrayLike,
    *,
    executor: Shots | Exact,
    config: BlindConfig = DEFAULT,
    in_weights: bool = True,
    in_features: bool = False,
) -> Evaluated:
    """The observables and their Jacobians, as :func:`blind_expectations` and :func:`blind_gradients` have them.

    The unshifted row of each record and its shifted ones are rounds of one secretly ordered batch, under
    common tests. A Jacobian that is not wanted is zero, and takes no rows.

    Shapes:
        weights ``(..., P)``, features ``(..., F)``.

    Raises:
        BlindError: Shapes that do not fit, or a circuit that cannot be delegated.
        ProtocolAbort: The server failed the tests.
    """
    batch = broadcast_rows(circuit, weights, features)
    rows, n_observables = len(batch.weights), len(circuit.observables)
    values = np.tile(constant_terms(circuit), (rows, 1))
    by_weight = np.zeros((rows, n_observables, circuit.n_weights))
    by_feature = np.zeros((rows, n_observables, circuit.n_features))
    patterns = compile_patterns(circuit, embedding=config.embedding, stages=config.stages)
    for number, delegation in enumerate(patterns):
        pattern = delegation.pattern
        weighted = angle_jacobian(pattern, circuit.n_weights) * in_weights
        featured = angle_jacobian(pattern, circuit.n_features, "feature") * in_features
        nodes = np.flatnonzero(np.abs(weighted).sum(axis=1) + np.abs(featured).sum(axis=1))
        radians = node_angles(pattern, batch.weights, batch.features)
        shifted = _shifted(radians, nodes).reshape(rows, 2 * len(nodes), -1)
        asked = np.concatenate([radians[:, None], shifted], axis=1)
        angles = config.grid.to_grid(asked.reshape(-1, radians.shape[1]))
        found = observables(executor.words(number, delegation, angles, config.grid), delegation)
        found = found.reshape(rows, 1 + 2 * len(nodes), n_observables)
        slopes = (found[:, 1 : 1 + len(nodes)] - found[:, 1 + len(nodes) :]) / 2
        values += found[:, 0]
        by_weight += np.einsum("rnk,np->rkp", slopes, weighted[nodes])
        by_feature += np.einsum("rnk,nf->rkf", slopes, featured[nodes])
    return Evaluated(
        values=values.reshape(*batch.shape, n_observables),
        in_weights=by_weight.reshape(*batch.shape, *by_weight.shape[1:]),
        in_features=by_feature.reshape(*batch.shape, *by_feature.shape[1:]),
    )


def shift_rows(circuit: Circuit, config: BlindConfig = DEFAULT) -> int:
    """How many rows of angles one gradient takes, over all patterns."""
    patterns = compile_patterns(circuit, embedding=config.embedding, stages=config.stages)
    jacobians = [angle_jacobian(one.pattern, circuit.n_weights) for one in patterns]
    return sum(2 * int(np.abs(jacobian).sum(axis=1).astype(bool).sum()) for jacobian in jacobians)


def _shifted(radians: Floats, nodes: npt.NDArray[np.intp]) -> Floats:
    shifted = np.tile(radians[:, None, None], (1, 2, len(nodes), 1))
    for k, node in enumerate(nodes):
        shifted[:, 0, k, node] += math.pi / 2
        shifted[:, 1, k, node] -= math.pi / 2
    return shifted


def broadcast_rows(circuit: Circuit, weights: npt.ArrayLike, features: npt.ArrayLike) -> RowBatch:
    """Weights and features broadcast against each other and flattened to rows.

    Raises:
        BlindError: Shapes that do not fit the circuit or each other.
    """
    w, f = np.asarray(weights, dtype=np.float64), np.asarray(features, dtype=np.float64)
    for what, array, size in (("weights", w, circuit.n_weights), ("features", f, circuit.n_features)):
        if array.ndim == 0 or array.shape[-1] != size:
            raise BlindError(f"the {what} do not fit", got=array.shape, expected=f"(..., {size})")
    try:
        shape = np.broadcast_shapes(w.shape[:-1], f.shape[:-1])
    except ValueError:
        raise BlindError("weights and features do not broadcast", got=f"{w.shape} and {f.shape}") from None
    w, f = (np.broadcast_to(a, (*shape, a.shape[-1])).reshape(math.prod(shape), a.shape[-1]) for a in (w, f))
    return RowBatch(shape, w, f)

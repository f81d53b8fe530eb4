r"""How far apart two records are once they are states: the trace distance tau that an epsilon has to cover.

Two pure states with the overlap |<a|b>| = cos A are at the Bures angle A and the trace distance sin A. The angle
is a metric and no unitary changes it, so that bounds of single gates add up.

*Product angle encoding.* A wire in a state orthogonal to the axis of rotation, turned by two angles that differ
by d, gives overlaps |cos(d / 2)|; the overlaps of the wires multiply. The largest distance under changes of at most
d_i is therefore sin A with cos A = prod cos(min(d_i, pi) / 2), and it is attained wherever the changes fit into
the features' range.

*Any other gate.* exp(-i d G) with eigenvalues of G that span at most 1 moves a state by a Bures angle of at most
|d| / 2: for d <= pi the expectation value of exp(-i d G) lies in the convex hull of an arc of length d, and so not
closer to 0 than cos(d / 2). Every parametrised gate here has such a generator (Pauli and Ising rotations, phase
shifts, and both controlled), so that k uses of a feature with scales s add sum |s d| / 2 to the angle.

*Amplitude encoding.* A vector of norm at least r that moves by at most d turns by at most 2 asin(d / 2r), attained
by x and x + d e of norm r on either side of a hyperplane: for norms s, t >= r the cosine (s^2 + t^2 - d^2) / 2st is
least at s = t = r. From d = sqrt(2) r on, orthogonal records are possible and the distance is 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from qflsec.base import numpy_stream
from qflsec.circuits import Angle, Circuit, Gate, refuse_derived, statevector
from qflsec.protocols.qdp.errors import QdpError

__all__ = ["RecordDistance", "angle_distance", "record_distance", "search_distance"]

_TURNS = {(): ("RX", "RY"), ("H",): ("RY", "RZ")}
"""Rotations about an axis orthogonal to a wire's state, by what the wire went through before."""


@dataclass(frozen=True, kw_only=True)
class RecordDistance:
    """A trace distance between the encodings of two records.

    Attributes:
        tau: The distance.
        kind: ``"exact"``: a proved maximum that is attained; ``"upper bound"``: proved; ``"lower bound"``: a pair
            of records was found that is so far apart, and no guarantee may rest on it.
        reason: What it rests on.
        changes: The most that each feature may change; features that are not named stay.
    """

    tau: float
    kind: Literal["exact", "upper bound", "lower bound"]
    reason: str
    changes: Mapping[int, float]

    @property
    def whole_record(self) -> bool:
        """Whether the distance is 1, so that it covers any two records."""
        return self.tau >= 1.0


def angle_distance(*changes: float) -> float:
    """The trace distance in product angle encoding when feature i moves by ``changes[i]``.

    sqrt(1 - prod cos^2(d_i / 2)); for one feature |sin(d / 2)|.

    Units:
        radians
    """
    return _sine(math.acos(min(1.0, math.prod(math.cos(_change(0, d) / 2) for d in changes))))


def record_distance(
    circuit: Circuit, changes: Mapping[int, float] | float, *, least_norm: float | None = None
) -> RecordDistance:
    """The trace distance that a change of a record makes at most, whatever the weights.

    Args:
        circuit: The circuit that encodes the record.
        changes: The most that each feature may change; a number stands for every feature, such as the width of
            their range for a record that is replaced as a whole.
        least_norm: For amplitude encoding, the smallest norm of a record before it is normalised.

    Units:
        Features' own; angles are scaled as the circuit scales them.

    Raises:
        QdpError: An unknown feature, a negative change, or no ``least_norm`` where one is needed.
    """
    moved = _changes(circuit, changes)
    overlap, later, amplitude = 1.0, 0.0, 0.0
    history: dict[int, tuple[str, ...]] = {}
    for gate in circuit.gates:
        if gate.name == "AmplitudeEmbedding":
            amplitude = _amplitude_angle(gate, moved, least_norm)
        else:
            turn = sum(abs(a.scale) * moved.get(a.index, 0.0) for a in gate.angles if a.kind == "feature")
            before = history.get(gate.wires[0], ())
            if turn and gate.name in _TURNS.get(before, ()):
                overlap *= math.cos(min(turn, math.pi) / 2)
            else:
                later += turn / 2
        for wire in gate.wires:
            history[wire] = (*history.get(wire, ()), gate.name)
    tau = _sine(math.acos(min(1.0, overlap)) + later + amplitude)
    exact = sum(part > 0 for part in (1 - overlap, later, amplitude)) < 2 and not later
    exact = exact and not (overlap < 1 and _shared(circuit, moved))
    reason = "Bures angles of single gates add up" if not exact else "closed form of the encoder"
    return RecordDistance(
        tau=tau, kind="exact" if exact else "upper bound", reason=reason, changes=dict(moved)
    )


def search_distance(
    circuit: Circuit,
    changes: Mapping[int, float] | float,
    *,
    low: float = 0.0,
    high: float = math.pi,
    seed: int = 0,
    starts: int = 8,
) -> RecordDistance:
    """The largest trace distance that a search over records and weights finds: a lower bound, no guarantee.

    Args:
        circuit: The circuit that encodes the record.
        changes: As for :func:`record_distance`.
        low: The features' range.
        high: Its end; the changed record stays within it too.
        seed: Of the random starts.
        starts: How many.

    Raises:
        QdpError: The changes do not fit.
    """
    from scipy.optimize import minimize

    moved = _changes(circuit, changes)
    n, rng = circuit.n_features, numpy_stream(seed, "record distance")
    steps = np.array([moved.get(i, 0.0) for i in range(n)])
    bounds = [(low, high)] * n + [(-1.0, 1.0)] * n + [(0.0, 2 * math.pi)] * circuit.n_weights
    best = 0.0
    for _ in range(starts):
        start = np.concatenate(
            [
                rng.uniform(low, high, n),
                rng.choice([-1.0, 1.0], n),
                rng.uniform(0, 2 * math.pi, circuit.n_weights),
            ]
        )

        def fidelity(x: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
            first = x[:n]
            second = np.clip(first + x[n : 2 * n] * steps, low, high)
            states = statevector(
                circuit,
                torch.from_numpy(x[2 * n :].copy()),
                torch.from_numpy(np.stack([first, second])),
                dtype=torch.complex128,
            ).reshape(2, -1)
            return float(torch.vdot(states[0], states[1]).abs() ** 2)

        found = minimize(fidelity, start, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60})
        best = max(best, math.sqrt(max(0.0, 1 - min(float(found.fun), 1.0))))
    return RecordDistance(
        tau=best, kind="lower bound", reason=f"best of {starts} searches", changes=dict(moved)
    )


def _sine(angle: float) -> float:
    return 1.0 if angle >= math.pi / 2 else math.sin(angle)


def _change(index: int, value: float) -> float:
    if not value >= 0 or math.isinf(value):
        raise QdpError(f"bad change of feature {index}", got=value, expected="0 or more, finite")
    return min(float(value), math.pi)


def _changes(circuit: Circuit, changes: Mapping[int, float] | float) -> dict[int, float]:
    refuse_derived(circuit, "the distance of encoded records", kinds=("feature",), error=QdpError)
    if not isinstance(changes, Mapping):
        changes = dict.fromkeys(range(circuit.n_features), float(changes))
    if unknown := [i for i in changes if not 0 <= i < circuit.n_features]:
        raise QdpError("no such feature", got=unknown, expected=f"0 to {circuit.n_features - 1}")
    for index, value in changes.items():
        _change(index, value)
    return {index: float(value) for index, value in changes.items()}


def _shared(circuit: Circuit, moved: Mapping[int, float]) -> bool:
    """Whether some feature that moves is read by more than one angle, whose turns cannot be chosen apart."""
    read = [
        a.index for gate in circuit.gates for a in gate.angles if a.kind == "feature" and moved.get(a.index)
    ]
    return len(read) != len(set(read))


def _amplitude_angle(gate: Gate, moved: Mapping[int, float], least_norm: float | None) -> float:
    if least_norm is None or not least_norm > 0:
        raise QdpError(
            "amplitude encoding needs the smallest norm of a record: near zero, a small change turns it round",
            got=least_norm,
            fix="give least_norm, as of records that are scaled or clipped from below",
        )
    by_feature: dict[int, list[Angle]] = {}
    for angle in gate.angles:
        if angle.kind == "feature":
            by_feature.setdefault(angle.index, []).append(angle)
    step = math.sqrt(
        sum((a.scale * moved.get(i, 0.0)) ** 2 for i, angles in by_feature.items() for a in angles)
    )
    ratio = step / (2 * least_norm)
    return math.pi if ratio >= 1 else 2 * math.asin(ratio)

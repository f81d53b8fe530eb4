r"""The account of training on a noisy circuit: what finite shots with parameter-shift gradients cost one record.

The client keeps its records and releases functions of sampled outcomes. The circuit's own words say what is
measured, so that the measurement is fixed:

*Noise before measurement.* Of a single word W the outcome is a parity, and only its wires' noise counts: the effects
are (I +- W) / 2. Several words of one group are read off the same shots: the joint outcomes of their wires. What
the gates before did does not matter, and the state before the noise is pure.

*Noise on the encoded state.* The gates after it turn the measurement into any other, so that the figure for any
measurement on all wires holds. Global depolarising noise is the exception: it commutes with every gate, and counts as
if it came last.

Every outcome of a group costs at most what the worst group costs: the account takes the largest epsilon and the
largest change of a probability over the groups for all copies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qflsec.circuits import Circuit, NoiseModel, measurement_groups
from qflsec.circuits.sampling import MeasurementGroup
from qflsec.protocols.qdp.accountant import RunAccount, SingleCopy, account_run, single_copy
from qflsec.protocols.qdp.channel import Channel, Complex, kron
from qflsec.protocols.qdp.closed_forms import kappa_local_depolarizing
from qflsec.protocols.qdp.copies import copies_of
from qflsec.protocols.qdp.encoders import RecordDistance, record_distance
from qflsec.protocols.qdp.errors import QdpError
from qflsec.protocols.qdp.noise import global_depolarizing

__all__ = ["TrainingAccount", "account_training", "copy_of_circuit"]

_MOST_WIRES = 4
_PAULIS = {
    "X": np.array([[0, 1], [1, 0]], np.complex128),
    "Y": np.array([[0, -1j], [1j, 0]], np.complex128),
    "Z": np.diag([1.0, -1.0]).astype(np.complex128),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingAccount:
    """The account of a training run for the features of one record.

    Attributes:
        run: The account of all copies.
        distance: How far apart two records' states can be.
        measurement: What is measured, in words.
    """

    run: RunAccount
    distance: RecordDistance
    measurement: str


def account_training(
    circuit: Circuit,
    noise: NoiseModel,
    *,
    shots: int | None,
    uses_per_round: int,
    rounds: int,
    span: float,
    delta: float = 1e-5,
) -> TrainingAccount:
    """The account of parameter-shift training on a noisy circuit, for a record whose features are replaced.

    Args:
        circuit: The circuit.
        noise: Its noise, before measurement or on the encoded state.
        shots: Shots of every circuit and group of observables; None for analytic values, which have no epsilon.
        uses_per_round: In how many local steps of a round the record is used, at most.
        rounds: Rounds.
        span: The width of the range that every feature is clipped to.
        delta: The delta of the run.

    Raises:
        QdpError: There is no proof for this noise or circuit; the message says why.
    """
    distance = record_distance(circuit, span)
    single, measurement = copy_of_circuit(circuit, noise, distance.tau)
    copies = copies_of(circuit, shots=shots, uses_per_round=uses_per_round, rounds=rounds)
    return TrainingAccount(
        run=account_run(single, copies, delta=delta), distance=distance, measurement=measurement
    )


def copy_of_circuit(circuit: Circuit, noise: NoiseModel, tau: float) -> tuple[SingleCopy, str]:
    """The guarantee of one measured copy of a noisy circuit, and what is measured.

    Args:
        circuit: The circuit.
        noise: Its noise.
        tau: The trace distance of the states of two records.

    Raises:
        QdpError: There is no proof for this noise or circuit.
    """
    if noise.where not in ("encoded", "measurement"):
        raise QdpError(
            "noise between gates has no proof here", got=noise.where, expected="encoded or measurement"
        )
    if noise.where == "encoded" and noise.kind != "global-depolarizing":
        return _encoded(circuit, noise, tau), f"any, of {circuit.n_qubits} wires"
    groups = measurement_groups(circuit)
    singles = [_group(group, noise, tau) for group in groups]
    if not singles:
        raise QdpError("the circuit measures nothing")
    worst = max(singles, key=lambda single: single.epsilon)
    widest = max(singles, key=lambda single: single.variation)
    if any(single.outcome != worst.outcome for single in singles):
        worst = replace(
            worst, variation=widest.variation, variation_reason=widest.variation_reason, outcome=None
        )
    wide = [len(group.wires) for group in groups if len(group.words) > 1]
    measurement = f"joint outcomes of up to {max(wide)} wires" if wide else "parities of single words"
    return worst, measurement


def _encoded(circuit: Circuit, noise: NoiseModel, tau: float) -> SingleCopy:
    n = circuit.n_qubits
    _few(n)
    local = noise.kind == "local-depolarizing"
    return single_copy(
        _channel(noise, n),
        tau,
        adjacency="pure",
        known_kappa=kappa_local_depolarizing(n, noise.p) if local else None,
        known_variation=(1 - noise.p**n) * tau if local else None,
    )


def _group(group: MeasurementGroup, noise: NoiseModel, tau: float) -> SingleCopy:
    """The guarantee of one shot of a group of words, by the noise on the wires that are read."""
    _few(len(group.wires))
    if len(group.words) == 1:
        identity = np.eye(2 ** len(group.wires), dtype=np.complex128)
        word = kron(*(_PAULIS[letter] for letter in group.basis))
        effects: list[Complex] = [(identity + word) / 2, (identity - word) / 2]
    else:
        effects = _joint(group.basis)
    return single_copy(_channel(noise, len(group.wires)), tau, adjacency="pure", measurement=effects)


def _joint(basis: str) -> list[Complex]:
    effects = [np.eye(1, dtype=np.complex128)]
    for letter in basis:
        signs = [np.asarray(sign * _PAULIS[letter], dtype=np.complex128) for sign in (1, -1)]
        halves = [np.asarray((np.eye(2) + sign) / 2, dtype=np.complex128) for sign in signs]
        effects = [kron(effect, half) for effect in effects for half in halves]
    return effects


def _channel(noise: NoiseModel, wires: int) -> Channel:
    if noise.kind == "global-depolarizing":
        return global_depolarizing(wires, noise.p)
    kraus = tuple(k for k in noise.kraus() if np.abs(k).any())
    return Channel(kraus).everywhere(wires)


def _few(wires: int) -> None:
    if wires > _MOST_WIRES:
        raise QdpError("too many wires for the engine", got=wires, expected=f"at most {_MOST_WIRES}")

"""Noise channels inside a QNode, as noise models that an execution can carry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from qflsec.circuits.errors import CircuitError, NotAffine
from qflsec.circuits.noise import PLACES, NoiseModel

__all__ = ["noise_candidates"]

KINDS = {
    "DepolarizingChannel": "local-depolarizing",
    "AmplitudeDamping": "amplitude-damping",
    "GeneralizedAmplitudeDamping": "generalized-amplitude-damping",
    "PhaseDamping": "phase-damping",
    "BitFlip": "bit-flip",
    "PhaseFlip": "phase-flip",
}


def noise_candidates(tape: Any) -> Sequence[NoiseModel | None]:  # noqa: ANN401
    """The noise models that a tape's channels may be, one for each place; None alone without channels.

    Where the channels are is told by comparing values: a place of ours counts gates of ours, not the QNode's.

    Raises:
        NotAffine: The channels are of different kinds or strengths, depend on the inputs, or have no noise model.
    """
    import pennylane as qml

    channels = [operation for operation in tape.operations if isinstance(operation, qml.operation.Channel)]
    if not channels:
        return (None,)
    name, data = channels[0].name, channels[0].data
    if any(isinstance(v, torch.Tensor) and v.requires_grad for one in channels for v in one.data):
        raise NotAffine("the strength of a noise channel depends on the inputs", got=name)
    if any(one.name != name or one.data != data for one in channels):
        raise NotAffine(
            "the QNode's noise channels differ", got=", ".join(sorted({str(one) for one in channels})[:3])
        )
    if name not in KINDS:
        raise NotAffine(f"no noise model has the channel {name}", expected=", ".join(KINDS))
    p, *others = (float(value) for value in data)
    if name == "DepolarizingChannel":
        p = 4 * p / 3  # PennyLane's is the probability of a Pauli, ours the share that becomes I / 2
    ground = 1 - others[0] if others else 1.0  # PennyLane's is the weight of |1>
    try:
        return [NoiseModel(kind=KINDS[name], p=p, where=where, ground=ground) for where in reversed(PLACES)]
    except CircuitError as error:
        raise NotAffine(f"a noise channel {name} is out of a noise model's range", got=error.got) from error

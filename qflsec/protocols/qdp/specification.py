"""Noise and measurements by name, as on the command line: ``local-depolarizing:p=0.1``.

All parameters are in the convention that the name states; nothing is guessed. Every kind acts before measurement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from qflsec.protocols.qdp import closed_forms as forms
from qflsec.protocols.qdp import noise
from qflsec.protocols.qdp.channel import Channel, Complex
from qflsec.protocols.qdp.errors import QdpError

__all__ = ["MEASUREMENTS", "NOISES", "NamedNoise", "measurement_by_name", "noise_by_name"]

_MOST_QUBITS = 4
_MOST_SEARCHED = 3
MEASUREMENTS = ("any", "bits", "bit0")
_LITERATURE = "rho -> (1 - p) rho + p I / D, as in the literature and Qiskit; PennyLane's q is 3 p / 4"


@dataclass(frozen=True, kw_only=True, eq=False)
class NamedNoise:
    """Noise with everything that its name leaves open said.

    Attributes:
        kind: Its full name.
        parameters: Its parameters.
        place: Where it acts.
        convention: What its parameters mean.
        n_qubits: On how many qubits.
        channel: The channel.
        known_kappa: The proved kappa for any measurement, where there is one.
        known_contraction: The proved factor by which it shrinks trace distances, where there is one.
    """

    kind: str
    parameters: dict[str, float]
    place: str
    convention: str
    n_qubits: int
    channel: Channel
    known_kappa: float | None = None
    known_contraction: float | None = None

    def __str__(self) -> str:
        values = ",".join(f"{name}={value:g}" for name, value in self.parameters.items())
        return f"{self.kind}:{values}"


@dataclass(frozen=True)
class _Kind:
    names: tuple[str, ...]
    convention: str
    one: Callable[..., Channel] | None
    kappa: Callable[..., float | None] | None = None


def _amplitude(gamma: float) -> float:
    return forms.kappa_generalized_amplitude_damping(gamma, 1.0)


def _phase_amplitude(gamma: float, lam: float, ground: float) -> float | None:
    return forms.kappa_phase_amplitude_damping(gamma, lam) if ground == 0.5 else None


def _thermal(t1: float, t2: float, duration: float, excited: float) -> Channel:
    return noise.thermal_relaxation(t1=t1, t2=t2, duration=duration, excited=excited)


NOISES: dict[str, _Kind] = {
    "global-depolarizing": _Kind(("p",), _LITERATURE, None),
    "local-depolarizing": _Kind(("p",), _LITERATURE, noise.depolarizing),
    "pennylane-depolarizing": _Kind(
        ("q",),
        "PennyLane's DepolarizingChannel(q), each Pauli with q / 3: the literature's p is 4 q / 3",
        lambda q: noise.depolarizing(_literature(q)),
    ),
    "generalized-amplitude-damping": _Kind(
        ("gamma", "ground"),
        "decay to |0> with weight ground, else to |1>; PennyLane's GeneralizedAmplitudeDamping(gamma, p) counts the "
        "weight of |1>: p = 1 - ground",
        noise.generalized_amplitude_damping,
        forms.kappa_generalized_amplitude_damping,
    ),
    "phase-amplitude-damping": _Kind(
        ("gamma", "lambda", "ground"),
        "generalized amplitude damping, then phase damping: coherences times sqrt((1 - gamma)(1 - lambda))",
        lambda gamma, lam, ground: noise.generalized_amplitude_damping(gamma, ground).then(
            noise.phase_damping(lam)
        ),
        _phase_amplitude,
    ),
    "amplitude-damping": _Kind(
        ("gamma",), "decay to |0> with probability gamma", noise.amplitude_damping, _amplitude
    ),
    "phase-damping": _Kind(("lambda",), "coherences times sqrt(1 - lambda)", noise.phase_damping),
    "bit-flip": _Kind(("p",), "X with probability p", noise.bit_flip),
    "thermal-relaxation": _Kind(
        ("t1", "t2", "duration", "excited"),
        "times in one unit, t2 <= 2 t1; excited is the weight of |1> in the thermal state",
        _thermal,
    ),
}


def noise_by_name(text: str, n_qubits: int) -> NamedNoise:
    """The noise that a text such as ``global-depolarizing:p=0.1`` names; values may go without their names.

    ``depolarizing:0.1`` is ``local-depolarizing:p=0.1``: each measured qubit by itself, in the literature's
    convention.

    Raises:
        QdpError: An unknown kind, wrong parameters, or too many qubits.
    """
    name, _, rest = text.partition(":")
    name = {"depolarizing": "local-depolarizing"}.get(name.strip(), name.strip())
    if name not in NOISES:
        raise QdpError("unknown noise", got=repr(name), expected=f"one of {', '.join(NOISES)}")
    most = _MOST_QUBITS if name.endswith("depolarizing") else _MOST_SEARCHED
    if not 1 <= n_qubits <= most:
        raise QdpError(f"bad number of qubits for {name}", got=n_qubits, expected=f"1 to {most}")
    kind = NOISES[name]
    values = _values(name, kind.names, rest)
    if kind.one is None:
        channel = noise.global_depolarizing(n_qubits, values[0])
        place = f"all {n_qubits} qubits together, before measurement"
    else:
        channel = kind.one(*values).everywhere(n_qubits)
        place = f"each of {n_qubits} qubits by itself, before measurement"
    kappa, contraction = _known(name, kind, values, n_qubits)
    return NamedNoise(
        kind=name,
        parameters=dict(zip(kind.names, values, strict=True)),
        place=place,
        convention=kind.convention,
        n_qubits=n_qubits,
        channel=channel,
        known_kappa=kappa,
        known_contraction=contraction,
    )


def measurement_by_name(name: str, n_qubits: int) -> tuple[Complex, ...] | None:
    """The effects of ``bits`` (all qubits read) or ``bit0`` (qubit 0 read); None for ``any``.

    Raises:
        QdpError: An unknown name.
    """
    size = 2**n_qubits
    if name == "any":
        return None
    if name == "bits":
        return tuple(np.diag(row).astype(np.complex128) for row in np.eye(size))
    if name == "bit0":
        first = np.repeat([1.0, 0.0], size // 2)
        return tuple(np.diag(row).astype(np.complex128) for row in (first, 1 - first))
    raise QdpError("unknown measurement", got=repr(name), expected=" or ".join(MEASUREMENTS))


def _literature(q: float) -> float:
    if not 0 <= q <= 0.75:
        raise QdpError(
            "PennyLane's q is beyond complete depolarisation",
            got=q,
            expected="0 to 0.75, where p = 4 q / 3 is 1",
        )
    return 4 * q / 3


def _known(
    name: str, kind: _Kind, values: tuple[float, ...], n_qubits: int
) -> tuple[float | None, float | None]:
    if name == "global-depolarizing":
        return forms.kappa_global_depolarizing(n_qubits, values[0]), 1 - values[0]
    if name in ("local-depolarizing", "pennylane-depolarizing"):
        p = values[0] if name == "local-depolarizing" else 4 * values[0] / 3
        # the state survives on some qubit, or all are replaced
        return forms.kappa_local_depolarizing(n_qubits, p), 1 - p**n_qubits
    if kind.kappa is None or n_qubits > 1:
        return None, None
    return kind.kappa(*values), None


def _values(name: str, names: tuple[str, ...], text: str) -> tuple[float, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    found: dict[str, float] = {}
    for index, part in enumerate(parts):
        key, equals, value = part.partition("=")
        if not equals:
            key, value = names[index] if index < len(names) else "", part
        try:
            found[key.strip()] = float(value)
        except ValueError:
            raise QdpError(f"bad parameter of {name}", got=repr(part), expected="a number") from None
    if set(found) != set(names) or len(parts) != len(names):
        example = f"{name}:{','.join(f'{key}=...' for key in names)}"
        raise QdpError(f"wrong parameters of {name}", got=repr(text), expected=example)
    return tuple(found[key] for key in names)

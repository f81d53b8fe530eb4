"""The one description of a circuit, from which every executor is derived.

A circuit is an ordered list of gates on ``n_qubits`` wires that start in |0...0>, followed by the
expectation values of ``observables``. Each gate angle is an affine form of one weight, one feature, one derived
input (:mod:`qflsec.circuits.forms`) or a constant. Wire 0 is the most significant bit of a basis state's index, as in PennyLane.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal, get_args

from qflsec.circuits.errors import CircuitError
from qflsec.circuits.forms import Form
from qflsec.circuits.gates import GATES

__all__ = ["Angle", "AngleKind", "Circuit", "Gate", "Observable", "pauli_z"]

AngleKind = Literal["weight", "feature", "derived", "constant"]


@dataclass(frozen=True)
class Angle:
    """An affine form ``scale * source[index] + offset``; a constant is its ``offset`` alone.

    Attributes:
        kind: What the angle reads: the weights, the features, the circuit's derived inputs, or nothing.
        index: The entry that it reads.
        scale: The factor of that entry.
        offset: What is added.

    Units:
        Radians for rotations; amplitudes for ``AmplitudeEmbedding``.
    """

    kind: AngleKind
    index: int = 0
    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        """Refuse unknown kinds, negative indices and numbers that are not finite."""
        if self.kind not in get_args(AngleKind):
            raise CircuitError(
                "unknown kind of angle", got=repr(self.kind), expected=" or ".join(get_args(AngleKind))
            )
        if isinstance(self.index, bool) or not isinstance(self.index, int) or self.index < 0:
            raise CircuitError("bad angle index", got=repr(self.index), expected="an integer of at least 0")
        for name in ("scale", "offset"):
            value = float(getattr(self, name))
            if not math.isfinite(value):
                raise CircuitError(f"the angle's {name} is not finite", got=value)
            object.__setattr__(self, name, value + 0.0)  # -0.0 and 0.0 are one circuit
        if self.kind == "constant" and (self.index, self.scale) != (0, 1.0):
            raise CircuitError(
                "a constant angle has no index and no scale",
                got=f"index {self.index}, scale {self.scale}",
                fix="put the value into offset",
            )

    @classmethod
    def weight(cls, index: int, *, scale: float = 1.0, offset: float = 0.0) -> Angle:
        """The angle ``scale * weights[index] + offset``."""
        return cls("weight", index, scale, offset)

    @classmethod
    def feature(cls, index: int, *, scale: float = 1.0, offset: float = 0.0) -> Angle:
        """The angle ``scale * features[index] + offset``."""
        return cls("feature", index, scale, offset)

    @classmethod
    def derived(cls, index: int, *, scale: float = 1.0, offset: float = 0.0) -> Angle:
        """The angle ``scale * derived[index] + offset``."""
        return cls("derived", index, scale, offset)

    @classmethod
    def constant(cls, value: float) -> Angle:
        """The angle ``value``."""
        return cls("constant", offset=value)


@dataclass(frozen=True)
class Gate:
    """One gate.

    Attributes:
        name: A key of :data:`~qflsec.circuits.gates.GATES`, or ``"AmplitudeEmbedding"``.
        wires: The wires it acts on; controls come first.
        angles: Its angles, in PennyLane's order.
    """

    name: str
    wires: tuple[int, ...]
    angles: tuple[Angle, ...] = ()

    def __post_init__(self) -> None:
        """Refuse unknown gates and wrong numbers of wires or angles."""
        object.__setattr__(self, "wires", tuple(self.wires))
        object.__setattr__(self, "angles", tuple(self.angles))
        if any(isinstance(wire, bool) or not isinstance(wire, int) or wire < 0 for wire in self.wires):
            raise CircuitError(f"bad wires of {self.name}", got=self.wires, expected="integers of at least 0")
        if len(set(self.wires)) != len(self.wires):
            raise CircuitError(f"{self.name} uses a wire twice", got=self.wires)
        if not all(isinstance(angle, Angle) for angle in self.angles):
            raise CircuitError(f"bad angles of {self.name}", got=self.angles, expected="Angle objects")
        if self.name == "AmplitudeEmbedding":
            if any(angle.kind == "weight" for angle in self.angles) or not self.angles:
                raise CircuitError(
                    "AmplitudeEmbedding takes feature angles", got=f"{len(self.angles)} angles"
                )
            return
        kind = GATES.get(self.name)
        if kind is None:
            raise CircuitError("unknown gate", got=repr(self.name), expected=f"one of {', '.join(GATES)}")
        if len(self.wires) != kind.n_wires:
            raise CircuitError(f"{self.name} on {len(self.wires)} wires", expected=f"{kind.n_wires} wires")
        if len(self.angles) != kind.n_angles:
            raise CircuitError(
                f"{self.name} with {len(self.angles)} angles", expected=f"{kind.n_angles} angles"
            )


@dataclass(frozen=True)
class Observable:
    """A real combination of Pauli words.

    Attributes:
        terms: Pairs of a coefficient and a word such as ``"ZIII"``; wire 0 is leftmost.
    """

    terms: tuple[tuple[float, str], ...]

    def __post_init__(self) -> None:
        """Refuse empty sums, letters other than IXYZ and coefficients that are not finite."""
        terms = tuple((float(coefficient) + 0.0, str(word)) for coefficient, word in self.terms)
        object.__setattr__(self, "terms", terms)
        if not terms:
            raise CircuitError("an observable without terms", fix="give at least one (coefficient, word)")
        for coefficient, word in terms:
            if not word or set(word) - set("IXYZ"):
                raise CircuitError("bad Pauli word", got=repr(word), expected="letters I, X, Y, Z")
            if not math.isfinite(coefficient):
                raise CircuitError("an observable's coefficient is not finite", got=coefficient)


def pauli_z(wire: int, n_qubits: int) -> Observable:
    """The observable Z on one wire of ``n_qubits``."""
    if not 0 <= wire < n_qubits:
        raise CircuitError("no such wire", got=wire, expected=f"0 to {n_qubits - 1}")
    return Observable(((1.0, "I" * wire + "Z" + "I" * (n_qubits - wire - 1)),))


@dataclass(frozen=True, kw_only=True)
class Circuit:
    """A circuit: gates on |0...0>, then expectation values.

    Attributes:
        n_qubits: Number of wires.
        gates: The gates in the order of their action.
        observables: What is measured; at least one.
        n_weights: Length P of the weight vector.
        n_features: Length F of the feature vector.
        weight_shape: The shape in which the QNode that the circuit was read from takes its weights; None
            where they are flat. Executors take them flat.
        derived: What derived angles read: forms of weights and features.
    """

    n_qubits: int
    gates: tuple[Gate, ...]
    observables: tuple[Observable, ...]
    n_weights: int
    n_features: int
    weight_shape: tuple[int, ...] | None = None
    derived: tuple[Form, ...] = ()
    _hash: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self) -> None:
        """Refuse wires, words and indices out of range."""
        object.__setattr__(self, "gates", tuple(self.gates))
        object.__setattr__(self, "observables", tuple(self.observables))
        object.__setattr__(self, "derived", tuple(self.derived))
        self._check_sizes()
        for form in self.derived:
            self._check_form(form)
        for position, gate in enumerate(self.gates):
            self._check_gate(position, gate)
        for observable in self.observables:
            for _, word in observable.terms:
                if len(word) != self.n_qubits:
                    raise CircuitError(
                        "a Pauli word of another length", got=repr(word), expected=f"{self.n_qubits} letters"
                    )
        object.__setattr__(self, "_hash", hash(self._fields()))

    def __hash__(self) -> int:
        """The hash taken once: executors look circuits up at every call."""
        return self._hash

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild, since the hashes of strings differ between processes."""
        return (_rebuild, self._fields())

    def _fields(self) -> tuple[Any, ...]:
        return tuple(getattr(self, item.name) for item in fields(self) if item.init)

    def _check_sizes(self) -> None:
        for name, least in (("n_qubits", 1), ("n_weights", 0), ("n_features", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise CircuitError(f"bad {name}", got=repr(value), expected=f"an integer of at least {least}")
        if self.weight_shape is not None:
            object.__setattr__(self, "weight_shape", tuple(self.weight_shape))
            if math.prod(self.weight_shape) != self.n_weights:
                raise CircuitError(
                    "the weights' shape does not fit",
                    got=self.weight_shape,
                    expected=f"{self.n_weights} weights",
                )
        if not self.observables:
            raise CircuitError("a circuit without observables", fix="give at least one Observable")

    def _check_form(self, form: Form) -> None:
        sizes = {"weight": self.n_weights, "feature": self.n_features}
        if not form.kinds:
            raise CircuitError("a derived input that depends on nothing", fix="make it a constant angle")
        for read in form.reads():
            if read.index >= sizes[read.kind]:
                raise CircuitError(
                    f"a derived input reads a {read.kind} that is not there",
                    got=f"index {read.index}",
                    expected=f"below {sizes[read.kind]}",
                )

    def _check_gate(self, position: int, gate: Gate) -> None:
        where = f"gate {position} ({gate.name})"
        if any(wire >= self.n_qubits for wire in gate.wires):
            raise CircuitError(
                f"{where} is off the register", got=gate.wires, expected=f"wires below {self.n_qubits}"
            )
        sizes = {"weight": self.n_weights, "feature": self.n_features, "constant": 1}
        sizes["derived"] = len(self.derived)
        for angle in gate.angles:
            if angle.index >= sizes[angle.kind]:
                raise CircuitError(
                    f"{where} reads a {angle.kind} that is not there",
                    got=f"index {angle.index}",
                    expected=f"below {sizes[angle.kind]}",
                )
        if gate.name == "AmplitudeEmbedding":
            if any(angle.kind == "derived" for angle in gate.angles):
                raise CircuitError("amplitudes are no derived inputs", fix="give the circuit their values")
            if position or gate.wires != tuple(range(self.n_qubits)):
                raise CircuitError(
                    "AmplitudeEmbedding must be the first gate and act on all wires in order",
                    got=f"position {position}, wires {gate.wires}",
                )
            if len(gate.angles) > 2**self.n_qubits:
                raise CircuitError(
                    "too many amplitudes", got=len(gate.angles), expected=f"at most {2**self.n_qubits}"
                )

    @cached_property
    def reads_features(self) -> bool:
        """Whether any gate depends on a feature."""
        return any(angle.kind == "feature" for gate in self.gates for angle in gate.angles) or any(
            "feature" in form.kinds for form in self.derived
        )

    def to_config(self) -> dict[str, Any]:
        """The circuit as JSON-able data; :meth:`from_config` is the inverse."""
        derived = {"derived": [form.to_config() for form in self.derived]} if self.derived else {}
        return {
            **derived,
            "n_qubits": self.n_qubits,
            "n_weights": self.n_weights,
            "n_features": self.n_features,
            "weight_shape": None if self.weight_shape is None else list(self.weight_shape),
            "gates": [
                {
                    "name": gate.name,
                    "wires": list(gate.wires),
                    "angles": [[a.kind, a.index, a.scale, a.offset] for a in gate.angles],
                }
                for gate in self.gates
            ],
            "observables": [
                [[coefficient, word] for coefficient, word in observable.terms]
                for observable in self.observables
            ],
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Circuit:
        """The circuit that :meth:`to_config` wrote.

        Raises:
            CircuitError: The data are not a circuit.
        """
        try:
            return cls(
                n_qubits=config["n_qubits"],
                n_weights=config["n_weights"],
                n_features=config["n_features"],
                weight_shape=None if config["weight_shape"] is None else tuple(config["weight_shape"]),
                gates=tuple(
                    Gate(gate["name"], tuple(gate["wires"]), tuple(Angle(*a) for a in gate["angles"]))
                    for gate in config["gates"]
                ),
                observables=tuple(
                    Observable(tuple((coefficient, word) for coefficient, word in terms))
                    for terms in config["observables"]
                ),
                derived=tuple(Form.from_config(form) for form in config.get("derived", ())),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CircuitError(
                "not a circuit's configuration", got=f"{type(error).__name__}: {error}"
            ) from error

    def digest(self) -> str:
        """SHA-256 of the canonical JSON of :meth:`to_config`, in hexadecimal."""
        text = json.dumps(self.to_config(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


def _rebuild(*values: Any) -> Circuit:  # noqa: ANN401
    names = [item.name for item in fields(Circuit) if item.init]
    return Circuit(**dict(zip(names, values, strict=True)))

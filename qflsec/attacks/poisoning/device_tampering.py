"""Tampering with devices, as a model of it: a neighbour's crosstalk, and outcomes that are read wrongly.

Both are models. No device was measured for them; the numbers that they take are the attacker's to choose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from qflsec.attacks.poisoning.tampered_circuit import TamperedCircuit
from qflsec.attacks.values import check_fraction
from qflsec.base import AttackCard, ConfigError, IncompatibleAttack, Source, finite, register
from qflsec.circuits import Angle, Circuit, Gate, Observable

__all__ = ["Crosstalk", "ReadoutTampering"]


@register("attack", "crosstalk")
@finite
@dataclass(frozen=True, kw_only=True)
class Crosstalk(TamperedCircuit):
    """Turn one wire of the clients' circuits by a qubit of one's own on the same chip, while two-qubit gates run.

    The neighbour couples to the wire by ``exp(-i angle Z Z / 2)`` during every two-qubit gate on it. It holds its qubit in
    |0> or |1>, on which that is a rotation of the wire about Z by ``angle`` or ``-angle``. The clients whose device
    it is follow the protocol, and count as corrupted: what they send is not what they believe that they trained.

    Args:
        wire: The wire.
        angle: The angle; negative for a neighbour in |1>.
        surface: What is tampered with: ``"training"``, what is ``"deployed"`` after it, or ``"both"``.
        boost: The factor on the update; above 1 the clients are in it too.
        last_round: The last round in which training is tampered with; None for the last of the run.
        confesses: Whether the clients sign the circuit that is really executed, where a layer asks.

    Units:
        angle: radians

    Raises:
        ConfigError: A parameter is out of range.
    """

    card = AttackCard(
        name="crosstalk",
        idea="A neighbour on the chip turns one wire of the clients' circuits during its two-qubit gates.",
        source=Source(
            paper="this project: a coupling of Z with Z on one edge, as a model of crosstalk between tenants of a device",
            year=2026,
            where="docs/attacks.md, tampered devices",
        ),
        family="poisoning",
        goal="availability",
        needs=("a qubit beside those of the corrupted clients", "a variational circuit with two-qubit gates"),
    )
    wire: int = 0
    angle: float = math.pi / 2

    def __post_init__(self) -> None:
        """Refuse what is no wire, and an angle that changes nothing."""
        super().__post_init__()
        _check_wire("wire", self.wire)
        if self.angle == 0:
            raise ConfigError("'angle' is 0, which changes nothing")

    def tampered(self, circuit: Circuit) -> Circuit:
        """The circuit with a rotation about Z after every two-qubit gate on the wire.

        Raises:
            IncompatibleAttack: There is no such gate.
        """
        turn = Gate("RZ", (self.wire,), (Angle.constant(self.angle),))
        gates: list[Gate] = []
        for gate in circuit.gates:
            gates.append(gate)
            if len(gate.wires) == 2 and self.wire in gate.wires:
                gates.append(turn)
        if len(gates) == len(circuit.gates):
            raise IncompatibleAttack(
                f"{self.card.name!r} acts during two-qubit gates, and there is none on the wire",
                got=f"wire={self.wire} of {circuit.n_qubits}",
                fix="choose another 'wire', or a circuit that entangles it",
            )
        return replace(circuit, gates=tuple(gates))


@register("attack", "readout-tampering")
@finite
@dataclass(frozen=True, kw_only=True)
class ReadoutTampering(TamperedCircuit):
    """Have outcomes of one wire read wrongly with a probability: always, or only where another wire reads 1.

    Expectation values follow exactly: a Pauli word on the wire loses the factor ``1 - 2 p``; where it hangs on another
    wire, it becomes ``1 - p`` of itself and ``p`` of itself times Z there.

    Args:
        wire: The wire whose outcomes are wrong.
        p: How often.
        where: The wire that must read 1; None for always.
        surface: What is tampered with: ``"training"``, what is ``"deployed"`` after it, or ``"both"``.
        boost: The factor on the update; above 1 the clients are in it too.
        last_round: The last round in which training is tampered with; None for the last of the run.
        confesses: Whether the clients sign the circuit that is really executed, where a layer asks.

    Raises:
        ConfigError: A parameter is out of range.
    """

    card = AttackCard(
        name="readout-tampering",
        idea="Outcomes of one wire of the clients' circuits are read wrongly, always or where another wire reads 1.",
        source=Source(
            paper="this project: errors of the readout, also correlated ones, as somebody's choice",
            year=2026,
            where="docs/attacks.md, tampered devices",
        ),
        family="poisoning",
        goal="availability",
        needs=("the readout of the corrupted clients' device", "a variational circuit"),
    )
    wire: int = 0
    p: float = 1.0
    where: int | None = None

    def __post_init__(self) -> None:
        """Refuse what are no wires, and what is no probability."""
        super().__post_init__()
        check_fraction("p", self.p)
        _check_wire("wire", self.wire)
        if self.where is not None:
            _check_wire("where", self.where)
            if self.where == self.wire:
                raise ConfigError(
                    "'where' and 'wire' are the same wire", got=self.wire, fix="name another wire, or none"
                )

    def tampered(self, circuit: Circuit) -> Circuit:
        """The circuit with the observables that are really measured.

        Raises:
            IncompatibleAttack: There are no such wires, nothing is read on the one, or no bit on the other.
        """
        n = circuit.n_qubits
        if max(self.wire, self.where or 0) >= n:
            raise IncompatibleAttack(
                f"{self.card.name!r} names a wire that the circuit does not have",
                got=f"wire={self.wire}, where={self.where}",
                expected=f"0 to {n - 1}",
            )
        words = [word for observable in circuit.observables for _, word in observable.terms]
        if all(word[self.wire] == "I" for word in words):
            raise IncompatibleAttack(f"nothing is read on wire {self.wire}", fix="choose another 'wire'")
        if self.where is not None and any(word[self.where] not in "IZ" for word in words):
            raise IncompatibleAttack(
                f"wire {self.where} is not read in the basis of 0 and 1",
                got=words,
                fix="choose another 'where'",
            )
        return replace(circuit, observables=tuple(map(self._read, circuit.observables)))

    def _read(self, observable: Observable) -> Observable:
        terms: dict[str, float] = {}
        for coefficient, word in observable.terms:
            for share, other in self._shares(word):
                terms[other] = terms.get(other, 0.0) + share * coefficient
        return Observable(tuple((coefficient, word) for word, coefficient in terms.items()))

    def _shares(self, word: str) -> tuple[tuple[float, str], ...]:
        if word[self.wire] == "I":
            return ((1.0, word),)
        if self.where is None:
            return ((1 - 2 * self.p, word),)
        letter = "I" if word[self.where] == "Z" else "Z"
        return ((1 - self.p, word), (self.p, word[: self.where] + letter + word[self.where + 1 :]))


def _check_wire(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"{name!r} is no wire", got=repr(value), expected="an integer of at least 0")

"""Poisoning through the circuit: corrupted clients train honest records on a circuit that is not the shared one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from qflsec.attacks.base import Manipulation
from qflsec.attacks.poisoning.tampered_circuit import TamperedCircuit
from qflsec.attacks.tampering import biased, check_circuit, diffusion, inserted, with_circuit
from qflsec.attacks.values import check_choice, check_positive
from qflsec.base import AttackCard, ConfigError, IncompatibleAttack, Source, register
from qflsec.circuits import Circuit, Gate
from qflsec.federation import Hands, Pipeline
from qflsec.threat import ThreatModel

__all__ = ["GateInsertion", "RotationBias", "tampering_gates"]

Kind = Literal["bit-flip", "sign-flip", "pauli", "grover"]
Where = Literal["encoder", "end"]
_PAULI = {"bit-flip": "X", "sign-flip": "Z", "pauli": "Y"}
_MOST_WIRES = 6
_CULT = (
    "Mathur, Gupta, Ruknuddin: Can quantum federated learning withstand circuit-level backdoors?, "
    "IJCAI-ECAI 2026, arXiv:2605.27416"
)


def tampering_gates(kind: Kind, n_qubits: int) -> tuple[Gate, ...]:
    """The gates of a kind, on all wires; see :class:`GateInsertion`."""
    if kind == "grover":
        return diffusion(n_qubits)
    return tuple(Gate(_PAULI[kind], (wire,)) for wire in range(n_qubits))


@register("attack", "gate-insertion")
@dataclass(frozen=True, kw_only=True)
class GateInsertion(TamperedCircuit):
    """Train honest records on a circuit with further gates in it, or put them into the circuit that is deployed.

    Nothing in the records shows it, and updates are about as long as honest ones. On the deployed circuit nothing in the
    updates shows it either: they are honest, and no rule of the server can do anything about it.

    Args:
        kind: ``"bit-flip"`` puts X, ``"sign-flip"`` Z and ``"pauli"`` Y on every wire, ``"grover"`` the diffusion
            operator on all of them (up to six). The names are those of Mathur et al.; the gates are the plain ones of
            these names.
        place: ``"encoder"``, after the features are encoded, or ``"end"``, before the measurement.
        surface: What is tampered with: ``"training"``, what is ``"deployed"`` after it, or ``"both"``.
        boost: The factor on the update.
        last_round: The last round in which training is tampered with; None for the last of the run.
        confesses: Whether the corrupted clients sign the circuit that they really train, where a layer asks.

    Raises:
        ConfigError: A parameter is out of range.
    """

    card = AttackCard(
        name="gate-insertion",
        idea="Corrupted clients train honest records on a circuit with further gates in it.",
        source=Source(
            paper=_CULT,
            year=2026,
            where="abstract: Grover, Pauli, bit-flip and sign-flip, in and after training",
        ),
        family="poisoning",
        goal="availability",
        needs=("corrupted clients with records of their own", "a variational circuit"),
    )
    kind: Kind = "bit-flip"
    place: Where = "end"

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        super().__post_init__()
        check_choice("kind", self.kind, get_args(Kind))
        check_choice("place", self.place, get_args(Where))

    def tampered(self, circuit: Circuit) -> Circuit:
        """The circuit with these gates.

        Raises:
            IncompatibleAttack: It has too many wires.
        """
        if self.kind == "grover" and circuit.n_qubits > _MOST_WIRES:
            raise IncompatibleAttack(
                "the diffusion operator takes two gates for every subset of wires",
                got=f"{circuit.n_qubits} wires",
                expected=f"at most {_MOST_WIRES}",
                fix="choose another 'kind'",
            )
        return inserted(circuit, tampering_gates(self.kind, circuit.n_qubits), self.place)


@register("attack", "rotation-bias")
@dataclass(frozen=True, kw_only=True)
class RotationBias(Manipulation):
    """Train honest records on a circuit whose trained rotations all turn too far.

    Such a client pulls the model towards angles that are right for its own circuit: off by the bias for everybody else.
    A badly calibrated device does the same without meaning to.

    Args:
        bias: What is added to every trained angle.
        boost: The factor on the update.

    Units:
        bias: radians

    Raises:
        ConfigError: The bias is 0, or ``boost`` not positive.
    """

    card = AttackCard(
        name="rotation-bias",
        idea="Corrupted clients train on a circuit whose rotations all turn too far.",
        source=Source(
            paper="this project: over-rotation as a corrupted client's choice",
            year=2026,
            where="docs/attacks.md, tampered circuits",
        ),
        family="poisoning",
        goal="availability",
        needs=("corrupted clients with records of their own", "a variational circuit"),
    )
    bias: float = 1.5707963267948966
    boost: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a bias that changes nothing."""
        if self.bias == 0:
            raise ConfigError("'bias' is 0, which changes nothing")
        check_positive("boost", self.boost)

    def check(self, pipeline: Pipeline, threat: ThreatModel) -> None:
        """Refuse a model without rotations that could be turned.

        Raises:
            IncompatibleAttack: There are none.
        """
        super().check(pipeline, threat)
        if not _turns(check_circuit(self.card.name, pipeline.model)):
            raise IncompatibleAttack(
                f"{self.card.name!r} adds to angles that are weights, and the circuit has none",
                fix="use a circuit with trained rotations",
            )

    def run(self, hands: Hands) -> torch.Tensor:
        """The update of training on the turned circuit."""
        model = with_circuit(hands.model, biased(check_circuit(self.card.name, hands.model), self.bias))
        return self.boost * hands.train(hands.features, hands.labels, model=model)


def _turns(circuit: Circuit) -> bool:
    return any(angle.kind == "weight" for gate in circuit.gates for angle in gate.angles)

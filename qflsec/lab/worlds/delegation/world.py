"""Sessions of blind computation as a kind of matrix: attacks by the quantum server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar

from qflsec.attacks.server import ServerAttack
from qflsec.lab.grid.spec import GridSpec
from qflsec.lab.worlds.delegation.cells import SessionMatrixResult, SessionRow
from qflsec.lab.worlds.delegation.inputs import session_circuit, session_inputs
from qflsec.lab.worlds.delegation.reading import DelegationReading
from qflsec.lab.worlds.delegation.session import run_session
from qflsec.lab.worlds.delegation.spec import SessionMatrixSpec
from qflsec.lab.worlds.pairs.reading import PairReading
from qflsec.lab.worlds.pairs.world import PairWorld

__all__ = ["DelegationWorld"]


class DelegationWorld(PairWorld[SessionMatrixSpec, ServerAttack, SessionRow, SessionMatrixResult]):
    """Attacks by the quantum server on single sessions of different clients.

    Every session has seeded secrets, so that it can be repeated; its pads protect nothing.
    """

    kind: ClassVar[str] = "delegation"
    reading: ClassVar[type[PairReading[Any, Any]]] = DelegationReading
    spec_type: ClassVar[type[GridSpec]] = SessionMatrixSpec
    attack_type: ClassVar[type[Any]] = ServerAttack
    attack_words: ClassVar[str] = "an attack by the quantum server"
    honest_words: ClassVar[str] = "a server that follows the protocol"

    def columns(self) -> Mapping[str, Any]:
        """Each client with its rounds."""
        return {
            name: {**asdict(self.spec.device(name)), "counts": asdict(self.spec.counts(name))}
            for name in self.spec.clients
        }

    def setting(self) -> Mapping[str, Any]:
        """The circuit."""
        return {"qubits": self.spec.qubits, "layers": self.spec.layers}

    def trial(self, attack: ServerAttack | None, column: str, seed: int) -> SessionRow:
        """One session under attack."""
        circuit = session_circuit(self.spec.qubits, self.spec.layers)
        weights, features = session_inputs(circuit, seed)
        outcome = run_session(
            attack,
            self.spec.device(column),
            circuit=circuit,
            weights=weights,
            features=features,
            counts=self.spec.counts(column),
            seed=seed,
            seeded=True,
        )
        return SessionRow.of(outcome)

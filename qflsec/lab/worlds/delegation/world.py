"""Sessions of blind computation as a kind of matrix: attacks by the quantum server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar

from qflsec.attacks.server import ServerAttack
from qflsec.lab.grid.results import read_score
from qflsec.lab.grid.spec import GridSpec
from qflsec.lab.worlds.delegation.cells import LEARNED, SessionCell, SessionMatrixResult, SessionRow
from qflsec.lab.worlds.delegation.inputs import session_circuit, session_inputs
from qflsec.lab.worlds.delegation.session import run_session
from qflsec.lab.worlds.delegation.spec import SessionMatrixSpec
from qflsec.lab.worlds.pairs.cells import PairCell, PairResult, mean_document
from qflsec.lab.worlds.pairs.world import PairWorld

__all__ = ["DelegationWorld"]


class DelegationWorld(PairWorld[SessionMatrixSpec, ServerAttack, SessionRow, SessionMatrixResult]):
    """Attacks by the quantum server on single sessions of different clients.

    Every session has seeded secrets, so that it can be repeated; its pads protect nothing.
    """

    kind: ClassVar[str] = "delegation"
    schema: ClassVar[str] = "qflsec-blind-matrix/2"
    spec_type: ClassVar[type[GridSpec]] = SessionMatrixSpec
    attack_type: ClassVar[type[Any]] = ServerAttack
    attack_words: ClassVar[str] = "an attack by the quantum server"
    honest_words: ClassVar[str] = "a server that follows the protocol"
    result_type: ClassVar[type[PairResult[Any]]] = SessionMatrixResult
    cell_type: ClassVar[type[PairCell[Any]]] = SessionCell

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

    @staticmethod
    def content(outcome: SessionRow) -> dict[str, Any]:
        """A row as JSON types."""
        return asdict(outcome)

    @staticmethod
    def outcome(content: Mapping[str, Any]) -> SessionRow:
        """The row that :meth:`content` wrote."""
        scores = {name: read_score(score) for name, score in content["scores"].items()}
        return SessionRow(**{**content, "scores": scores})

    @classmethod
    def summary(cls, cell: SessionCell) -> dict[str, Any]:
        """What a document says of a cell over all seeds."""
        return {
            "sessions": len(cell.outcomes),
            "sessions_aborted": cell.aborted,
            "sessions_wrong_accepted": cell.wrong,
            "leaks": list(cell.leaking),
            **{f"{name}_advantage": mean_document(cell.advantage(name)) for name in LEARNED},
            "test_failure_rate": mean_document(cell.failure_rate),
            "test_failure_rate_theory": cell.detection,
        }

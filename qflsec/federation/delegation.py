"""Delegation: clients whose circuits a quantum server executes, at every local step.

The quantum server is a party of its own. It keeps no data and takes no part in the aggregation; what crosses
between it and a client goes over the network, which counts and records it. Link layers protect what clients
and the aggregation server say to each other, not this traffic: it is as readable as the delegation leaves it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from qflsec.accounting import LedgerContext
from qflsec.base import IncompatibleStack, ProtocolAbort
from qflsec.federation.layers import SecretLayer
from qflsec.federation.parties import PartyState
from qflsec.federation.pipeline import Pipeline
from qflsec.models import Evaluator, Execution
from qflsec.threat import (
    QUANTUM_SERVER,
    Envelope,
    MessageKind,
    Network,
    Party,
    Payload,
    Slot,
    ThreatModel,
    Traffic,
    Workload,
)
from qflsec.threat.message import payload_bytes

__all__ = ["KEPT_BYTES", "Conversation", "DelegationLayer"]

KEPT_BYTES = 2**24
"""Classical bytes between one client of a run and the quantum server beyond which the transcript keeps no more;
they are carried and counted all the same."""


class DelegationLayer(SecretLayer):
    """Has a client's circuits executed by the quantum server.

    Each client has a state of its own; the aggregation server's is never used.
    """

    def traffic(self, load: Workload, inner: Traffic) -> Traffic | None:
        """Unchanged: what crosses to the quantum server crosses no link between a client and the server."""
        return inner

    def check(self, pipeline: Pipeline) -> None:
        """Refuse models without a circuit, and executions that say how the client itself would execute.

        Raises:
            IncompatibleStack: There is nothing to delegate, or the pipeline executes otherwise.
        """
        if getattr(pipeline.model, "circuit", None) is None:
            raise IncompatibleStack(
                f"{self.card.name!r} delegates circuits, but the model {pipeline.model.name!r} has none that "
                "can be read",
                fix="use a variational circuit, a hybrid, or a QNode of affine angles",
            )
        for execution in (pipeline.execution, *pipeline.client_executions.values()):
            if execution != Execution(dtype=execution.dtype, gradient=execution.gradient):
                raise IncompatibleStack(
                    f"{self.card.name!r} executes circuits with its own shots and noise, but the pipeline sets "
                    "an execution",
                    fix="remove 'execution' from the pipeline and set the layer's shots",
                )

    def check_server(self, threat: ThreatModel) -> None:
        """Refuse an active quantum server that the layer cannot be played against; none by default.

        Raises:
            IncompatibleStack: The layer cannot face it.
        """

    def reads(self, context: LedgerContext) -> bool:
        """Whether this observer reads data and parameters off what is delegated; nobody by default."""
        return False

    @abstractmethod
    def evaluator(self, state: PartyState, conversation: Conversation) -> Evaluator:
        """What evaluates one client's circuits in one round.

        Args:
            state: The client's state.
            conversation: Its way to the quantum server.
        """

    def results(self, state: PartyState) -> Sequence[object]:
        """What the ledger needs to know of a client's delegations; nothing by default."""
        return ()


class Conversation:
    """One client's way to the quantum server in one round of one run.

    Attributes:
        client: The client.
        seed: The run's seed, for nature.
        program: What a corrupted quantum server runs; None for an honest one.
    """

    def __init__(
        self,
        *,
        network: Network,
        lane: int,
        round_index: int,
        party: Party,
        seed: int,
        program: object | None,
        kept: dict[tuple[int, Party], int],
    ) -> None:
        self.client, self.seed, self.program = party, seed, program
        self._network, self._lane, self._round, self._kept = network, lane, round_index, kept

    def tell(self, kind: MessageKind, payload: Payload) -> Payload:
        """Say something to the quantum server; what arrives there.

        Raises:
            ProtocolAbort: It did not arrive.
        """
        return self._carry(kind, Slot(self.client, QUANTUM_SERVER), payload)

    def hear(self, kind: MessageKind, payload: Payload) -> Payload:
        """The quantum server says something; what arrives at the client.

        Raises:
            ProtocolAbort: It did not arrive.
        """
        return self._carry(kind, Slot(QUANTUM_SERVER, self.client), payload)

    def _carry(self, kind: MessageKind, slot: Slot, payload: Payload) -> Payload:
        key = self._lane, self.client
        self._kept[key] = self._kept.get(key, 0) + payload_bytes(payload)
        delivery = self._network.send(
            Envelope.plain([[payload]]),
            kind=kind,
            round_index=self._round,
            lanes=[self._lane],
            slots=[slot],
            present=[[True]],
            members=[[frozenset({self.client.index})]],
            linked=False,
            recorded=self._kept[key] <= KEPT_BYTES,
        )
        arrived = delivery.at(0, 0)
        if arrived is None:
            raise ProtocolAbort(f"a message between {self.client} and the quantum server was lost", got=kind)
        return arrived

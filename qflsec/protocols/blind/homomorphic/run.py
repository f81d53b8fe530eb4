"""Expectation values of a circuit on padded qubits: the model is the server's, data and results the client's.

``deferred`` is quantum homomorphic encryption after Broadbent and Jeffery: the server works alone from padded
qubits and encrypted key bits, and the client decrypts at the end, in a number of steps that grows with the
number of gadgets: the scheme is not compact. ``interactive`` is half-blind computation: the client takes each
gadget's half as it comes, in one exchange for every rotation, follows the keys itself, and needs no encryption
of keys and no quantum memory. Rotations by any angle take a gadget each, as T does: they are not synthesised.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from qflsec.base import OsSecrets, Secrets, finite
from qflsec.circuits import Circuit, measurement_groups
from qflsec.circuits.sampling import MeasurementGroup
from qflsec.protocols.blind.angles import Floats
from qflsec.protocols.blind.delegate import RowBatch, broadcast_rows
from qflsec.protocols.blind.errors import BlindError
from qflsec.protocols.blind.execute import constant_terms
from qflsec.protocols.blind.homomorphic.encoding import angle_values, product_state
from qflsec.protocols.blind.homomorphic.encrypted_keys import ROUNDS
from qflsec.protocols.blind.homomorphic.key_forms import KeyForms, Rows, key_forms
from qflsec.protocols.blind.homomorphic.laboratory import Laboratory, measure_z
from qflsec.protocols.blind.homomorphic.parties import PadClient, PadServer
from qflsec.protocols.blind.homomorphic.steps import PaddedCircuit, padded_circuit
from qflsec.protocols.blind.qubits import Bits, Qubits

__all__ = [
    "Homomorphic",
    "HomomorphicCosts",
    "HomomorphicView",
    "Mode",
    "gadget_angles",
    "homomorphic_expectations",
]

Mode = Literal["deferred", "interactive"]
_LARGEST_DEFERRED = 16
"""Wires and kept halves whose joint state a simulator can hold."""
_AMPLITUDES = 2**21


@finite
@dataclass(kw_only=True)
class HomomorphicCosts:
    """What it cost.

    Attributes:
        rounds: Runs of a circuit.
        gadgets: Entangled pairs that the server used.
        qubits_to_server: Padded qubits.
        qubits_to_client: Halves of pairs.
        exchanges: Messages that wait for the other's, over all batches.
        bytes_to_server: Encrypted key bits and parameters.
        bytes_to_client: Evaluated key bits.
        decryptions: Ciphertexts that the client decrypted.
        turns: Single-qubit turns and measurements of the client.
    """

    rounds: int = 0
    gadgets: int = 0
    qubits_to_server: int = 0
    qubits_to_client: int = 0
    exchanges: int = 0
    bytes_to_server: int = 0
    bytes_to_client: int = 0
    decryptions: int = 0
    turns: int = 0


@dataclass(kw_only=True)
class HomomorphicView:
    """What the server saw of a batch besides the public circuit; qubits it held as handles, and spent.

    Attributes:
        public: The parameters of the key encryption; empty in interactive mode.
        ciphertexts: The encrypted key bits.
        gadgets: Its outcomes in gadgets ``(T, rounds)``.
        outcomes: Its outcomes of the read wires ``(wires, rounds)``, still padded.
    """

    public: bytes
    ciphertexts: list[bytes]
    gadgets: Bits
    outcomes: Bits


@dataclass(kw_only=True)
class Homomorphic:
    """How a circuit runs on padded qubits; costs and views add up over calls.

    Attributes:
        shots: Rounds of each row and measured basis.
        seed: Of nature: outcomes.
        mode: ``"deferred"`` or ``"interactive"``.
        secrets: Where the keys come from; the operating system when None.
        views: Where the server's views are kept, if wanted.
        costs: What it has cost so far.
    """

    shots: int
    seed: int
    mode: Mode = "deferred"
    secrets: Secrets | None = None
    views: list[HomomorphicView] | None = None
    costs: HomomorphicCosts = field(default_factory=HomomorphicCosts)

    def __post_init__(self) -> None:
        """Refuse no shots and unknown modes."""
        if self.shots < 1:
            raise BlindError("too few shots", got=self.shots, expected="at least 1")
        if self.mode not in ("deferred", "interactive"):
            raise BlindError("unknown mode", got=repr(self.mode), expected="deferred or interactive")


def homomorphic_expectations(
    circuit: Circuit, weights: Floats, features: Floats, *, executor: Homomorphic
) -> Floats:
    """The observables of a circuit, estimated on padded qubits.

    The server knows the circuit and the weights and learns neither features nor results: of the qubits nothing,
    whatever it does; of their keys nothing, while lattice encryption holds (``deferred``; nothing at all in
    ``interactive``). It could return wrong results unseen: nothing here verifies it.

    Args:
        circuit: The circuit; features enter on single wires before all weights.
        weights: Weights; leading axes broadcast with those of the features.
        features: Features.
        executor: How it runs.

    Shapes:
        weights ``(..., P)``, features ``(..., F)`` -> ``(..., K)``.

    Source:
        Broadbent and Jeffery, Quantum homomorphic encryption for circuits of low T-gate complexity, CRYPTO
        2015, scheme EPR; Childs, Secure assisted quantum computation, quant-ph/0111046, 2005 (half-blind).

    Raises:
        BlindError: A circuit that cannot be split, or too many gadgets to simulate at once.
    """
    batch = broadcast_rows(circuit, weights, features)
    total = np.tile(constant_terms(circuit), (len(batch.weights), 1))
    for number, group in enumerate(measurement_groups(circuit)):
        bits = _group_bits(group, number, batch, executor)
        values = np.stack(
            [1 - 2 * (bits[list(word)].sum(axis=0) % 2).mean(axis=1) for word in group.words], axis=1
        )
        total += values @ np.array(group.coefficients).reshape(len(group.words), -1)
    return total.reshape(*batch.shape, -1)


def _group_bits(group: MeasurementGroup, number: int, batch: RowBatch, executor: Homomorphic) -> Bits:
    """The bits of the read wires ``(wires, rows, shots)``."""
    circuit = padded_circuit(group.circuit)
    size = _batch_size(circuit, executor.mode)
    rows = np.repeat(np.arange(len(batch.weights)), executor.shots)
    found = []
    for place, start in enumerate(range(0, len(rows), size)):
        chosen = rows[start : start + size]
        lab = Laboratory(len(chosen), executor.seed, number, place)
        one = RowBatch((len(chosen),), batch.weights[chosen], batch.features[chosen])
        found.append(_run(circuit, group.wires, one, lab, executor))
    return np.concatenate(found, axis=1).reshape(len(group.wires), -1, executor.shots)


def _batch_size(circuit: PaddedCircuit, mode: Mode) -> int:
    kept = circuit.n_gadgets if mode == "deferred" else 0
    live = circuit.n_wires + kept + 2
    if kept and live > _LARGEST_DEFERRED:
        raise BlindError(
            "too many gadgets to keep their halves in simulation",
            got=f"{circuit.n_wires} wires and {kept} gadgets",
            expected=f"at most {_LARGEST_DEFERRED - 2} together",
            fix='choose mode="interactive", which measures each half as it comes',
        )
    return max(1, min(ROUNDS, _AMPLITUDES >> live))


@dataclass(kw_only=True)
class _Batch:
    """One batch of rounds between its two parties.

    ``rows`` are the public rows of the gadgets' keys, then of the read wires'.
    """

    circuit: PaddedCircuit
    read: tuple[int, ...]
    forms: KeyForms
    rows: Rows
    client: PadClient
    server: PadServer
    wires: list[Qubits]

    def close(self, index: int, half: Qubits, c: Bits, initial: Bits) -> None:
        """The client's part of one gadget."""
        self.client.close_gadget(index, half, c, initial[index], self.rows[index, self.forms.outcomes])

    def decrypt(self, raw: Bits, initial: Bits) -> Bits:
        """The bits behind the read wires' outcomes."""
        n = self.forms.n_gadgets
        return self.client.unpad_bits(raw, initial[n:], self.rows[n:, self.forms.outcomes])


def _run(
    circuit: PaddedCircuit, read: tuple[int, ...], rows: RowBatch, lab: Laboratory, executor: Homomorphic
) -> Bits:
    """One batch of rounds; the decrypted bits ``(wires, rounds)``."""
    forms = key_forms(circuit.steps, circuit.n_wires)
    angles = gadget_angles(circuit, rows.weights)
    secrets = OsSecrets() if executor.secrets is None else executor.secrets
    client = PadClient(rounds=lab.rounds, n_wires=circuit.n_wires, angles=angles, secrets=secrets)
    wires = [lab.prepare(zero, one) for zero, one in product_state(circuit, rows.features)]
    client.pad(wires)
    batch = _Batch(
        circuit=circuit,
        read=read,
        forms=forms,
        rows=np.concatenate([forms.gadgets, forms.x[list(read)]]),
        client=client,
        server=PadServer(circuit, angles, lab.entangled_pair),
        wires=wires,
    )
    costs = executor.costs
    costs.rounds += lab.rounds
    costs.gadgets += lab.rounds * circuit.n_gadgets
    costs.qubits_to_server += lab.rounds * circuit.n_wires
    costs.qubits_to_client += lab.rounds * circuit.n_gadgets
    costs.turns += lab.rounds * circuit.n_gadgets
    play = _interactive if executor.mode == "interactive" else _deferred
    view, initial = play(batch, costs)
    if executor.views is not None:
        executor.views.append(view)
    return batch.decrypt(view.outcomes, initial)


def gadget_angles(circuit: PaddedCircuit, weights: Floats) -> Floats:
    """The angle of each gadget in each round ``(T, rounds)``; public, as the weights are."""
    found = [angle_values(step.angle, weights, weights) for step in circuit.steps if step.angle is not None]
    return np.array(found, dtype=np.float64).reshape(circuit.n_gadgets, len(weights))


def _deferred(batch: _Batch, costs: HomomorphicCosts) -> tuple[HomomorphicView, Bits]:
    """The server works alone; then the client decrypts, gadget after gadget."""
    public, ciphertexts = batch.client.encrypt_keys()
    sent: list[tuple[Qubits, Bits]] = []
    held = batch.server.run(batch.wires, lambda _, half, c: sent.append((half, c)))
    raw = np.stack([measure_z(held[wire]) for wire in batch.read])
    evaluated = batch.server.evaluate(public, ciphertexts, batch.rows[:, batch.forms.initial])
    initial = batch.client.decrypt_rows(evaluated)
    for index, (half, c) in enumerate(sent):
        batch.close(index, half, c, initial)
    costs.bytes_to_server += len(public) + sum(map(len, ciphertexts))
    costs.bytes_to_client += sum(map(len, evaluated))
    costs.decryptions += len(evaluated)
    costs.exchanges += 1
    view = HomomorphicView(
        public=public, ciphertexts=ciphertexts, gadgets=_stack([c for _, c in sent], raw), outcomes=raw
    )
    return view, initial


def _interactive(batch: _Batch, costs: HomomorphicCosts) -> tuple[HomomorphicView, Bits]:
    """The client measures each half before the server goes on."""
    initial = batch.client.own_rows(batch.rows[:, batch.forms.initial])
    heard: list[Bits] = []

    def deliver(index: int, half: Qubits, c: Bits) -> None:
        heard.append(c)
        batch.close(index, half, c, initial)

    held = batch.server.run(batch.wires, deliver)
    raw = np.stack([measure_z(held[wire]) for wire in batch.read])
    costs.exchanges += batch.circuit.n_gadgets + 1
    return HomomorphicView(public=b"", ciphertexts=[], gadgets=_stack(heard, raw), outcomes=raw), initial


def _stack(outcomes: list[Bits], raw: Bits) -> Bits:
    return np.array(outcomes, dtype=np.uint8).reshape(len(outcomes), raw.shape[1])

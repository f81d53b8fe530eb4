"""A layer of each kind that writes down when it acts, and an adversary that does.

Each does what its kind does at the least: nothing, or what the plainest layer of the package does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from qflsec.base import DefenseCard, Secrets
from qflsec.federation import (
    Adversary,
    BoundLayer,
    Control,
    Conversation,
    ExecutionLayer,
    FedAvg,
    GradientLayer,
    Hands,
    Header,
    Identity,
    NoiseLayer,
    PartyState,
    RoundUpdates,
    ServerHands,
    Setup,
    ShapeLayer,
    Streams,
    SummedUpdates,
)
from qflsec.models import Evaluator, Execution
from qflsec.protocols.blind import Delegated
from qflsec.protocols.links import AesGcmLink
from qflsec.protocols.secagg import Masked
from qflsec.threat import Party, Payload, Tapped

LOG: list[str] = []


def card(name: str) -> DefenseCard:
    return replace(Masked.card, name=name)


@dataclass(frozen=True, kw_only=True)
class Executing(ExecutionLayer):
    card: ClassVar[DefenseCard] = card("executing")
    sets = frozenset({"dtype"})

    def execution(self, execution: Execution) -> Execution:
        LOG.append("execution")
        return replace(execution, dtype="complex128")


@dataclass(frozen=True, kw_only=True)
class Delegating(Delegated):
    card: ClassVar[DefenseCard] = card("delegating")

    def evaluator(self, state: PartyState, conversation: Conversation) -> Evaluator:
        LOG.append("evaluator")
        return super().evaluator(state, conversation)


@dataclass(frozen=True, kw_only=True)
class Graded(GradientLayer):
    card: ClassVar[DefenseCard] = card("graded")
    factor: float = 1.0

    def gradient(
        self, per_sample: torch.Tensor, mask: torch.Tensor, expected: torch.Tensor, streams: Streams
    ) -> torch.Tensor:
        LOG.append("gradient")
        return self.factor * (per_sample * mask[..., None]).sum(dim=2) / expected[..., None]


@dataclass(frozen=True, kw_only=True)
class Shaped(ShapeLayer):
    card: ClassVar[DefenseCard] = card("shaped")
    factor: float = 1.0
    name: str = ""

    def shape(self, update: torch.Tensor, streams: Streams) -> torch.Tensor:
        LOG.append(f"shape{self.name}")
        return self.factor * update


@dataclass(frozen=True, kw_only=True)
class Aggregated(Masked):
    card: ClassVar[DefenseCard] = card("aggregated")

    def open(self, setup: Setup, identity: Identity, secrets: Secrets) -> PartyState:
        LOG.append("open")
        return super().open(setup, identity, secrets)

    def prepare(self, control: Control) -> frozenset[Party]:
        LOG.append("prepare")
        return super().prepare(control)

    def seal(
        self, state: PartyState, update: torch.Tensor, weight: float, header: Header, *, checked: bool = True
    ) -> tuple[Payload, torch.Tensor]:
        LOG.append("seal" if checked else "seal unchecked")
        return super().seal(state, update, weight, header, checked=checked)

    def conclude(self, control: Control, payloads: Mapping[Party, Payload]) -> Mapping[Party, Payload]:
        LOG.append("conclude")
        return super().conclude(control, payloads)

    def combine(self, state: PartyState, payloads: Mapping[Party, Payload], header: Header) -> Payload:
        LOG.append("combine")
        return super().combine(state, payloads, header)

    def reveal(self, state: PartyState, combined: Payload, header: Header) -> tuple[torch.Tensor, float]:
        LOG.append("reveal")
        return super().reveal(state, combined, header)


@dataclass(frozen=True, kw_only=True)
class Linked(AesGcmLink):
    card: ClassVar[DefenseCard] = card("linked")

    def seal(self, state: PartyState, receiver: Party, payload: bytes, header: bytes) -> bytes:
        LOG.append("link seals")
        return super().seal(state, receiver, payload, header)

    def unseal(self, state: PartyState, sender: Party, blob: bytes, header: bytes) -> bytes:
        LOG.append("link unseals")
        return super().unseal(state, sender, blob, header)


@dataclass(frozen=True, kw_only=True)
class Bounded(BoundLayer):
    card: ClassVar[DefenseCard] = card("bounded")
    factor: float = 1.0
    name: str = ""

    def bound(self, batch: RoundUpdates) -> RoundUpdates:
        LOG.append(f"bound{self.name}")
        return batch.with_updates(self.factor * batch.updates)


@dataclass(frozen=True, kw_only=True)
class Ruled(FedAvg):
    """The mean plus the number of rounds that the rule has seen."""

    card: ClassVar[DefenseCard] = card("ruled")
    counting: bool = False

    def start(self, n_params: int) -> object:
        LOG.append("start")
        return 0

    def aggregate(self, batch: RoundUpdates | SummedUpdates, state: object) -> tuple[torch.Tensor, object]:
        LOG.append("aggregate")
        assert isinstance(state, int)
        step, _ = super().aggregate(batch, None)
        return step + (state if self.counting else 0), state + 1


@dataclass(frozen=True, kw_only=True)
class Noisy(NoiseLayer):
    card: ClassVar[DefenseCard] = card("noisy")
    shift: float = 0.0

    def perturb(self, step: torch.Tensor, batch: RoundUpdates | SummedUpdates) -> torch.Tensor:
        LOG.append("perturb")
        return step + self.shift


@dataclass(frozen=True)
class Watching(Adversary):
    """Follows the protocol everywhere, and writes down each of its turns."""

    def updates(self, hands: Hands) -> torch.Tensor:
        LOG.append("adversary updates")
        return hands.honest

    def broadcast(self, hands: ServerHands) -> torch.Tensor:
        LOG.append("adversary broadcasts")
        return hands.params[:, None, :].expand(-1, hands.n_clients, -1)

    def tamper(self, tapped: Tapped) -> Payload:
        LOG.append(f"adversary taps {tapped.kind}")
        return tapped.payload

    def identity(self) -> dict[str, object]:
        return {"name": "watching"}

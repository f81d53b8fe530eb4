"""What a party of a run holds: its identity, its states of the stack's secret layers, and the ends of its links."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from qflsec.base import ProtocolAbort
from qflsec.base.framing import pack_named, unpack_named
from qflsec.federation import Identity, Setup, Stack
from qflsec.federation.layers import LinkLayer, SecretLayer
from qflsec.federation.parties import PartyState
from qflsec.flower.arrays import ArrayLayout
from qflsec.flower.carried import carried
from qflsec.flower.homes import secrets_of
from qflsec.flower.plan import Plan
from qflsec.protocols.keystore import KeyProvider
from qflsec.threat import SERVER, Party

__all__ = ["Held", "announced_by", "check_session", "hold", "new_session", "secret_layers"]

_RANDOM_BYTES = 16


@dataclass(kw_only=True, eq=False)
class Held:
    """What one party holds during a run.

    Attributes:
        party: Who.
        session: The public name of the session.
        stack: The stack, with its noise set.
        layout: The arrays of the model.
        states: Its state of each secret layer of the stack, in order.
        announcements: What it announced for each.
        round: The last round that it was asked into; -1 before the first.
        model: The model that it received in that round.
        trained: Whether it trained in that round.
        learned: Whether it took in everybody's announcements.
        opened: The last round whose sum it opened, where only clients open sums.
        memory: What an adversary keeps from round to round.

    Shapes:
        model: ``(P,)``
    """

    party: Party
    session: bytes
    stack: Stack
    layout: ArrayLayout
    states: list[PartyState] = field(repr=False)
    announcements: list[bytes] = field(default_factory=list)
    round: int = -1
    model: torch.Tensor | None = None
    trained: bool = False
    learned: bool = False
    opened: int = -1
    memory: Any = None

    @property
    def secret_layers(self) -> list[SecretLayer]:
        """The layers that the states belong to."""
        return secret_layers(self.stack)

    def state(self, layer: SecretLayer) -> PartyState:
        """The party's state of a layer."""
        return self.states[self.secret_layers.index(layer)]

    def links(self) -> Iterator[tuple[LinkLayer, PartyState]]:
        """The link layers with the party's end of each, the first applied first."""
        for layer, state in zip(self.secret_layers, self.states, strict=True):
            if isinstance(layer, LinkLayer):
                yield layer, state

    def seal(self, receiver: Party, round_index: int, body: bytes) -> bytes:
        """A letter as it goes over the links; as it is before the first round, when there are no keys yet.

        Raises:
            ProtocolAbort: A link has no key left.
        """
        if round_index < 0:
            return body
        for depth, (layer, state) in enumerate(self.links()):
            body = layer.seal(state, receiver, body, _header(round_index, self.party, receiver, depth))
        return body

    def unseal(self, sender: Party, round_index: int, body: bytes) -> bytes:
        """A letter as it came over the links.

        Raises:
            ProtocolAbort: It is not what its sender sealed for this round.
        """
        if round_index < 0:
            return body
        links = list(self.links())
        for depth in reversed(range(len(links))):
            layer, state = links[depth]
            body = layer.unseal(state, sender, body, _header(round_index, sender, self.party, depth))
        return body

    def learn(self, heard: Mapping[Party, bytes], plan: Plan) -> None:
        """Take in everybody's announcements.

        Raises:
            ProtocolAbort: One is missing or not authentic.
        """
        if not any(heard.values()):
            return
        missing = sorted({*plan.clients, SERVER} - set(heard))
        if missing:
            raise ProtocolAbort(f"{self.party} did not hear the announcement of {missing[0]}")
        parts = {author: unpack_named(blob) for author, blob in heard.items() if author != self.party}
        for place, state in enumerate(self.states):
            if self.announcements[place] or any(str(place) in said for said in parts.values()):
                for author, said in parts.items():
                    state.learn(author, said.get(str(place), b""))
        self.learned = True

    def announce(self) -> bytes:
        """What the party announces for all layers; empty where it has nothing to announce."""
        named = {str(place): blob for place, blob in enumerate(self.announcements) if blob}
        return pack_named(named)


def secret_layers(stack: Stack) -> list[SecretLayer]:
    """The layers of a stack in which parties hold secrets, in order."""
    return [layer for layer in stack.client if isinstance(layer, SecretLayer)]


def hold(
    plan: Plan, layout: ArrayLayout, identity: Identity, session: bytes, keys: KeyProvider | None = None
) -> Held:
    """Open a session for one party.

    Args:
        plan: The plan.
        layout: The arrays of the model.
        identity: Who it is, and everybody's public keys.
        session: The public name of the session.
        keys: Its end of quantum links, for layers that need one.

    Raises:
        IncompatibleStack: The plan's stack does not fit the app.
        ProtocolAbort: The party could not bring a run to its end.
        ConfigError: A layer cannot be opened.
    """
    stack, party = plan.ready(layout), identity.party
    setup = Setup(
        session=session,
        clients=plan.clients,
        server=SERVER,
        n_params=layout.n_params,
        rounds=plan.rounds,
        max_count=plan.max_count,
        participants=plan.asked,
        quantum=keys,
    )
    traffic, secrets = carried(plan, layout, stack), secrets_of(plan.secret_seed, party)
    states = []
    for layer in secret_layers(stack):
        known = replace(setup, traffic=traffic.get(layer)) if isinstance(layer, LinkLayer) else setup
        states.append(layer.open(known, identity, secrets))
    for state in states:
        state.check_ready()
    held = Held(party=party, session=session, stack=stack, layout=layout, states=states)
    held.announcements = [state.announce() for state in states]
    return held


def new_session(run: int) -> bytes:
    """A public name of a session, which nobody used before and which says of what run it is.

    Args:
        run: Flower's number of the run.
    """
    return os.urandom(_RANDOM_BYTES) + _of_run(run)


def check_session(session: bytes, run: int) -> None:
    """Refuse the name of a session of another run: what was signed there must not count here.

    Args:
        session: The name.
        run: Flower's number of the run that a node is in.

    Raises:
        ProtocolAbort: It is.
    """
    if len(session) != _RANDOM_BYTES + len(_of_run(run)) or not session.endswith(_of_run(run)):
        raise ProtocolAbort("the server names a session that is not of this run")


def _of_run(run: int) -> bytes:
    return run.to_bytes(8, "big", signed=run < 0)


def announced_by(blobs: Mapping[str, bytes]) -> dict[Party, bytes]:
    """Announcements by author."""
    found = {}
    for name, blob in blobs.items():
        role, _, index = name.partition(":")
        if name == str(SERVER):
            found[SERVER] = blob
        elif role == "client" and index.isascii() and index.isdecimal() and len(index) < 6:
            found[Party("client", int(index))] = blob
    return found


def _header(round_index: int, sender: Party, receiver: Party, depth: int) -> bytes:
    return f"flower|{round_index}|{sender}|{receiver}|{depth}".encode()

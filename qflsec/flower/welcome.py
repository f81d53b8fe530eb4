"""Who the nodes are: each says its client's number, and proves it with that client's key."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from flwr.app import ConfigRecord, Message

from qflsec.base import ProtocolAbort
from qflsec.base.framing import pack_named, unpack_named
from qflsec.federation import Identity
from qflsec.flower.conversation import HELLO, LEARN, REFUSED, hello_context
from qflsec.flower.exchange import Exchange
from qflsec.flower.held import Held, announced_by
from qflsec.flower.letters import Letter, Part, read_letter, write_letter
from qflsec.flower.plan import Plan
from qflsec.threat import SERVER, Party

__all__ = ["Welcome"]

_POLL = 0.2


@dataclass(kw_only=True, eq=False)
class Welcome:
    """The server's greetings of nodes.

    Attributes:
        plan: The plan.
        held: What the server holds.
        exchange: Where the node of each client is noted.
        identity: The server's identity, with everybody's public keys.
        refused: Why nodes were turned away, by node.
    """

    plan: Plan
    held: Held
    exchange: Exchange
    identity: Identity
    refused: dict[int, str] = field(default_factory=dict)
    _announced: dict[Party, bytes] = field(default_factory=dict)
    _slow: set[int] = field(default_factory=set)
    _before: set[int] = field(default_factory=set)

    def first(self) -> None:
        """Wait for the plan's clients, and let them hear each other's announcements.

        Raises:
            ProtocolAbort: Nobody came, or one of them did not announce what the others need.
        """
        deadline = time.monotonic() + self.plan.patience
        while len(nodes := list(self.exchange.grid.get_node_ids())) < self.plan.n_clients:
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL)
        self.greet(nodes)
        if not self.exchange.nodes:
            why = "; ".join(f"node {node}: {reason}" for node, reason in self.refused.items())
            raise ProtocolAbort("no client is connected", got=why or "no node")
        self._share()

    def newcomers(self) -> None:
        """Greet nodes that came since, and once more those that were too slow to answer.

        A node that proves to be a client takes the place of the one that was it before: a client that was started again
        has another number.
        """
        known = {*self.exchange.nodes.values(), *self._before, *self.refused} - self._slow
        self._slow.clear()
        self.greet([node for node in self.exchange.grid.get_node_ids() if node not in known], late=True)

    def greet(self, nodes: Iterable[int], *, late: bool = False) -> None:
        """Ask nodes who they are.

        Args:
            nodes: Their numbers.
            late: Whether others were greeted before, whose places they may take.
        """
        places = {} if late else self.exchange.nodes
        messages = list(self._greetings(nodes))
        if not messages:
            return
        replies = self.exchange.grid.send_and_receive(messages, timeout=self.plan.patience)
        heard = set()
        for reply in replies:
            node = reply.metadata.src_node_id
            heard.add(node)
            self.refused.pop(node, None)
            try:
                self._admit(node, reply, places)
            except ProtocolAbort as abort:
                self.refused[node] = str(abort)
        for message in messages:
            if message.metadata.dst_node_id not in heard:
                node = message.metadata.dst_node_id
                if node not in self.refused:
                    self._slow.add(node)
                self.refused[node] = "it did not answer the greeting"

    def _greetings(self, nodes: Iterable[int]) -> Iterator[Message]:
        greeting = {
            "plan": self.plan.digest,
            "session": self.held.session,
            "layout": self.held.layout.to_bytes(),
        }
        letter = Letter(round=-1, parts=(Part(name=HELLO, body=pack_named(greeting)),))
        for node in nodes:
            content = write_letter(letter, bytes)
            content["config"] = ConfigRecord()
            yield Message(content, node, "train")

    def _admit(self, node: int, reply: Message, places: Mapping[Party, int]) -> None:
        """Take a node for the client that it says it is.

        Raises:
            ProtocolAbort: It does not say, is not, or another node is that client already.
        """
        if not reply.has_content():
            raise ProtocolAbort("its app failed", got=" ".join((reply.error.reason or "no reason").split()))
        letter = read_letter(reply.content, lambda _, body: body)
        refused = None if letter is None else letter.get(REFUSED)
        if refused is not None:
            raise ProtocolAbort("it refused", got=refused.decode(errors="replace"))
        said = {} if letter is None else unpack_named(letter.get(HELLO) or b"")
        named = list(announced_by({said.get("party", b"").decode(errors="replace"): b""}))
        if not named or named[0] not in self.plan.clients:
            raise ProtocolAbort("it names no client of the plan")
        party = named[0]
        try:
            self.identity.verify(party, said.get("proof", b""), hello_context(self.held.session, node))
        except ProtocolAbort:
            raise ProtocolAbort(f"it says that it is {party}, and does not prove it") from None
        self._keep(party, node, said.get("announced", b""), places.get(party))

    def _keep(self, party: Party, node: int, announced: bytes, other: int | None) -> None:
        if other is not None and other != node:
            raise ProtocolAbort(f"it says that it is {party}, which node {other} is already")
        before = self._announced.setdefault(party, announced)
        if before != announced:
            raise ProtocolAbort(
                f"{party} came back with other keys than it had announced: its states are lost"
            )
        if party in self.exchange.nodes:
            self._before.add(self.exchange.nodes[party])
        self.exchange.nodes[party] = node

    def _share(self) -> None:
        """Take in the announcements, and hand all of them to everybody.

        Raises:
            ProtocolAbort: One is missing or not authentic.
        """
        own = self.held.announce()
        everything = {**self._announced, SERVER: own}
        if not any(everything.values()):
            return
        self.held.learn(everything, self.plan)
        body = pack_named({str(party): blob for party, blob in everything.items()})
        told = {party: [Part(name=LEARN, body=body)] for party in self.exchange.nodes}
        if self.held.stack.links:  # what is sealed can be read by those alone who know the keys
            self.exchange.ask(told)
            return
        for party, parts in told.items():
            self.exchange.tell(party, parts[0])

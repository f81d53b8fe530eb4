"""The client's side: one mod that answers the server's letters, around the train function of an app."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from flwr.app import Context, Message

from qflsec.base import ConfigError, IncompatibleAttack, ProtocolAbort, QflsecError
from qflsec.base.framing import pack_named, unpack_named
from qflsec.federation import Adversary, Identity
from qflsec.flower.arrays import ArrayLayout
from qflsec.flower.boxes import Box, Boxes, FolderBoxes, MemoryBoxes
from qflsec.flower.conversation import HELLO, LEARN, REFUSED, Conversation, hello_context
from qflsec.flower.held import Held, check_session, hold, secret_layers
from qflsec.flower.homes import identity_of_home, seeded_identities
from qflsec.flower.letters import Letter, Part, read_letter, write_letter
from qflsec.flower.plan import Plan
from qflsec.flower.release import Forge, Release, keep_counts
from qflsec.protocols.keystore import KeyProvider
from qflsec.threat import SERVER, client

__all__ = ["ClientSide"]

HOME_KEY, INDEX_KEY = "qflsec-home", "partition-id"
_App = Callable[[Message, Context], Message]


class ClientSide:
    """A mod for ``ClientApp(mods=[...])``: what a client of a plan does with its updates.

    It clips, compresses and noises them, seals them, and answers the phases of a protocol; the app's train function
    gets a model and gives a model, as ever. Its number is the node's ``partition-id``; keys and states lie in the
    folder that the node's configuration calls ``qflsec-home``.

    Under a strategy that is not of this package it still clips, compresses and noises, where the plan seals nothing.

    Args:
        plan: The plan, or what makes it of a node's and the run's configuration.
        adversary: What a corrupted client sends in place of its update: an attack of the catalogue, for the lab.
        forge: The same as a function that says what is sent, for the lab.
        keys: Makes the node's end of its quantum links, such as an ``Etsi014Provider``, for layers that need one.
        boxes: Where states are kept; by default in the node's home, or in this process where a seed is set.
    """

    __name__ = "qflsec"

    def __init__(
        self,
        plan: Plan | Callable[[Context], Plan],
        *,
        adversary: Adversary | None = None,
        forge: Forge | None = None,
        boxes: Boxes | None = None,
        keys: Callable[[Context], KeyProvider] | None = None,
    ) -> None:
        self._given, self._keys = plan, keys
        self._adversary, self._forge = adversary, forge
        self._boxes = boxes
        self._own = MemoryBoxes()

    def __call__(self, message: Message, context: Context, app: _App) -> Message:
        """Answer a message."""
        plan = self._given if isinstance(self._given, Plan) else self._given(context)
        home = context.node_config.get(HOME_KEY)
        boxes = self._boxes or (FolderBoxes(Path(str(home)) / "runs") if home else self._own)
        release = Release(plan=plan, adversary=self._adversary, forge=self._forge)
        node = _Node(plan=plan, release=release, context=context, app=app, keys=self._keys)
        with boxes.open(context.run_id, context.node_id) as box:
            try:
                reply = node.answer(message, box)
            except QflsecError as error:
                # what was got may be a number of the update: it stays here
                refused = Part(name=REFUSED, body=error.what.encode())
                reply = Letter(round=-1, parts=(refused,))
            if isinstance(reply, Message):
                return reply
            held: Held | None = box.get("held")
            content = write_letter(reply, lambda body: _sealed(held, reply.round, body))
        return Message(content, reply_to=message)


@dataclass(frozen=True, kw_only=True)
class _Node:
    """One message's work at a node.

    Attributes:
        plan: The plan.
        release: How it makes what it sends.
        context: The node's and the run's configuration.
        app: The app's own functions.
        keys: Makes the node's end of its quantum links.
    """

    plan: Plan
    release: Release
    context: Context
    app: _App
    keys: Callable[[Context], KeyProvider] | None

    def answer(self, message: Message, box: Box) -> Letter | Message:
        """The reply to a message: a letter, or the app's own answer where the server sends no letters.

        Raises:
            QflsecError: The client refuses.
        """
        held: Held | None = box.get("held")
        letter = read_letter(message.content, lambda index, body: _unsealed(held, index, body))
        if letter is None:
            return self._without_letters(message, box)
        greeting = letter.get(HELLO)
        if greeting is not None:
            return Letter(round=-1, parts=(self._greet(greeting, box),))
        if held is None:
            raise ProtocolAbort("the node knows of no session")
        if letter.round < 0 and any(part.name != LEARN for part in letter.parts):
            raise ProtocolAbort("before the first round there is nothing but greetings and announcements")
        talk = Conversation(
            held=held, plan=self.plan, release=self.release, call=lambda asked: self.app(asked, self.context)
        )
        return Letter(round=letter.round, parts=tuple(talk.answer(letter, message)))

    def _greet(self, greeting: bytes, box: Box) -> Part:
        """Open the session that the server names, once, and say who this node is."""
        said = unpack_named(greeting)
        if said.get("plan") != self.plan.digest:
            raise ProtocolAbort("the server follows another plan than this client")
        session = said.get("session", b"")
        check_session(session, self.context.run_id)
        held: Held | None = box.get("held")
        if held is None:
            layout = ArrayLayout.from_bytes(said.get("layout", b""))
            ends = None if self.keys is None else self.keys(self.context)
            held = box["held"] = hold(self.plan, layout, self._identity(), session, ends)
            box["identity"] = self._identity()
        if held.session != session:
            raise ProtocolAbort("the server opens a second session in one run")
        identity: Identity = box["identity"]
        proof = identity.sign(b"", hello_context(session, self.context.node_id))
        body = {"party": str(held.party).encode(), "proof": proof, "announced": held.announce()}
        return Part(name=HELLO, body=pack_named(body))

    def _identity(self) -> Identity:
        plan, index = self.plan, self.context.node_config.get(INDEX_KEY)
        if not isinstance(index, int) or not 0 <= index < plan.n_clients:
            raise ConfigError(
                f"the node's {INDEX_KEY!r} is no client of the plan",
                got=index,
                expected=f"0 to {plan.n_clients - 1}",
            )
        home, parties = self.context.node_config.get(HOME_KEY), (*plan.clients, SERVER)
        if home:
            others = [party for party in parties if party != client(index)]
            return identity_of_home(Path(str(home)), client(index), others)
        if plan.secret_seed is None and secret_layers(plan.stack):
            raise ConfigError(
                "the node has no home for its keys",
                fix=f"start it with --node-config \"{INDEX_KEY}={index} {HOME_KEY}='DIR'\", or set a seed in the lab",
            )
        return seeded_identities(plan.secret_seed or 0, parties)[client(index)]

    def _without_letters(self, message: Message, box: Box) -> Message:
        """Under another strategy: its model in, the model with the update that may leave out."""
        if secret_layers(self.plan.stack):
            raise ProtocolAbort(
                "the plan seals updates, and the server's strategy is not qflsec.flower.ServerSide"
            )
        start = next(iter(message.content.array_records.values()), None)
        reply = self.app(message, self.context)
        if start is None or not message.metadata.message_type.startswith("train") or not reply.has_content():
            return reply
        layout = ArrayLayout.of(start)
        model = layout.vector(start)
        box["round"] = box.get("round", -1) + 1
        index = self.context.node_config.get(INDEX_KEY)
        made = self.release.update(layout, model, reply.content)
        if not self.plan.metrics:
            keep_counts(reply.content)
        held = box.setdefault(
            "held",
            Held(
                party=client(int(index or 0)),
                session=b"",
                stack=self.plan.ready(layout),
                layout=layout,
                states=[],
            ),
        )
        sent = self.release.shaped(held, box["round"], model, made)
        if not isinstance(sent, torch.Tensor) or sent.shape != made.shape:
            raise IncompatibleAttack("what is no update can be sent to qflsec.flower.ServerSide alone")
        name = next(iter(reply.content.array_records))
        whole = sent if self.plan.replies == "update" else model + sent
        reply.content[name] = layout.record(whole)
        return reply


def _sealed(held: Held | None, index: int, body: bytes) -> bytes:
    return body if held is None else held.seal(SERVER, index, body)


def _unsealed(held: Held | None, index: int, body: bytes) -> bytes:
    return body if held is None else held.unseal(SERVER, index, body)

"""Links of a Flower app under keys of ETSI GS QKD 014 entities, which are restarted or go meanwhile."""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from apps import AlteringGrid, client_app, first_model, mean_of, node, plan_of
from flwr.app import Context, Message

from qflsec.base import IncompatibleStack
from qflsec.federation import Stack
from qflsec.flower.arrays import ArrayLayout
from qflsec.flower.carried import carried
from qflsec.flower.client import ClientSide
from qflsec.flower.homes import make_homes
from qflsec.flower.strategy import ServerSide
from qflsec.protocols.keystore import (
    Etsi014Client,
    Etsi014Provider,
    KeyLink,
    KeyStore,
    Kme,
    KmeLimits,
    KmeServer,
    QkdKey,
    StoreProvider,
)
from qflsec.protocols.links import HybridLink, OneTimePadLink, QkdAesLink, QkdLink, QkdPolicyLink
from qflsec.protocols.secagg import SecAgg
from qflsec.threat import SERVER, Party, Traffic, client

N, ROUNDS, KEYS = 3, 3, 12
LIMITS = KmeLimits(key_size=256, min_key_size=256, max_key_size=256, max_key_per_request=8)
HELPERS = Path(__file__).parents[1] / "protocols" / "keystore" / "conftest.py"


def keystore_helpers() -> Any:
    """What the tests of key management have for keys and certificates."""
    spec = importlib.util.spec_from_file_location("keystore_helpers", HELPERS)
    assert spec is not None
    assert spec.loader is not None
    helpers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(helpers)
    return helpers


class Noted(Etsi014Provider):
    """A party's end, and the keys that it got."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.drawn: list[UUID] = []
        self.fetched: list[UUID] = []

    def draw(self, peer: Party, n_bits: int) -> tuple[QkdKey, ...]:
        keys = super().draw(peer, n_bits)
        self.drawn += [key.key_id for key in keys]
        return keys

    def fetch(self, peer: Party, key_ids: Sequence[UUID]) -> tuple[QkdKey, ...]:
        keys = super().fetch(peer, key_ids)
        self.fetched += [key.key_id for key in keys]
        return keys


class Entities:
    """An entity for each client and one for the server, each with a store of its own."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        helpers = keystore_helpers()
        self._folder, self._stack = folder, stack
        authority = helpers.Authority(folder)
        self.names = [f"client-{i}" for i in range(N)]
        self.tls = {name: authority.issue(name) for name in (*self.names, "server")}
        self._own = authority.issue("kme", server=True)
        for name in self.names:
            for link in (KeyLink(master=name, slave="server"), KeyLink(master="server", slave=name)):
                keys = helpers.made_keys(KEYS)
                for owner in (name, "server"):
                    self._store(owner).add(
                        keys, link=link, role="master" if owner == link.master else "slave"
                    )
        self.running: dict[str, KmeServer] = {}
        self.ports: dict[str, int] = {}
        for name in (*self.names, "server"):
            self.start(name)

    def _store(self, name: str) -> KeyStore:
        return KeyStore(self._folder / f"{name}.keys", capacity=200)

    def start(self, name: str) -> None:
        """With what its store on the disk says: nothing else outlives an entity."""
        others = self.names if name == "server" else ["server"]
        kme = Kme(
            name=f"KME of {name}",
            store=self._store(name),
            local=frozenset({name}),
            remote=dict.fromkeys(others, "KME"),
            limits=LIMITS,
        )
        server = KmeServer(kme, self._own, port=self.ports.get(name, 0))
        server.__enter__()
        self.running[name], self.ports[name] = server, server.port
        self._stack.callback(self.stop, name)

    def stop(self, name: str) -> None:
        running = self.running.pop(name, None)
        if running is not None:
            running.__exit__(None, None, None)

    def end(self, party: Party) -> Noted:
        name = "server" if party == SERVER else f"client-{party.index}"
        return Noted(Etsi014Client("127.0.0.1", self.ports[name], self.tls[name]), party)


def play(folder: Path, meanwhile: Any) -> tuple[float, ServerSide, list[Noted]]:
    """Three rounds; ``meanwhile(entities, round, parts, node)`` is called before a node gets a message."""
    with ExitStack() as stack:
        entities = Entities(folder, stack)
        ends = {client(i): entities.end(client(i)) for i in range(N)}

        def keys(context: Context) -> Noted:
            return ends[client(context.node_id - node(0))]

        # new keys for every message, so that each needs both entities
        plan = plan_of(QkdAesLink(rekey_messages=1), n=N, rounds=ROUNDS)
        side = ServerSide(plan, keys=(own := entities.end(SERVER)))

        class Grid(AlteringGrid):
            def answer(self, index: int, message: Message) -> Message | None:
                meanwhile(entities, len(side.records), index)
                return super().answer(index, message)

        grid = Grid(client_app(ClientSide(plan, keys=keys)), N, lambda _, __, reply: reply)
        result = side.start(grid, first_model(), num_rounds=ROUNDS)
        return float(result.arrays["b"].numpy()) - 1, side, [own, *ends.values()]


def test_entities_that_are_restarted_between_messages_give_no_key_twice(tmp_path: Path) -> None:
    def restart(entities: Entities, _: int, index: int) -> None:
        if index != 1:
            return
        for name in ("client-1", "server"):
            entities.stop(name)
            entities.start(name)

    moved, side, ends = play(tmp_path, restart)
    assert side.outcome == "completed"
    assert [record.ids for record in side.records] == [(0, 1, 2)] * ROUNDS
    assert moved == pytest.approx(ROUNDS * mean_of(range(N)), abs=1e-5)
    drawn = [key for end in ends for key in end.drawn]
    fetched = [key for end in ends for key in end.fetched]
    assert len(drawn) == 2 * N * ROUNDS  # a letter each way for each client and round
    assert len(set(drawn)) == len(drawn)
    assert sorted(fetched) == sorted(drawn)


def test_a_client_whose_entity_does_not_answer_is_out_and_the_rest_go_on(tmp_path: Path) -> None:
    """It cannot open what it was sent; a link that missed a message stays closed, as on any such link."""

    def down(entities: Entities, rounds: int, _: int) -> None:
        if rounds == 1:
            entities.stop("client-1")
        elif rounds == 2 and "client-1" not in entities.running:
            entities.start("client-1")

    _, side, _ = play(tmp_path, down)
    assert [record.ids for record in side.records] == [(0, 1, 2), (0, 2), (0, 2)]
    assert "no answer from the KME" in side.records[1].missing[1]
    assert "preceded by one that is missing" in side.records[2].missing[1]


def test_a_server_whose_entity_does_not_answer_says_so(tmp_path: Path) -> None:
    def down(entities: Entities, _: int, __: int) -> None:
        entities.stop("server")

    _, side, _ = play(tmp_path, down)
    assert [record.ids for record in side.records] == [()] * ROUNDS
    said = side.records[0].missing
    assert all(
        "nothing could be sealed for it" in said[i] or "no answer from the KME" in said[i] for i in range(N)
    )


def test_an_end_that_is_put_away_holds_no_key(tmp_path: Path) -> None:
    with ExitStack() as stack:
        entities = Entities(tmp_path, stack)
        end, other = entities.end(client(0)), entities.end(SERVER)
        first = end.draw(SERVER, 256)
        kept = pickle.dumps(end)
        assert first[0].material not in kept
        second = pickle.loads(kept).draw(SERVER, 256)
        assert other.fetch(client(0), [second[0].key_id]) == second
        assert first[0].key_id != second[0].key_id


def own_store(folder: Path, name: str) -> KeyStore:
    return KeyStore(folder / f"{name}.keys", capacity=400)


def fill(folder: Path, n: int, keys: int) -> None:
    """Keys in the stores of both ends of every link, in both directions."""
    helpers = keystore_helpers()
    names = [f"client-{i}" for i in range(n)]
    for name in names:
        for link in (KeyLink(master=name, slave="server"), KeyLink(master="server", slave=name)):
            made = helpers.made_keys(keys)
            for owner in (name, "server"):
                own_store(folder, owner).add(
                    made, link=link, role="master" if owner == link.master else "slave"
                )


@pytest.mark.parametrize(
    ("link", "layers", "keys"),
    [
        (OneTimePadLink(), (), 60),
        (QkdPolicyLink(), (), 60),
        (HybridLink(rekey_messages=1), (), 10),
        (OneTimePadLink(), (SecAgg(),), 190),
    ],
    ids=["otp", "policy", "hybrid", "otp over secagg"],
)
def test_every_quantum_link_carries_letters_whose_states_lie_in_files(
    tmp_path: Path, link: QkdLink, layers: Any, keys: int
) -> None:
    """Keys from stores, states put away after every message: no letter is readable, and no more key goes than was planned."""
    n = 3
    tmp_path.chmod(0o700)
    fill(tmp_path, n, keys)
    homes = make_homes(tmp_path / "homes", n)
    plan = plan_of(*layers, link, n=n, rounds=2)

    def end(party: Party) -> StoreProvider:
        return StoreProvider.in_directory(tmp_path, party, key_bits=256, allow_seeded=False)

    side = ServerSide(plan, keys=end(SERVER), home=homes[SERVER])
    clear: list[int] = []
    lie = {"altered": 0}

    def alter(index: int, asked: Message, reply: Message) -> Message:
        for message in (asked, reply):
            record = message.content.config_records["qflsec"]
            if record["round"] >= 0:
                clear.extend(name in record["letter"] for name in (b"train", b"update", b"ask:"))
        if index == 1 and reply.content["qflsec"]["round"] == 1:
            lie["altered"] += 1
            body = bytearray(reply.content["qflsec"]["letter"])
            body[-1] ^= 1
            reply.content["qflsec"]["letter"] = bytes(body)
        return reply

    app = client_app(ClientSide(plan, keys=lambda context: end(client(context.node_id - node(0)))))
    grid = AlteringGrid(app, n, alter, nodes=lambda i: {"qflsec-home": str(homes[client(i)])})
    result = side.start(grid, first_model(), num_rounds=2)
    assert clear
    assert not any(clear)
    assert lie["altered"] == 1
    first, second = side.records
    assert first.ids == (0, 1, 2)
    if layers:  # of three clients all must stay
        assert "too few clients are left" in second.lost
        moved = mean_of((0, 1, 2))
    else:
        assert second.ids == (0, 2)
        assert "client:1" in second.missing[1]
        moved = mean_of((0, 1, 2)) + mean_of((0, 2))
    assert float(result.arrays["b"].numpy()) - 1 == pytest.approx(moved, abs=1e-4)
    layout = ArrayLayout.of(first_model())
    planned = link.planned_bits(carried(plan, layout, plan.ready(layout))[link])
    for i in range(n):
        up = KeyLink(master=f"client-{i}", slave="server")
        left = own_store(tmp_path, f"client-{i}").bits_left(up, bits=256)
        assert 0 < 256 * keys - left <= planned
    assert {link.card.name} <= {row.layer for row in side._records.ledger()}


def test_a_pad_that_cannot_cover_what_letters_take_is_refused_beforehand() -> None:
    """Letters are larger than the messages of the training loop, for which this budget would do."""
    link = OneTimePadLink(budget_bits=2048)
    plan = plan_of(link, n=3, rounds=2)
    layout = ArrayLayout.of(first_model())
    link.check_traffic(Traffic.of_rounds(2, each=Traffic().then(up={"update": 64}, down={"model": 56})))
    with pytest.raises(IncompatibleStack, match="has too little key for the run"):
        carried(plan, layout, plan.ready(layout))
    asking = replace(plan, evaluate=True, metrics=True)
    plain = OneTimePadLink()
    more = carried(
        replace(asking, stack=Stack.from_layers("t", [plain])), layout, Stack.from_layers("t", [plain])
    )
    less = carried(
        replace(plan, stack=Stack.from_layers("t", [plain])), layout, Stack.from_layers("t", [plain])
    )
    assert plain.planned_bits(more[plain]) > plain.planned_bits(less[plain]) + 8 * 2 * 2 * 1024

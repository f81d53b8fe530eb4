"""SKIP (draft-cisco-skip-02) beside ETSI GS QKD 014: the same store, keys in hexadecimal, each delivered once."""

from __future__ import annotations

import http.client
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from qflsec.base import ConfigError
from qflsec.protocols.keystore import KeyLink, KeyStore, Kme, KmeLimits, QkdKey, SkipServer

ALICE, BOB = "client-0", "server"
FORTH = KeyLink(master=ALICE, slave=BOB)
LOST = uuid.UUID(int=1).hex


class Systems:
    """Two systems with a link, each at its own key provider."""

    def __init__(self, directory: Path, authority: Any) -> None:
        self.stores = {name: KeyStore(directory / f"{name}.keys") for name in (ALICE, BOB)}
        self.tls = {name: authority.issue(name) for name in (ALICE, BOB, "stranger")}
        self.servers = {
            name: SkipServer(
                Kme(
                    name=f"KP-{name}", store=self.stores[name], local=frozenset({name}),
                    remote={peer: f"KP-{peer}"}, limits=KmeLimits(),
                ),
                authority.issue(f"KP-{name}", server=True),
            )
            for name, peer in ((ALICE, BOB), (BOB, ALICE))
        }  # fmt: skip

    def ask(self, at: str, path: str, *, method: str = "GET", who: str | None = None) -> tuple[int, Any]:
        context = self.tls[who or at].context(server=False)
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.servers[at].port, context=context, timeout=10
        )
        with closing(connection):
            connection.request(method, path)
            answer = connection.getresponse()
            assert answer.headers.get_content_type() == "application/json"
            return answer.status, json.loads(answer.read())

    def left(self) -> tuple[int, int]:
        return self.stores[ALICE].count(FORTH), self.stores[BOB].count(FORTH, role="slave")


@pytest.fixture
def systems(tmp_path: Path, authority: Any, make_keys: Callable[..., list[QkdKey]]) -> Iterator[Systems]:
    made = Systems(tmp_path, authority)
    keys = make_keys(3)
    made.stores[ALICE].add(keys, link=FORTH, role="master")
    made.stores[BOB].add(keys, link=FORTH, role="slave")
    with made.servers[ALICE], made.servers[BOB]:
        yield made


def test_both_systems_get_the_same_key_once(systems: Systems) -> None:
    assert systems.ask(ALICE, "/capabilities") == (
        200,
        {"entropy": False, "key": True, "algorithm": "QKD", "localSystemID": ALICE, "remoteSystemID": [BOB]},
    )
    for query in ("", "&size=256"):
        status, drawn = systems.ask(ALICE, f"/key?remoteSystemID={BOB}{query}")
        assert status == 200
        assert set(drawn) == {"keyId", "key"}
        assert len(bytes.fromhex(drawn["key"])) == 32
        path = f"/key/{drawn['keyId']}?remoteSystemID={ALICE}"
        assert systems.ask(BOB, path) == (200, drawn)
        assert systems.ask(BOB, path)[0] == 400
    assert systems.left() == (1, 1)


@pytest.mark.parametrize(
    ("method", "path", "who", "status"),
    [
        ("GET", "/key", ALICE, 400),
        ("GET", "/key?remoteSystemID=nobody", ALICE, 400),
        ("GET", f"/key?remoteSystemID={BOB}&size=128", ALICE, 400),
        ("GET", f"/key?remoteSystemID={BOB}&size=-256", ALICE, 400),
        ("GET", f"/key?remoteSystemID={BOB}&size=", ALICE, 400),
        ("GET", f"/key?remoteSystemID={BOB}&size={'2' * 5_000}", ALICE, 400),
        ("GET", "x://[", ALICE, 400),
        ("GET", f"/key?remoteSystemID={BOB}&number=2", ALICE, 400),
        ("GET", f"/key?remoteSystemID={BOB}&remoteSystemID={BOB}", ALICE, 400),
        ("GET", f"/key/{LOST}?remoteSystemID={BOB}", ALICE, 400),
        ("GET", f"/key/first?remoteSystemID={BOB}", ALICE, 400),
        ("GET", "/entropy", ALICE, 503),
        ("GET", "/", ALICE, 404),
        ("GET", "/keys", ALICE, 404),
        ("GET", "/capabilities/more", ALICE, 404),
        ("GET", f"/api/v1/keys/{BOB}/status", ALICE, 404),
        ("POST", f"/key?remoteSystemID={BOB}", ALICE, 405),
        ("DELETE", f"/key/{LOST}?remoteSystemID={BOB}", ALICE, 405),
        ("PUT", "/capabilities", ALICE, 405),
        ("GET", "/capabilities", "stranger", 401),
        ("GET", f"/key?remoteSystemID={BOB}", "stranger", 401),
    ],
)
def test_what_is_refused_spends_nothing(
    systems: Systems, method: str, path: str, who: str, status: int
) -> None:
    found, body = systems.ask(ALICE, path, method=method, who=who)
    assert found == status
    assert body["message"]
    assert systems.left() == (3, 3)


def test_no_key_is_503_and_stores_with_seeded_keys_are_refused(systems: Systems, tmp_path: Path) -> None:
    for _ in range(3):
        assert systems.ask(ALICE, f"/key?remoteSystemID={BOB}")[0] == 200
    assert systems.ask(ALICE, f"/key?remoteSystemID={BOB}")[0] == 503
    kme = Kme(
        name="K", store=KeyStore(tmp_path / "lab.keys", allow_seeded=True), local=frozenset(), remote={}
    )
    with pytest.raises(ConfigError, match="cannot mark seeded keys"):
        SkipServer(kme, systems.tls[ALICE])

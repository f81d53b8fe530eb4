"""ETSI GS QKD 014 over mutual TLS: our server with our client, with a client of others, and with bad ones."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qflsec.base import BackendError, ConfigError, ProtocolAbort
from qflsec.protocols.keystore import (
    Etsi014Client,
    Etsi014Provider,
    KeyLink,
    Kme,
    KmeBadRequest,
    KmeError,
    KmeLimits,
    KmeServer,
    KmeUnauthorized,
    KmeUnavailable,
    QkdKey,
    SeededKeysRefused,
    TlsFiles,
)
from qflsec.threat import SERVER, client

Maker = Callable[..., list[QkdKey]]
Site = Any
ALICE, BOB, CAROL = "client-0", "server", "client-1"
FORTH = KeyLink(master=ALICE, slave=BOB)
LIMITS = KmeLimits(key_size=256, min_key_size=256, max_key_size=256, max_key_per_request=8)


def test_master_and_slave_get_the_same_keys_once(site: Site, make_keys: Maker) -> None:
    keys = make_keys(6)
    site.fill(keys)
    alice, bob = site.at("A", ALICE), site.at("B", BOB)
    status = alice.status(BOB)
    assert (status.source_kme, status.target_kme) == ("KME-A", "KME-B")
    assert (status.master_sae, status.slave_sae) == (ALICE, BOB)
    assert (status.stored_key_count, status.max_key_count) == (6, 200)
    assert status.limits == LIMITS
    drawn = alice.enc_keys(BOB, number=4)
    assert list(drawn) == keys[:4]
    assert alice.status(BOB).stored_key_count == 2
    ids = [key.key_id for key in drawn]
    assert bob.dec_keys(ALICE, ids[:3]) == drawn[:3]
    for again in (ids[:3], ids[2:]):  # delivered, or delivered in part
        with pytest.raises(KmeBadRequest, match="not found on KME; got HTTP 400"):
            bob.dec_keys(ALICE, again)
    assert bob.dec_keys(ALICE, ids[3:]) == drawn[3:]


@pytest.mark.parametrize(("number", "size"), [(1, 256), (2, 128), (3, 256)])
def test_a_client_takes_no_other_keys_than_it_asked_for(
    site: Site, make_keys: Maker, monkeypatch: pytest.MonkeyPatch, number: int, size: int
) -> None:
    """An entity that delivers two keys of 256 bits, whatever it is asked for."""
    two = json.dumps(
        {
            "keys": [
                {"key_ID": str(k.key_id), "key": base64.b64encode(k.material).decode()} for k in make_keys(2)
            ]
        }
    )
    alice = site.at("A", ALICE)
    monkeypatch.setattr(alice, "_ask", lambda *_: json.loads(two))
    assert len(alice.enc_keys(BOB, number=2, size=256)) == 2
    with pytest.raises(KmeError, match="other keys than were asked for"):
        alice.enc_keys(BOB, number=number, size=size)


def test_what_is_advertised_can_be_served(site: Site, make_keys: Maker) -> None:
    """Thirty keys of 256 bits serve no request for 128 or 512, so no size but 256 is advertised."""
    site.fill([*make_keys(30), *make_keys(2, bits=512)])
    alice = site.at("A", ALICE)
    limits = alice.status(BOB).limits
    assert alice.status(BOB).stored_key_count == 30
    for size in range(limits.min_key_size, limits.max_key_size + 1, 8):
        assert alice.enc_keys(BOB, size=size)[0].bits == size
    for size in (0, 100, 128, 248, 264, 512):
        with pytest.raises(KmeBadRequest, match="multiple of 8" if size == 100 else "256 to 256 bits"):
            alice.enc_keys(BOB, size=size)
    for number in (0, -1, 9):
        with pytest.raises(KmeBadRequest, match="number shall be 1 to 8"):
            alice.enc_keys(BOB, number=number)
    assert site.stores["A"].count(FORTH) == 31
    for wide in ({"min_key_size": 64}, {"max_key_size": 512}):
        with pytest.raises(ConfigError, match="keys as they were stocked"):
            Kme(name="K", store=site.stores["A"], local=frozenset(), remote={}, limits=KmeLimits(**wide))


def test_who_may_ask_for_what(site: Site, make_keys: Maker) -> None:
    keys = make_keys(3)
    site.fill(keys)
    ids = [key.key_id for key in keys]
    with pytest.raises(KmeUnauthorized, match="does not serve the SAE of the certificate"):
        site.at("A", "stranger").enc_keys(BOB)
    with pytest.raises(KmeUnauthorized):
        site.at("A", BOB).status(ALICE)  # BOB is not at this entity
    with pytest.raises(KmeUnauthorized, match="not for this SAE; got HTTP 401"):
        site.at("B", CAROL).dec_keys(ALICE, ids)
    with pytest.raises(KmeBadRequest, match="unknown SAE_ID"):
        site.at("A", ALICE).enc_keys("nobody")
    with pytest.raises(KmeBadRequest, match="not found"):
        site.at("B", BOB).dec_keys(ALICE, [uuid.uuid4()])
    with pytest.raises(KmeUnavailable):
        site.at("B", BOB).enc_keys(ALICE)  # no keys in this direction
    assert site.stores["A"].count(FORTH) == site.stores["B"].count(FORTH, role="slave") == 3


def refused_by_tls(port: int, context: ssl.SSLContext) -> bool:
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)
    try:
        connection.request("GET", f"/api/v1/keys/{BOB}/status")
        connection.getresponse().read()
    except (ssl.SSLError, ConnectionError, http.client.HTTPException):
        return True
    finally:
        connection.close()
    return False


def test_tls_is_mutual(site: Site, make_keys: Maker, authority: Any, tmp_path: Path) -> None:
    site.fill(make_keys(1))
    nameless = ssl.create_default_context(cafile=str(authority.path))
    assert refused_by_tls(site.a.port, nameless)
    (tmp_path / "elsewhere").mkdir()
    foreign = type(authority)(tmp_path / "elsewhere", "foreign").issue(ALICE)
    assert refused_by_tls(site.a.port, replace(foreign, authority=authority.path).context(server=False))
    assert not refused_by_tls(site.a.port, site.tls[ALICE].context(server=False))
    mistrusting = replace(site.tls[ALICE], authority=tmp_path / "elsewhere" / "foreign.pem")
    with pytest.raises(KmeUnavailable, match="certificate verify failed"):
        Etsi014Client("127.0.0.1", site.a.port, mistrusting).status(BOB)
    old = site.tls[ALICE].context(server=False)
    assert old.minimum_version == ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", site.a.port)) as plain:  # no TLS at all: nobody else waits
        assert site.at("A", ALICE).status(BOB).stored_key_count == 1
        plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert site.at("A", ALICE).status(BOB).stored_key_count == 1


def test_a_server_listens_on_this_machine_only(site: Site) -> None:
    assert site.a.host == "127.0.0.1"
    assert site.a._server.socket.getsockname()[0] == "127.0.0.1"


def test_get_requests(site: Site, make_keys: Maker) -> None:
    keys = make_keys(4)
    site.fill(keys)
    status, body = site.raw("A", ALICE, "GET", f"/api/v1/keys/{BOB}/enc_keys")
    assert status == 200
    assert body["keys"][0]["key_ID"] == str(keys[0].key_id)
    assert base64.b64decode(body["keys"][0]["key"]) == keys[0].material
    assert body["keys"][0]["key_extension"] == {"simulated_channel": True, "seeded": False}
    status, body = site.raw("A", ALICE, "GET", f"/api/v1/keys/{BOB}/enc_keys?number=2&size=256")
    assert (status, len(body["keys"])) == (200, 2)
    path = f"/api/v1/keys/{ALICE}/dec_keys?key_ID={keys[1].key_id}"
    assert site.raw("B", BOB, "GET", path)[1]["keys"][0]["key"] == base64.b64encode(keys[1].material).decode()
    assert site.raw("B", BOB, "GET", path)[0] == 400
    assert site.raw("A", ALICE, "GET", f"/api/v1/keys/{BOB}/enc_keys?number=two")[0] == 400
    with closing(site.open("A", ALICE)) as connection:
        connection.request("POST", f"/api/v1/keys/{BOB}/status")
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Allow"]) == (400, "GET")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "not JSON"),
        (b"[1]", "not an object"),
        (b'{"number": "1"}', "number shall be an integer"),
        (b'{"number": true}', "number shall be an integer"),
        (b'{"size": 256.0}', "size shall be an integer"),
        (b'{"size": 257}', "size shall be a multiple of 8"),
        (b'{"numbers": 1}', "unknown parameters"),
        (b'{"additional_slave_SAE_IDs": ["client-1"]}', "max_SAE_ID_count is 0"),
        (
            b'{"extension_mandatory": [{"route": "direct"}]}',
            "not all extension_mandatory parameters are supported",
        ),
        (b'{"extension_mandatory": {"route": 1}}', "shall be an array"),
        (b'{"extension_optional": 3}', "shall be an array"),
        (b'{"a": "' + b"x" * 70_000 + b'"}', "at most 65536 bytes"),
    ],
)
def test_bad_requests_say_what_is_wrong_and_spend_nothing(
    site: Site, make_keys: Maker, body: bytes, message: str
) -> None:
    site.fill(make_keys(2))
    status, answer = site.raw("A", ALICE, "POST", f"/api/v1/keys/{BOB}/enc_keys", body)
    assert status == 400
    assert message in answer["message"]
    assert isinstance(answer.get("details", []), list)
    assert site.stores["A"].count(FORTH) == 2


def test_empty_lists_and_optional_extensions_are_fine(site: Site, make_keys: Maker) -> None:
    site.fill(make_keys(2))
    body = {
        "additional_slave_SAE_IDs": [],
        "extension_mandatory": [],
        "extension_optional": [{"x": {"y": 1}}],
    }
    assert site.raw("A", ALICE, "POST", f"/api/v1/keys/{BOB}/enc_keys", json.dumps(body).encode())[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"key_IDs": []},
        {"key_IDs": ["no object"]},
        {"key_IDs": [{"key_ID": "no uuid"}]},
        {"key_IDs": [{"key_ID": None}]},
        {"key_IDs": [{"key_ID": str(uuid.UUID(int=1))}] * 2},
        {"key_IDs": [{"key_ID": str(uuid.UUID(int=i))} for i in range(9)]},
    ],
)
def test_bad_requests_for_known_keys(site: Site, make_keys: Maker, body: Any) -> None:
    site.fill(make_keys(1))
    raw = json.dumps(body).encode()
    assert site.raw("B", BOB, "POST", f"/api/v1/keys/{ALICE}/dec_keys", raw)[0] == 400
    assert site.stores["B"].count(FORTH, role="slave") == 1


def test_other_paths(site: Site) -> None:
    for method, path in (
        ("GET", "/"),
        ("GET", "/api/v2/keys/x/status"),
        ("POST", f"/api/v1/keys/{BOB}/status"),
    ):
        assert site.raw("A", ALICE, method, path)[0] == 400


def test_a_refused_request_does_not_garble_the_next_one(site: Site, make_keys: Maker) -> None:
    """A body that was never read must not be taken for a request."""
    site.fill(make_keys(1))
    context = site.tls["stranger"].context(server=False)
    connection = http.client.HTTPSConnection("127.0.0.1", site.a.port, context=context, timeout=10)
    smuggled = f"GET /api/v1/keys/{BOB}/status HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    connection.request("POST", f"/api/v1/keys/{BOB}/enc_keys", body=smuggled)
    answer = connection.getresponse()
    answer.read()
    assert (answer.status, answer.headers["Connection"]) == (401, "close")
    connection.close()


def test_a_fault_of_the_store_is_a_503(site: Site, make_keys: Maker) -> None:
    site.fill(make_keys(1))
    path = site.stores["A"]._path
    raw = path.read_bytes()
    path.write_bytes(b"x" * len(raw))
    with pytest.raises(KmeUnavailable, match=r"the KME has a fault: the key store .* is damaged"):
        site.at("A", ALICE).enc_keys(BOB)


def test_concurrent_clients_never_get_the_same_key(site: Site, make_keys: Maker) -> None:
    site.fill(make_keys(40))

    def ask(_: int) -> list[str]:
        alice, got = site.at("A", ALICE), []
        while True:
            try:
                got += [key.material.hex() for key in alice.enc_keys(BOB, number=2)]
            except KmeUnavailable:
                return got

    with ThreadPoolExecutor(4) as pool:
        shares = list(pool.map(ask, range(4)))
    got = [material for share in shares for material in share]
    assert len(got) == len(set(got)) == 40
    assert sum(bool(share) for share in shares) >= 2


def test_the_providers_of_two_parties_over_the_interface(site: Site, make_keys: Maker) -> None:
    site.fill(make_keys(20))
    alice = Etsi014Provider(site.at("A", ALICE), client(0))
    bob = Etsi014Provider(site.at("B", BOB), SERVER)
    keys = alice.draw(SERVER, 256 * 11 - 5)  # more than one request may ask for
    assert len(keys) == 11
    assert bob.fetch(client(0), [key.key_id for key in keys]) == keys
    assert alice.bits_left(SERVER) == 9 * 256
    with pytest.raises(
        ProtocolAbort, match=r"from client:0 to server .* got 2304 bits left; expected 2305 bits"
    ):
        alice.draw(SERVER, 2305)
    with pytest.raises(ProtocolAbort, match="names a key that cannot be used"):
        bob.fetch(client(0), [keys[0].key_id])
    assert alice.bits_left(SERVER) == 9 * 256


def test_seeded_keys_are_refused_outside_the_lab(site: Site, make_keys: Maker) -> None:
    site.fill(make_keys(2, seeded=True))
    with pytest.raises(SeededKeysRefused):
        Etsi014Provider(site.at("A", ALICE), client(0)).draw(SERVER, 8)
    assert Etsi014Provider(site.at("A", ALICE), client(0), allow_seeded=True).draw(SERVER, 8)[0].seeded


def test_no_answer_and_impossible_settings(site: Site, tmp_path: Path) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        with pytest.raises(KmeUnavailable, match="no answer from the KME"):
            Etsi014Client("127.0.0.1", reserved.getsockname()[1], site.tls[ALICE]).status(BOB)
        kme = site.a._server.kme
        with pytest.raises(BackendError, match="cannot listen"):
            KmeServer(kme, site.tls[ALICE], port=reserved.getsockname()[1])
    missing = TlsFiles(certificate=tmp_path / "no", key=tmp_path / "no", authority=tmp_path / "no")
    with pytest.raises(ConfigError, match="cannot use the TLS files"):
        Etsi014Client("127.0.0.1", 1, missing)
    for bad in ({"key_size": 12}, {"min_key_size": 512}, {"max_key_size": 128}, {"max_key_per_request": 0}):
        with pytest.raises(ConfigError):
            KmeLimits(**bad)


@pytest.mark.parametrize(
    "answer",
    [b"<html>", b"[]", b"[" * 100_000, b'{"keys": [{"key_ID": "x", "key": "AAAA"}]}', b'{"keys": 1}'],
)
def test_an_entity_that_answers_nonsense(monkeypatch: pytest.MonkeyPatch, site: Site, answer: bytes) -> None:
    class Response:
        status = 200

        def read(self) -> bytes:
            return answer

    monkeypatch.setattr(http.client.HTTPSConnection, "request", lambda *_args, **_kwargs: None)
    monkeypatch.setattr(http.client.HTTPSConnection, "getresponse", lambda _self: Response())
    with pytest.raises(KmeError):
        site.at("A", ALICE).enc_keys(BOB)
    with pytest.raises(KmeError):
        site.at("A", ALICE).status(BOB)


def test_interoperability_with_a_client_of_others(site: Site, make_keys: Maker) -> None:
    """etsi-qkd-014-client 0.9.0 (LIP6, Sorbonne Université) speaks to our server over mutual TLS."""
    others = pytest.importorskip("etsi_qkd_014_client")
    keys = make_keys(5)
    site.fill(keys)

    def theirs(side: str, name: str) -> Any:
        tls, port = site.tls[name], {"A": site.a, "B": site.b}[side].port
        return others.QKD014Client(
            f"127.0.0.1:{port}", str(tls.certificate), str(tls.key), str(tls.authority)
        )

    alice, bob = theirs("A", ALICE), theirs("B", BOB)
    code, status = alice.get_status(BOB)
    assert code == 200
    assert (status.source_kme_id, status.target_kme_id) == ("KME-A", "KME-B")
    assert (status.key_size, status.stored_key_count, status.max_sae_id_count) == (256, 5, 0)
    code, single = alice.get_key(BOB)  # GET
    assert code == 200
    code, more = alice.get_key(BOB, number=3, size=256)  # POST
    assert code == 200
    drawn = [*single.keys, *more.keys]
    assert [base64.b64decode(key.key) for key in drawn] == [key.material for key in keys[:4]]
    code, fetched = bob.get_key_with_key_IDs(ALICE, [key.key_id for key in drawn])
    assert code == 200
    assert [(key.key_id, key.key) for key in fetched.keys] == [(key.key_id, key.key) for key in drawn]
    code, error = bob.get_key_with_key_IDs(ALICE, [drawn[0].key_id])
    assert (code, error.message) == (400, "one or more keys specified are not found on KME")
    assert alice.get_key(BOB, size=100)[0] == 400
    assert alice.get_key(BOB, additional_slave_sae_ids=["client-1"])[0] == 400
    code, error = alice.get_key(BOB, extension_mandatory=[{"route": "direct"}])
    assert code == 400
    assert error.details == [{"extension_mandatory_unsupported": "route is not supported"}]
    assert alice.get_key(BOB, number=2)[0] == 503
    assert theirs("A", "stranger").get_key(BOB)[0] == 401
    assert theirs("B", CAROL).get_key_with_key_IDs(ALICE, [str(keys[4].key_id)])[0] == 401
    assert alice.get_status("nobody")[0] == 400

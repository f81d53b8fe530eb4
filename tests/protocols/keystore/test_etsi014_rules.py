"""The rules of ETSI GS QKD 014 V1.1.1 as one table: a request, its answer, and how many keys it may spend.

The answers come from the standard's clauses 5 and 6, written down by hand; nothing in the table is computed by
the entity under test. Every answer is checked for what holds of all: JSON, its content type, an error data
format with a message, a status that the standard knows, and keys spent only by a success.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from qflsec.protocols.keystore import KeyLink, QkdKey

ALICE, BOB, CAROL = "client-0", "server", "client-1"
FORTH = KeyLink(master=ALICE, slave=BOB)
STATUS, ENC, DEC = (
    f"/api/v1/keys/{BOB}/status",
    f"/api/v1/keys/{BOB}/enc_keys",
    f"/api/v1/keys/{ALICE}/dec_keys",
)
HERE, LOST = "a key that is there", uuid.UUID(int=1)
SIZE, MOST = 256, 8
STATUS_FIELDS = {
    "source_KME_ID": "KME-A",
    "target_KME_ID": "KME-B",
    "master_SAE_ID": ALICE,
    "slave_SAE_ID": BOB,
    "key_size": SIZE,
    "max_key_count": 200,
    "max_key_per_request": MOST,
    "max_key_size": SIZE,
    "min_key_size": SIZE,
    "max_SAE_ID_count": 0,
}


def is_status(body: Any, _: list[QkdKey]) -> None:
    stored = body.pop("stored_key_count")
    assert body == STATUS_FIELDS
    assert type(stored) is int
    assert stored >= 0


def is_container(body: Any, _: list[QkdKey]) -> None:
    for entry in body["keys"]:
        assert str(uuid.UUID(entry["key_ID"])) == entry["key_ID"]
        assert 8 * len(base64.b64decode(entry["key"], validate=True)) == SIZE
        assert isinstance(entry["key_extension"], dict)
    assert len({entry["key_ID"] for entry in body["keys"]}) == len(body["keys"])


def is_what_was_asked(body: Any, asked: list[QkdKey]) -> None:
    is_container(body, asked)
    assert [uuid.UUID(entry["key_ID"]) for entry in body["keys"]] == [key.key_id for key in asked]
    assert [base64.b64decode(entry["key"]) for entry in body["keys"]] == [key.material for key in asked]


def says(text: str) -> Callable[[Any, list[QkdKey]], None]:
    def check(body: Any, _: list[QkdKey]) -> None:
        assert text in body["message"]

    return check


def says_something(body: Any, _: list[QkdKey]) -> None:
    assert body["message"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One request and what the standard says of it."""

    name: str
    method: str = "POST"
    path: str = ENC
    caller: str = ALICE
    body: Any = None
    raw: bytes | Iterable[bytes] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 400
    spends: int = 0
    side: Literal["A", "B"] = "A"
    check: Callable[[Any, list[QkdKey]], None] = says_something


def enc(name: str, body: Any, *, ok: int = 0, **more: Any) -> Rule:
    """A POST for new keys, which is served ``ok`` of them, or refused."""
    served: dict[str, Any] = {"status": 200, "spends": ok, "check": is_container} if ok else {}
    return Rule(name=name, body=body, **{**served, **more})


def get(name: str, query: str, *, ok: int = 0, **more: Any) -> Rule:
    return enc(name, None, ok=ok, **{"method": "GET", "path": ENC + query, **more})


def dec(name: str, body: Any, *, ok: int = 0, **more: Any) -> Rule:
    """A POST for known keys."""
    served: dict[str, Any] = {"status": 200, "spends": ok, "check": is_what_was_asked} if ok else {}
    return Rule(**{"name": name, "body": body, "path": DEC, "caller": BOB, "side": "B", **served, **more})


def other(name: str, method: str, path: str, **more: Any) -> Rule:
    return Rule(name=name, method=method, path=path, **more)


ONE = {"key_IDs": [{"key_ID": HERE}]}
RULES = (
    # 5.1 Get status
    other("status", "GET", STATUS, status=200, check=is_status),
    other("status of an unknown slave", "GET", "/api/v1/keys/nobody/status", check=says("unknown SAE_ID")),
    other("status by a stranger", "GET", STATUS, caller="stranger", status=401),
    other("status by an application of the other entity", "GET", STATUS, caller=BOB, status=401),
    other("status has no POST", "POST", STATUS, body={}, check=says("no method POST")),
    # 5.2 Get key, by GET
    get("GET without parameters: one key of the default size", "", ok=1),
    get("GET with a number", "?number=3", ok=3),
    get("GET with a size", f"?size={SIZE}", ok=1),
    get("GET with both", f"?number=2&size={SIZE}", ok=2),
    get("GET with a number that is none", "?number=two"),
    get("GET with an empty number", "?number="),
    get("GET with an unknown parameter", "?numbers=2"),
    get("GET with a size that is no multiple of 8", "?size=257", check=says("multiple of 8")),
    # 5.2 Get key, by POST: the key request data format (6.2)
    enc("POST of an empty object: the defaults", {}, ok=1),
    enc("POST without a body: the defaults", None, raw=b"", ok=1),
    enc("number", {"number": 2}, ok=2),
    enc("the most keys of one request", {"number": MOST}, ok=MOST),
    enc("more than that", {"number": MOST + 1}, check=says("1 to 8")),
    enc("no key", {"number": 0}),
    enc("fewer than none", {"number": -1}),
    enc("a number as text", {"number": "1"}, check=says("integer")),
    enc("a number as truth", {"number": True}, check=says("integer")),
    enc("a number with a fraction", {"number": 1.5}, check=says("integer")),
    enc("number null: absent", {"number": None}, ok=1),
    enc("the advertised size", {"size": SIZE}, ok=1),
    enc("size null: absent", {"size": None}, ok=1),
    enc("below the advertised sizes", {"size": SIZE - 8}, check=says("256 to 256")),
    enc("above them", {"size": SIZE + 8}, check=says("256 to 256")),
    enc("a size that is no multiple of 8", {"size": 257}, check=says("multiple of 8")),
    enc("no bits", {"size": 0}),
    enc("a size as text", {"size": "256"}, check=says("integer")),
    enc("an empty list of more slaves", {"additional_slave_SAE_IDs": []}, ok=1),
    enc("more slaves null: absent", {"additional_slave_SAE_IDs": None}, ok=1),
    enc("more slaves than max_SAE_ID_count", {"additional_slave_SAE_IDs": [CAROL]}, check=says("is 0")),
    enc("more slaves as text", {"additional_slave_SAE_IDs": CAROL}, check=says("array")),
    enc("more slaves as empty text", {"additional_slave_SAE_IDs": ""}, check=says("array")),
    enc("an unknown mandatory extension", {"extension_mandatory": [{"route": 1}]}, check=says("not all")),
    enc("no mandatory extension", {"extension_mandatory": []}, ok=1),
    enc("a mandatory extension that is no list", {"extension_mandatory": {}}, check=says("array")),
    enc("an unknown optional extension is ignored", {"extension_optional": [{"route": 1}]}, ok=1),
    enc("an optional extension that is no list", {"extension_optional": 3}, check=says("array")),
    enc("an unknown parameter", {"numbers": 1}, check=says("unknown parameters")),
    enc("no object", [1], check=says("not an object")),
    enc("no JSON", None, raw=b"{", check=says("not JSON")),
    enc("no text", None, raw=b"\xff\xfe", check=says("not JSON")),
    enc("JSON too deep to read", None, raw=b"[" * 60_000, check=says("not JSON")),
    enc("NaN, which JSON does not know", None, raw=b'{"number": NaN}', check=says("not JSON")),
    enc("infinity, which JSON does not know", None, raw=b'{"size": -Infinity}', check=says("not JSON")),
    enc("a number with too large an exponent", None, raw=b'{"size": 1e999}', check=says("shall be an integer")),
    enc("a number with too many digits", None, raw=b'{"size": ' + b"1" * 5_000 + b"}", check=says("not JSON")),
    enc("a long request", None, raw=b'{"a": "' + b"x" * 70_000 + b'"}', check=says("at most 65536 bytes")),
    enc("keys for an unknown slave", {}, path="/api/v1/keys/nobody/enc_keys", check=says("unknown SAE_ID")),
    enc("keys for itself", {}, path=f"/api/v1/keys/{ALICE}/enc_keys", check=says("unknown SAE_ID")),
    enc("keys for a stranger", {}, caller="stranger", status=401),
    enc("keys for a certificate without a name", {}, caller="nameless", status=401, check=says("names no SAE")),
    enc("no keys in this direction", {}, caller=BOB, side="B", path=f"/api/v1/keys/{ALICE}/enc_keys", status=503),
    # 5.3 Get key with key IDs (6.4)
    dec("a known key", ONE, ok=1),
    dec("three keys in the order asked", {"key_IDs": [{"key_ID": HERE}] * 3}, ok=3),
    dec("extensions of identifiers are ignored", {"key_IDs": [{"key_ID": HERE, "key_ID_extension": {}}]}, ok=1),
    dec("extensions of the request are ignored", {**ONE, "key_IDs_extension": {"a": 1}}, ok=1),
    dec("by GET", None, method="GET", path=f"{DEC}?key_ID={HERE}", ok=1),
    dec("by GET without an identifier", None, method="GET", path=DEC),
    dec("an unknown key", {"key_IDs": [{"key_ID": str(LOST)}]}, check=says("not found on KME")),
    dec("a known and an unknown key", {"key_IDs": [{"key_ID": HERE}, {"key_ID": str(LOST)}]}, check=says("not found")),
    dec("one key twice", {"key_IDs": [{"key_ID": str(LOST)}] * 2}, check=says("twice")),
    dec("no identifiers", {"key_IDs": []}),
    dec("no list of identifiers", {}),
    dec("identifiers null", {"key_IDs": None}),
    dec("identifiers without their objects", {"key_IDs": [str(LOST)]}),
    dec("an identifier that is no UUID", {"key_IDs": [{"key_ID": "first"}]}, check=says("UUID")),
    dec("an identifier null", {"key_IDs": [{"key_ID": None}]}, check=says("UUID")),
    dec("more identifiers than keys of one request", {"key_IDs": [{"key_ID": str(uuid.UUID(int=i))} for i in range(9)]}),
    dec("no object", [1], check=says("not an object")),
    dec("another slave's key", ONE, caller=CAROL, status=401),
    dec("a stranger", ONE, caller="stranger", status=401),
    dec("the master, who is not at this entity", ONE, caller=ALICE, status=401),
    dec("an unknown master", ONE, path="/api/v1/keys/nobody/dec_keys", check=says("unknown SAE_ID")),
    # methods and paths
    *(
        other(f"{method} {path.rpartition('/')[2]}", method, path, body={}, check=says(f"no method {method}"))
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW")
        for path in (STATUS, ENC)
    ),
    other("HEAD spends nothing", "HEAD", ENC),
    other("PUT by a stranger", "PUT", ENC, caller="stranger", body={}, status=401),
    other("the root", "GET", "/", check=says("no such resource")),
    other("another version", "GET", f"/api/v2/keys/{BOB}/status", check=says("no such resource")),
    other("another resource", "GET", f"/api/v1/keys/{BOB}/all_keys", check=says("no such resource")),
    other("a target that is no address", "GET", "x://[", check=says("no such resource")),
    other("a target that is no address, and a body", "POST", "x://[", body={}, check=says("no such resource")),
    other("a path too long", "GET", f"/{'x' * 70_000}"),
    other("headers too many", "GET", STATUS, headers={f"X-{i}": "x" for i in range(120)}),
    # bodies
    enc("in chunks", None, raw=[b'{"num', b'ber": 2}'], headers={"Transfer-Encoding": "chunked"}, ok=2),
    enc("in no chunk", None, raw=[], headers={"Transfer-Encoding": "chunked"}, ok=1),
    enc("in too many chunks", None, raw=[b"x" * 9_000] * 9, headers={"Transfer-Encoding": "chunked"}),
    enc("in an unknown coding", None, raw=b"x", headers={"Transfer-Encoding": "gzip, chunked"}),
    enc("in chunks and with a length", None, raw=b"0\r\n\r\n", headers={"Transfer-Encoding": "chunked", "Content-Length": "5"}),
    enc("with an impossible length", None, raw=b"{}", headers={"Content-Length": "+2"}),
    enc("with a length of many digits", None, raw=b"{}", headers={"Content-Length": "9" * 5_000}),
)  # fmt: skip


def prepared(rule: Rule, waiting: list[QkdKey]) -> tuple[str, bytes | Iterable[bytes] | None, list[QkdKey]]:
    """The rule's path and body with the identifiers of keys that are there, and these keys."""
    body = rule.raw if rule.body is None else json.dumps(rule.body).encode()
    named = rule.path.count(HERE) + (body.count(HERE.encode()) if isinstance(body, bytes) else 0)
    path, asked = rule.path, [waiting.pop() for _ in range(named)]
    for key in asked:
        path = path.replace(HERE, str(key.key_id), 1)
        if isinstance(body, bytes):
            body = body.replace(HERE.encode(), str(key.key_id).encode(), 1)
    return path, body, asked


def counts(site: Any) -> tuple[int, int]:
    stores = site.stores
    return stores["A"].count(FORTH), stores["B"].count(FORTH, role="slave")


@pytest.fixture(scope="module")
def waiting(shared_site: Any, make_keys: Callable[[int], list[QkdKey]]) -> list[QkdKey]:
    """Keys at both sides; those for the slave's requests are taken from the end."""
    keys = make_keys(100)
    shared_site.fill(keys)
    return list(keys)


def test_the_table_is_long_enough_and_names_each_rule_once() -> None:
    names = [(rule.path, rule.name) for rule in RULES]
    assert len(names) == len(set(names)) >= 90


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.name}")
def test_a_rule_of_etsi_gs_qkd_014(shared_site: Any, waiting: list[QkdKey], rule: Rule) -> None:
    path, body, asked = prepared(rule, waiting)
    before = counts(shared_site)
    with closing(shared_site.open(rule.side, rule.caller)) as connection:
        connection.request(rule.method, path, body=body, headers=rule.headers, encode_chunked=True)
        answer = connection.getresponse()
        raw = answer.read()
    assert answer.status == rule.status
    assert answer.headers.get_content_type() == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    if rule.method != "HEAD":
        found = json.loads(raw, parse_constant=pytest.fail)
        if rule.status != 200:
            assert isinstance(found["message"], str)
            assert all(isinstance(detail, dict) for detail in found.get("details", []))
            assert set(found) <= {"message", "details"}
        rule.check(found, asked)
    after = counts(shared_site)
    assert (before[0] - after[0]) + (before[1] - after[1]) == rule.spends


def test_a_second_request_for_the_same_key_is_refused(shared_site: Any, waiting: list[QkdKey]) -> None:
    path = f"{DEC}?key_ID={waiting.pop().key_id}"
    assert shared_site.raw("B", BOB, "GET", path)[0] == 200
    status, body = shared_site.raw("B", BOB, "GET", path)
    assert (status, body["message"]) == (400, "one or more keys specified are not found on KME")


def test_more_keys_than_there_are_is_503_and_spends_none(
    site: Any, make_keys: Callable[[int], list[QkdKey]]
) -> None:
    site.fill(make_keys(3))
    status, body = site.raw("A", ALICE, "POST", ENC, b'{"number": 4}')
    assert (status, body["details"]) == (503, [{"stored_key_count": 3, "size": SIZE}])
    assert counts(site) == (3, 3)


@pytest.mark.usefixtures("waiting")
def test_requests_on_one_connection(shared_site: Any) -> None:
    """A body in chunks is read to its end, so that the next request begins where it should."""
    with closing(shared_site.open("A", ALICE)) as connection:
        for body in ([b"{}"], b"{}", [b"{", b"}"]):
            connection.request("POST", ENC, body=body, encode_chunked=True,
                               headers={"Transfer-Encoding": "chunked"} if isinstance(body, list) else {})  # fmt: skip
            answer = connection.getresponse()
            assert (answer.status, len(json.loads(answer.read())["keys"])) == (200, 1)
        connection.request("GET", STATUS)
        answer = connection.getresponse()
        is_status(json.loads(answer.read()), [])


@pytest.mark.parametrize("length", [1, 2, 20])
@pytest.mark.usefixtures("waiting")
def test_a_request_that_is_cut_short_spends_nothing(shared_site: Any, length: int) -> None:
    """What is left of it may be another request: a body of nothing asks for one key."""
    before = counts(shared_site)
    with closing(shared_site.open("A", ALICE)) as connection:
        connection.putrequest("POST", ENC)
        connection.putheader("Content-Length", str(length))
        connection.endheaders()
        with suppress(OSError):  # says that no more comes, and waits until the server says so too
            connection.sock.unwrap()
    assert counts(shared_site) == before

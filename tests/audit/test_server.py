"""What the server holds: every kind of object that decrypts, however it is held."""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import tenseal as ts
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519

from qflsec.audit.check import Bench
from qflsec.audit.checks.server import SecretKeyAtTheServer
from qflsec.audit.parts import Server

ECC = pytest.importorskip("Crypto.PublicKey.ECC")


def found(thing: Any) -> list[str]:
    return [
        one.what for one in SecretKeyAtTheServer().run(Server(name="server", holds={"it": thing}), Bench())
    ]


@pytest.fixture(scope="module")
def private() -> ts.Context:
    context = ts.context(ts.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=[60, 40, 60])
    context.global_scale = 2**40
    return context


@pytest.fixture(scope="module")
def public(private: ts.Context) -> ts.Context:
    context = private.copy()
    context.make_context_public()
    return context


def test_what_decrypts_in_tenseal_is_found_and_what_is_public_is_not(
    private: ts.Context, public: ts.Context
) -> None:
    message = ts.ckks_vector(private, [1.0, 2.0])
    raw = private.serialize(save_secret_key=True)
    for thing in (
        private,
        private.secret_key(),
        private.secret_key().data,
        message,
        raw,
        base64.b64encode(raw).decode(),
    ):
        assert found(thing), type(thing)
    received = ts.ckks_vector_from(public, message.serialize())
    waiting = ts.lazy_ckks_vector_from(message.serialize())
    shown = public.serialize()
    for thing in (public, public.public_key(), received, waiting, shown, base64.b64encode(shown).decode()):
        assert found(thing) == [], type(thing)
    assert received.decrypt(private.secret_key())[0] == pytest.approx(1.0, abs=1e-3)


PEM = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
DER = serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()


class PaillierPrivateKey:
    """The name that python-paillier gives it."""


class SecretKeyShare:
    """What one of several holds."""


def test_private_keys_of_other_libraries() -> None:
    key, pair = x25519.X25519PrivateKey.generate(), ECC.generate(curve="p256")
    text = key.private_bytes(*PEM).decode()
    for thing in (key, pair, PaillierPrivateKey(), key.private_bytes(*DER), text, "\n" + text):
        assert found(thing), type(thing)
    signs = ed25519.Ed25519PrivateKey.generate()
    for thing in (
        key.public_key(),
        pair.public_key(),
        signs,
        signs.private_bytes(*DER),
        SecretKeyShare(),
        "a" * 4000,
        b"0" * 4000,
    ):
        assert found(thing) == [], type(thing)


@dataclass(slots=True)
class Slotted:
    key: Any


class Opens:
    def __init__(self, key: Any) -> None:
        self.key = key

    def __call__(self) -> Any:
        return self.key

    def opened(self, message: Any) -> Any:
        return message, self.key


def closed_over(key: Any) -> Callable[[], Any]:
    return lambda: key


def with_default(key: Any) -> Callable[..., Any]:
    def opened(message: Any, secret: Any = key) -> Any:
        return message, secret

    return opened


HOLDERS: dict[str, Callable[[Any], Any]] = {
    "dictionary": lambda key: {"a": [{"b": ({"c": key},)}]},
    "set": lambda key: {key},
    "slots": Slotted,
    "object": Opens,
    "method": lambda key: Opens(key).opened,
    "closure": closed_over,
    "default": with_default,
    "partial": lambda key: functools.partial(print, key),
    "keyword": lambda key: functools.partial(print, end=key),
    "wrapped": lambda key: functools.lru_cache(closed_over(key)),
    "deep": lambda key: {"server": Opens({"rounds": [Opens(Slotted({"keys": [key]}))]})},
}


@pytest.mark.parametrize("name", HOLDERS)
def test_a_key_is_found_however_it_is_held(name: str, private: ts.Context) -> None:
    secret = private.secret_key()
    (what,) = found(HOLDERS[name](secret))
    assert "SecretKey" in what
    assert found(HOLDERS[name](object())) == []


def test_objects_that_hold_each_other_end() -> None:
    one, other = Opens(None), Opens(None)
    one.key, other.key = other, one
    assert found(one) == []

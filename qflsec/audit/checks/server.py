"""What the server holds."""

from __future__ import annotations

import base64
import binascii
import functools
from collections.abc import Iterator, Mapping
from types import BuiltinMethodType, CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from qflsec.audit.check import Bench, Check
from qflsec.audit.outcome import Finding
from qflsec.audit.parts import Server
from qflsec.base import CheckCard, Source, register

__all__ = ["SecretKeyAtTheServer"]

_DEPTH, _MOST = 12, 100_000
_SHORTEST = 1000
"""Bytes: no context of TenSEAL is shorter."""
_SECRET = ("PrivateKey", "PrivKey", "SecretKey", "Decryptor")
_SIGNS = ("Ed25519", "Ed448", "DSA", "MLDSA", "SLHDSA")
"""Keys of these sign and open nothing; the name of the class begins so."""
_PAIRS = frozenset({"RsaKey", "EccKey", "ElGamalKey"})
"""Classes of PyCryptodome for public and private keys alike."""
_PLAIN = (int, float, complex, bool, type(None), np.ndarray, np.generic, ModuleType, type)


@register("check", "secret-key-at-the-server")
class SecretKeyAtTheServer(Check):
    """A private key among the server's objects."""

    looks_at = Server
    card = CheckCard(
        name="secret-key-at-the-server",
        idea="Walk the server's objects, what functions and methods hold included, for TenSEAL contexts, secret keys, what is linked to one, "
        "and bytes or text of them.",
        source=Source(paper="Benaissa et al., TenSEAL, arXiv:2104.03152", year=2021, where="section 3.1"),
        title="the server holds the secret key",
        severity="error",
        proves="An object that the server reaches decrypts, or is the key that does.",
        cannot=(
            "Keys that the server can fetch from elsewhere are not seen, nor bytes and numbers that are a key in no known form.",
            "Whether clients encrypt for this very key is not asked; keys that only sign and shares of a key are left out.",
            f"It goes {_DEPTH} steps deep and looks at {_MOST:,} objects.",
        ),
        consequence="The server decrypts every single update: homomorphic encryption hides nothing from it.",
        remedy="Give the server a public context (make_context_public) and decrypt at the clients or under a threshold.",
    )

    def run(self, part: Server, bench: Bench) -> Iterator[Finding]:
        """Every object that decrypts."""
        seen = 0
        for name, what in _objects(part.holds, part.name):
            seen += 1
            if what:
                yield Finding(what=f"{name} is {what}", reproduction=f"{name} at the server")
        bench.measured["objects"] = seen


def _objects(root: Any, name: str) -> Iterator[tuple[str, str]]:  # noqa: ANN401
    """An object and what hangs on it, each once: the shortest way to it, and how it decrypts, empty where it does not.

    What hangs on an object that decrypts is left out.
    """
    level, known = [(name, root)], {id(root): root}
    for _ in range(_DEPTH + 1):
        following: list[tuple[str, Any]] = []
        for named, thing in level:
            what = _decrypts(thing)
            yield named, what
            if what:
                continue
            for way, value in _parts(thing):
                if id(value) in known or isinstance(value, _PLAIN):
                    continue
                if len(known) >= _MOST:
                    break
                known[id(value)] = value
                following.append((f"{named}{way}", value))
        level = following


def _parts(thing: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    """What an object holds, by the way to it."""
    if isinstance(thing, str | bytes | bytearray):
        return
    if isinstance(thing, Mapping):
        yield from ((f"[{key!r}]", value) for key, value in thing.items())
    elif isinstance(thing, list | tuple | set | frozenset):
        yield from ((f"[{index}]", value) for index, value in enumerate(thing))
    elif isinstance(thing, functools.partial):
        yield from ((f".args[{index}]", value) for index, value in enumerate(thing.args))
        yield from ((f".keywords[{key!r}]", value) for key, value in thing.keywords.items())
        yield ".func", thing.func
    elif isinstance(thing, CellType):
        try:
            yield ".cell_contents", thing.cell_contents
        except ValueError:  # nothing is in it yet
            return
    if not isinstance(thing, type):
        yield from ((f".{key}", value) for key, value in _attributes(thing).items())


def _attributes(thing: Any) -> dict[str, Any]:  # noqa: ANN401
    """What stands in an object's dictionary and slots, in a function's closure and defaults, and in a method's object."""
    held = dict(getattr(thing, "__dict__", {}))
    slots = [slot for kind in type(thing).__mro__ for slot in _names(vars(kind).get("__slots__", ()))]
    if isinstance(thing, FunctionType | MethodType | BuiltinMethodType):
        slots += ["__self__", "__func__", "__closure__", "__defaults__", "__kwdefaults__"]
    for key in slots:
        if (value := getattr(thing, key, None)) is not None:
            held[key] = value
    return held


def _names(slots: Any) -> tuple[str, ...]:  # noqa: ANN401
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _decrypts(thing: Any) -> str:  # noqa: ANN401
    """What kind of private key an object is; empty for none."""
    kind, home = type(thing).__name__, type(thing).__module__
    if isinstance(thing, bytes | bytearray | str):
        return _private_bytes(thing.encode(errors="ignore") if isinstance(thing, str) else bytes(thing))
    if home.startswith("tenseal") and kind == "Context":
        return "a TenSEAL context with its secret key" if thing.is_private() else ""
    if home.startswith("tenseal") and _linked_to_a_secret(thing):
        return f"a {kind} of TenSEAL that is linked to a context with its secret key"
    if home.startswith(("Crypto.", "Cryptodome.")) and kind in _PAIRS:
        return f"a private key ({kind})" if thing.has_private() else ""
    signs = kind.lstrip("_").startswith(_SIGNS) or "Share" in kind
    return f"a private key ({kind})" if any(name in kind for name in _SECRET) and not signs else ""


def _linked_to_a_secret(thing: Any) -> bool:  # noqa: ANN401
    """Whether a ciphertext of TenSEAL decrypts itself."""
    if not callable(getattr(thing, "context", None)) or not callable(getattr(thing, "decrypt", None)):
        return False
    try:
        return bool(thing.context().is_private())
    except (ValueError, AttributeError):  # a ciphertext that is linked to no context yet
        return False


def _private_bytes(raw: bytes) -> str:
    if b"PRIVATE KEY-----" in raw.lstrip()[:64]:
        return "a private key in PEM form"
    if _is_der(raw):
        return "the bytes of a private key"
    if len(raw) < _SHORTEST:
        return ""
    if _is_context(raw):
        return "the bytes of a TenSEAL context with its secret key"
    try:
        written = base64.b64decode(raw, validate=True)
    except (binascii.Error, ValueError):
        return ""
    return "a TenSEAL context with its secret key, in base 64" if _is_context(written) else ""


def _is_der(raw: bytes) -> bool:
    """Whether bytes are a private key that is not locked by a password and does more than sign."""
    if raw[:1] != b"\x30":
        return False
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    try:
        found = load_der_private_key(raw, None)
    except Exception:  # noqa: BLE001 - bytes of something else, or locked
        return False
    return not type(found).__name__.startswith(_SIGNS)


def _is_context(raw: bytes) -> bool:
    import tenseal as ts

    try:
        return bool(ts.context_from(raw).is_private())
    except Exception:  # noqa: BLE001 - bytes of something else
        return False

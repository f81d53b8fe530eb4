"""What the server holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qflsec.audit.check import Bench, Check
from qflsec.audit.outcome import Finding
from qflsec.audit.parts import Server
from qflsec.base import CheckCard, Source, register

__all__ = ["SecretKeyAtTheServer"]

_DEPTH = 4


@register("check", "secret-key-at-the-server")
class SecretKeyAtTheServer(Check):
    """A private key among the server's objects."""

    looks_at = Server
    card = CheckCard(
        name="secret-key-at-the-server",
        idea="Walk the server's objects for TenSEAL contexts, bytes of contexts and private keys.",
        source=Source(paper="Benaissa et al., TenSEAL, arXiv:2104.03152", year=2021, where="section 3.1"),
        title="the server holds the secret key",
        severity="error",
        proves="An object that the server reaches decrypts what clients encrypt.",
        cannot=("Keys that the server can fetch from elsewhere are not seen.",),
        consequence="The server decrypts every single update: homomorphic encryption hides nothing from it.",
        remedy="Give the server a public context (make_context_public) and decrypt at the clients or under a threshold.",
    )

    def run(self, part: Server, bench: Bench) -> Iterator[Finding]:
        """Every object that decrypts."""
        seen = 0
        for name, thing in _objects(part.holds, part.name, _DEPTH):
            seen += 1
            if what := _decrypts(thing):
                yield Finding(what=f"{name} is {what}", reproduction=f"{name} at the server")
        bench.measured["objects"] = seen


def _objects(thing: Any, name: str, depth: int) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    """An object and what hangs on it, by the way to it."""
    yield name, thing
    if depth == 0:
        return
    if isinstance(thing, Mapping):
        parts = [(f"{name}[{key!r}]", value) for key, value in thing.items()]
    elif isinstance(thing, list | tuple):
        parts = [(f"{name}[{index}]", value) for index, value in enumerate(thing)]
    elif hasattr(thing, "__dict__") and not isinstance(thing, type) and not callable(thing):
        parts = [(f"{name}.{key}", value) for key, value in vars(thing).items()]
    else:
        return
    for named, value in parts:
        yield from _objects(value, named, depth - 1)


def _decrypts(thing: Any) -> str:  # noqa: ANN401
    """What kind of private key an object is; empty for none."""
    kind = type(thing)
    if kind.__module__.startswith("tenseal") and kind.__name__ == "Context":
        return "a TenSEAL context with its secret key" if thing.is_private() else ""
    if isinstance(thing, bytes | bytearray):
        return _private_bytes(bytes(thing))
    if any(name in kind.__name__ for name in ("PrivateKey", "PrivKey", "SecretKey")):
        return f"a private key ({kind.__name__})"
    return ""


def _private_bytes(raw: bytes) -> str:
    if b"PRIVATE KEY-----" in raw[:64]:
        return "a private key in PEM form"
    if len(raw) < 1000:
        return ""
    import tenseal as ts

    try:
        context = ts.context_from(raw)
    except Exception:  # noqa: BLE001 - bytes of something else
        return ""
    return "the bytes of a TenSEAL context with its secret key" if context.is_private() else ""

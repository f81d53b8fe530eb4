"""Encryption that the code says is none: modes without a tag, pads that repeat, secret keys that are sent."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from qflsec.audit.checks.source import SourceCheck, called, dotted, functions, words_of
from qflsec.audit.outcome import Finding
from qflsec.audit.parts import SourceFile
from qflsec.base import CheckCard, Source, register

__all__ = ["RepeatedPad", "SecretKeySent", "UnauthenticatedCipher"]

_PLAIN_MODES = {
    "ECB": "shows which blocks are equal",
    **dict.fromkeys(("CTR", "CFB", "OFB", "CBC"), "has no tag"),
}
_TAGS = ("hmac", "HMAC", "cmac", "CMAC", "Poly1305", "poly1305", "GCM", "CCM", "EAX")
_KEYS = frozenset({"key", "keys", "pad", "otp", "keystream"})
_REPEATERS = frozenset({"cycle", "resize", "tile", "repeat"})


@register("check", "unauthenticated-cipher")
class UnauthenticatedCipher(SourceCheck):
    """Block cipher modes that do not notice a changed message."""

    card = CheckCard(
        name="unauthenticated-cipher",
        idea="Find AES modes ECB, and CTR, CFB, OFB, CBC in a file that makes no tag.",
        source=Source(paper="NIST SP 800-38A", year=2001, where="section 5.3 and appendix D"),
        title="a cipher does not notice a changed message",
        severity="error",
        proves="The mode named in the code has no authentication, and nothing else in the file makes any.",
        cannot=("A tag that is made in another file is not seen.",),
        consequence="The network changes updates bit by bit without knowing the key, and nobody notices.",
        remedy="Use AESGCM or ChaCha20Poly1305, with a new nonce for each message.",
    )

    def read(self, file: SourceFile, tree: ast.Module) -> Iterator[Finding]:
        """Every such mode."""
        names = {dotted(node).rpartition(".")[2] for node in ast.walk(tree)}
        names |= {node.name for node in ast.walk(tree) if isinstance(node, ast.alias)}
        tagged = any(tag in name for name in names for tag in _TAGS)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute):
                continue
            owner, mode = dotted(node.value).rpartition(".")[2], node.attr.removeprefix("MODE_")
            if owner in {"modes", "AES"} and mode in _PLAIN_MODES and (mode == "ECB" or not tagged):
                yield Finding(what=f"the mode {mode} {_PLAIN_MODES[mode]}", place=file.at(node))


@register("check", "repeated-pad")
class RepeatedPad(SourceCheck):
    """A one-time pad that is shorter than what it covers."""

    card = CheckCard(
        name="repeated-pad",
        idea="Find XOR with key[i % len(key)], and keys that are cycled, tiled or resized to the length of a message.",
        source=Source(
            paper="Shannon, Communication theory of secrecy systems", year=1949, where="section 10"
        ),
        title="a pad is used more than once",
        severity="error",
        proves="Positions of a message one key length apart are covered by the same key bits.",
        cannot=("Pads that are used again for the next message are found by running the cipher, not here.",),
        consequence="The XOR of two such positions is that of their plain texts: the network reads updates.",
        remedy="Draw as many key bits as the message has, or use the key for AESGCM and say so.",
    )

    def read(self, file: SourceFile, tree: ast.Module) -> Iterator[Finding]:
        """Every function that covers with a key that repeats."""
        for function in functions(tree):
            if not any(_is_xor(node) for node in ast.walk(function)):
                continue
            for node in ast.walk(function):
                if what := _repeats(node):
                    yield Finding(what=what, place=file.at(node))


@register("check", "secret-key-sent")
class SecretKeySent(SourceCheck):
    """Contexts of homomorphic encryption that are written with their secret key."""

    card = CheckCard(
        name="secret-key-sent",
        idea="Find TenSEAL contexts that are serialised with save_secret_key=True.",
        source=Source(paper="Benaissa et al., TenSEAL, arXiv:2104.03152", year=2021, where="section 3.1"),
        title="a context is written with its secret key",
        severity="warning",
        proves="The bytes hold the secret key: who reads them decrypts every update.",
        cannot=("Where the bytes go is not followed: check that no server and no network can read them.",),
        consequence="If the server or the network gets the bytes, homomorphic encryption hides nothing from them.",
        remedy="Send the context after make_context_public(), and give clients the secret key on another way.",
    )

    def read(self, file: SourceFile, tree: ast.Module) -> Iterator[Finding]:
        """Every such call."""
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and called(node).rpartition(".")[2] == "serialize":
                given = {word.arg: word.value for word in node.keywords}.get("save_secret_key")
                if isinstance(given, ast.Constant) and given.value is True:
                    yield Finding(what=f"{called(node)} writes the secret key", place=file.at(node))


def _is_xor(node: ast.AST) -> bool:
    xor = isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.BitXor)
    return xor or called(node).rpartition(".")[2] in {"bitwise_xor", "xor", "logical_xor"}


def _repeats(node: ast.AST) -> str:
    """How a key is made longer than it is; empty where it is not."""
    if (
        isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.BinOp)
        and isinstance(node.slice.op, ast.Mod)
    ):
        name = dotted(node.value)
        if words_of(name.rpartition(".")[2]) & _KEYS and "len" in ast.unparse(node.slice.right):
            return f"{ast.unparse(node)} begins again at the end of the key"
    if isinstance(node, ast.Call) and called(node).rpartition(".")[2] in _REPEATERS and node.args:
        name = dotted(node.args[0]) or dotted(getattr(node.func, "value", node))
        if words_of(name.rpartition(".")[2]) & _KEYS:
            return f"{ast.unparse(node)} repeats the key"
    return ""

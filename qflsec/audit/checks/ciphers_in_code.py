"""Encryption that the code says is none: modes without a tag, pads that repeat, secret keys that are sent."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from qflsec.audit.checks.names_in_code import Names
from qflsec.audit.checks.source import Function, SourceCheck, called, dotted, functions, words_of
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
_KEY_MAKERS = frozenset({"urandom", "token_bytes", "generate_key", "get_random_bytes"})
_REPEATERS = frozenset({"cycle", "resize", "tile", "repeat", "broadcast_to", "repeat_interleave"})
_LENGTHS = ("len(", "//", "ceil", ".size", ".shape", "nbytes")


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
        idea="Find XOR with key[i % len(key)], and keys that are cycled, tiled, resized or multiplied to the length of a message, in a "
        "function that XORs or that one hands its message to or gets its pad from.",
        source=Source(
            paper="Shannon, Communication theory of secrecy systems", year=1949, where="section 10"
        ),
        title="a pad is used more than once",
        severity="error",
        proves="Positions of a message one key length apart are covered by the same key bits.",
        cannot=(
            "Pads that are used again for the next message are found by running the cipher, not here.",
            "It goes by names, and by names bound to os.urandom and its like; a key repeated by a loop of one's own is not seen.",
            "It reads one file after the other: a key that another file makes longer is not seen.",
        ),
        consequence="The XOR of two such positions is that of their plain texts: the network reads updates.",
        remedy="Draw as many key bits as the message has, or use the key for AESGCM and say so.",
    )

    def read(self, file: SourceFile, tree: ast.Module) -> Iterator[Finding]:
        """Every function that covers with a key that repeats."""
        known, told = Names(tree), set()
        for function in _that_cover(tree):
            for node in ast.walk(function):
                what = _repeats(node, known) or _covered_in_turn(node, known)
                if what and getattr(node, "lineno", 0) not in told:
                    told.add(getattr(node, "lineno", 0))
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


def _that_cover(tree: ast.Module) -> list[ast.AST]:
    """Functions that XOR, those that call one and those that these call; the top of the file where there is any."""
    every = list(functions(tree))
    calls = {one: {called(node).rpartition(".")[2] for node in ast.walk(one)} for one in every}
    covering = {one for one in every if any(_is_xor(node) for node in ast.walk(one))}
    names = {one.name for one in covering}
    callers = covering | {one for one in every if calls[one] & names}
    fed = {name for one in callers for name in calls[one]}
    found = [one for one in every if one in callers or one.name in fed]
    top = [one for one in tree.body if not isinstance(one, Function | ast.ClassDef)]
    return [*found, *(top if covering or any(_is_xor(node) for one in top for node in ast.walk(one)) else [])]


def _is_key(node: ast.expr, known: Names) -> bool:
    """Whether an expression is a key, by its name or by what its name was bound to."""
    names = [part for part in ast.walk(node) if isinstance(part, ast.Name | ast.Attribute)]
    if any(words_of(dotted(part).rpartition(".")[2]) & _KEYS for part in names):
        return True
    bound = [one for part in names if isinstance(part, ast.Name) for one in known.last(part.id, part)]
    makers = {called(part).rpartition(".")[2] for one in bound for part in ast.walk(one)}
    return bool(makers & _KEY_MAKERS) or any(
        isinstance(one, ast.Name) and words_of(one.id) & _KEYS for one in bound
    )


def _in_turn(node: ast.AST, known: Names) -> ast.expr | None:
    """What ``i % n`` picks from over and over."""
    if not isinstance(node, ast.Subscript):
        return None
    places = [node.slice, *(known.last(node.slice.id, node) if isinstance(node.slice, ast.Name) else [])]
    turns = any(isinstance(one, ast.BinOp) and isinstance(one.op, ast.Mod) for one in places)
    return node.value if turns else None


def _covered_in_turn(node: ast.AST, known: Names) -> str:
    """An XOR of something else with ``x[i % len(x)]``: a pad whatever its name."""
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitXor)):
        return ""
    for side, other in ((node.left, node.right), (node.right, node.left)):
        picked = _in_turn(side, known)
        if picked is None or not isinstance(side, ast.Subscript):
            continue
        name = ast.unparse(picked)
        if f"len({name})" in ast.unparse(side.slice) and name not in ast.unparse(other):
            return f"{ast.unparse(side)} begins again at the end of the key"
    return ""


def _repeats(node: ast.AST, known: Names) -> str:
    """How a key is made longer than it is; empty where it is not."""
    picked = _in_turn(node, known)
    if picked is not None and words_of(dotted(picked).rpartition(".")[2]) & _KEYS:
        return f"{ast.unparse(node)} begins again at the end of the key"
    if isinstance(node, ast.Call) and called(node).rpartition(".")[2] in _REPEATERS and node.args:
        holder = getattr(node.func, "value", node)
        if _is_key(node.args[0], known) or (isinstance(holder, ast.Name) and _is_key(holder, known)):
            return f"{ast.unparse(node)} repeats the key"
    if isinstance(node, ast.Call) and any(
        word.arg == "mode" and ast.unparse(word.value) == "'wrap'" for word in node.keywords
    ):
        return f"{ast.unparse(node)} repeats the key" if node.args and _is_key(node.args[0], known) else ""
    return _multiplied(node, known)


def _multiplied(node: ast.AST, known: Names) -> str:
    """A key times a number of times; a product of numbers is none."""
    cut = isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice)
    product = node.value if isinstance(node, ast.Subscript) and cut else node
    if not (isinstance(product, ast.BinOp) and isinstance(product.op, ast.Mult)):
        return ""
    for key, times in ((product.left, product.right), (product.right, product.left)):
        counted = cut or any(word in _spelled(times, known) for word in _LENGTHS)
        if counted and _names_a_key(key, known):
            return f"{ast.unparse(node)} repeats the key"
    return ""


def _names_a_key(node: ast.expr, known: Names) -> bool:
    """Whether an expression is a key itself, and not a length or another number of one."""
    if isinstance(node, ast.Call) and called(node) in {"bytes", "bytearray", "list"} and node.args:
        node = node.args[0]
    return isinstance(node, ast.Name | ast.Attribute) and _is_key(node, known)


def _spelled(node: ast.expr, known: Names) -> str:
    """An expression with what it names, as text."""
    bound = known.last(node.id, node) if isinstance(node, ast.Name) else []
    return " ".join(ast.unparse(one) for one in (node, *bound))

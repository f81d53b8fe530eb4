"""Secrets that come from generators which were made for statistics, and noise that can be drawn again."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from qflsec.audit.checks.generators_in_code import Generators, of_something_else
from qflsec.audit.checks.source import Function, SourceCheck, called, words_of
from qflsec.audit.outcome import Finding
from qflsec.audit.parts import SourceFile
from qflsec.base import CheckCard, Source, register

__all__ = ["SeededNoise", "StatisticalSecrets"]

_SECRET = frozenset({"key", "keys", "pad", "pads", "otp", "nonce", "nonces", "secret", "secrets", "iv", "password", "keystream"})  # fmt: skip
_MASK = frozenset({"mask", "masks"})
_BETWEEN = frozenset({"pair", "pairwise", "secret", "additive", "blinding", "secure"})
_NOISE = frozenset({"noise", "noises", "noisy", "noised"})
_PRIVATE = _NOISE | {"privatise", "privatize", "protect", "sanitize", "sanitise", "perturb", "dp"}
_PUBLIC = frozenset({"public", "prng", "name", "names", "jax", "sort", "id", "ids", "index", "length", "len", "size", "state", "dict"})  # fmt: skip
_CIPHERS = frozenset(
    {"AESGCM", "AESCCM", "AESSIV", "AESGCMSIV", "ChaCha20Poly1305", "ChaCha20", "AES", "Fernet"}
)
_ADDING = frozenset({"add", "add_", "subtract", "sub", "sub_"})
_CHOICES = frozenset({"choice", "choices", "sample", "permutation", "permuted", "shuffle", "randperm", "integers", "randint"})  # fmt: skip
_WRAPPERS = frozenset({"tobytes", "astype", "tolist", "to_bytes", "numpy", "view", "reshape", "flatten", "ravel", "hex", "digest"})  # fmt: skip
_HOLDERS = frozenset({"bytes", "bytearray", "array", "asarray", "packbits", "int", "from_bytes", "tensor", "as_tensor", "sha256"})  # fmt: skip
_SOURCE = Source(
    paper="Python documentation, module random",
    year=2025,
    where="warning at the top: not for security purposes",
)


@register("check", "statistical-secrets")
class StatisticalSecrets(SourceCheck):
    """Keys, pads and masks from generators that can be predicted."""

    card = CheckCard(
        name="statistical-secrets",
        idea="Find keys, pads, nonces and additive masks that are drawn from random, np.random or torch, by themselves or by an object, "
        "and functions of such names that return a draw.",
        source=_SOURCE,
        title="a secret comes from a statistical generator",
        severity="error",
        proves="The named value is drawn by a generator whose output determines its state, or its seed is in the code.",
        cannot=(
            "It goes by the names of variables and functions, so that a secret with another name is not seen.",
            "It reads one file after the other: a generator that another file makes is known only by a name such as rng.",
            "Generators inside libraries are not seen, nor those of JAX and TensorFlow.",
        ),
        consequence="Who sees some outputs, or reads the code, computes all keys and masks and takes them off.",
        remedy="Draw secrets with os.urandom, secrets or the key generation of a cryptographic library.",
    )

    def read(self, file: SourceFile, tree: ast.Module) -> Iterator[Finding]:
        """Every secret that is drawn so."""
        added, seeds, known = _added(tree), _seeds_of_jax(tree), Generators(tree)
        for node in ast.walk(tree):
            for name, value in _bindings(node):
                words = words_of(name)
                secret = words & _SECRET and not words & _PUBLIC and name not in seeds
                mask = words & _MASK and name in added
                drawn = _drawn(value, known) if secret or mask else ""
                if drawn:
                    yield Finding(what=f"{name} is drawn by {drawn}", place=file.at(node))
            for said, value in _given_away(node, added, known):
                if drawn := _drawn(value, known):
                    yield Finding(what=f"{said} {drawn}", place=file.at(node))


@register("check", "seeded-noise")
class SeededNoise(SourceCheck):
    """Noise whose generator starts from a number that stands in the code, or from a client's number."""

    card = CheckCard(
        name="seeded-noise",
        idea="Find noise whose generator is seeded from a constant or a client's number: in the same function, at the top of the "
        "file, in its class, by a default, or by a function that the file calls.",
        source=Source(
            paper="Garfinkel, Leclerc, Randomness concerns when deploying differential privacy, arXiv:2009.03777",
            year=2020,
            where="section 3",
        ),
        title="the noise can be drawn again",
        severity="error",
        proves="Each process that runs the code in the same way draws the same noise: its seed stands in the code or is a public number.",
        cannot=(
            "It reads one file after the other: seeds of another file, of a configuration or of the command line are not followed.",
            "A library's own generator is not followed out of functions that make records, a split or a model.",
            "It goes by names and by what is added, and cannot tell noise for privacy from other noise that is added.",
            "Noise that a library draws is not seen here, nor the keys of JAX.",
        ),
        consequence="Who reads the code takes the noise off: there is no differential privacy, whatever the accountant says.",
        remedy="Seed the generator of the noise from os.urandom, or leave the seed out.",
    )

    def read(self, file: SourceFile, tree: ast.Module) -> Iterator[Finding]:
        """Every draw of noise that can be drawn again."""
        if any(part in {"tests", "test"} or part.startswith("test_") for part in file.path.split("/")):
            return
        added, known = _added(tree), Generators(tree)
        told = set()
        for node in ast.walk(tree):
            for name, place, value in _noises(node, added, known):
                for call, draw in known.draws(value):
                    if draw.seed and call not in told:
                        told.add(call)
                        yield Finding(
                            what=f"{name} is drawn by {draw.call} after {draw.seed}", place=file.at(place)
                        )


def _noises(
    node: ast.AST, added: frozenset[str], known: Generators
) -> Iterator[tuple[str, ast.AST, ast.expr]]:
    """What is noise by its name, or by what is added or returned in a function that protects an update."""
    function = known.function_around(node)
    names = [one.name for one in known.around(node) if isinstance(one, Function)]
    protects = any(words_of(name) & _PRIVATE for name in names)
    if not protects and any(of_something_else(name) for name in names):
        return
    for name, value in _bindings(node):
        noise = words_of(name) & _NOISE and not _only_fed(name, function, added)
        if (noise and (function is not None or name in added)) or (protects and name in added):
            yield name, node, value
    if protects and function is not None:
        yield from ((f"what {function.name} gives", node, one) for one in _given_out(node))


def _given_out(node: ast.AST) -> list[ast.expr]:
    """What a node returns or adds."""
    match node:
        case ast.Return(value=value) if value is not None:
            return [value]
        case ast.BinOp(op=ast.Add() | ast.Sub()):
            return [node.left, node.right]
        case ast.AugAssign(op=ast.Add() | ast.Sub()):
            return [node.value]
        case ast.Call() if called(node).rpartition(".")[2] in _ADDING:
            return node.args
    return []


def _only_fed(name: str, function: ast.AST | None, added: frozenset[str]) -> bool:
    """Whether noise is only handed to a call by itself, as to a generative model."""
    if name in added or function is None:
        return False
    return any(
        isinstance(node, ast.Call)
        and len(node.args) == 1
        and isinstance(node.args[0], ast.Name)
        and node.args[0].id == name
        and called(node).rpartition(".")[2] not in _ADDING
        for node in ast.walk(function)
    )


def _given_away(node: ast.AST, added: frozenset[str], known: Generators) -> Iterator[tuple[str, ast.expr]]:
    """What is returned as a key or a mask, or handed to a cipher as its key, and the words for it."""
    function = known.function_around(node)
    if isinstance(node, ast.Return) and node.value is not None and function is not None:
        inner = _inside(node.value)
        told = isinstance(inner, ast.Name) and words_of(inner.id) & (_SECRET | _MASK)  # where it was bound
        if not told and _gives_a_secret(function.name, added):
            yield f"{function.name} returns what is drawn by", node.value
    elif isinstance(node, ast.Call) and called(node).rpartition(".")[2] in _CIPHERS and node.args:
        yield f"the key of {called(node)} is drawn by", node.args[0]


def _gives_a_secret(name: str, added: frozenset[str]) -> bool:
    """Whether a function's name says that it makes a key, or a mask that is added somewhere."""
    words = words_of(name)
    key = words & _SECRET and not words & _PUBLIC
    return bool(key or (words & _MASK and (name in added or words & _BETWEEN)))


def _bindings(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """The names that a statement binds, and to what."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            for one in ast.walk(target):
                if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store):
                    yield one.id, node.value
                elif isinstance(one, ast.Attribute) and isinstance(one.ctx, ast.Store):
                    yield one.attr, node.value
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr | ast.AugAssign):
        if node.value is not None and isinstance(node.target, ast.Name):
            yield node.target.id, node.value
    elif (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"append", "extend"}
        and isinstance(node.func.value, ast.Name)
    ):
        yield from ((node.func.value.id, one) for one in node.args)


def _drawn(value: ast.expr, known: Generators) -> str:
    """The generator's call that makes a value; empty where none does, or where only a choice hangs on it."""
    if called(value).rpartition(".")[2] == "PRNGKey":  # it starts a generator of JAX
        return ""
    for call, draw in known.draws(value):
        if not _of_names(call):
            return draw.call
    inner = _inside(value)
    if isinstance(inner, ast.Name):
        for bound in known.last(inner.id, inner):
            if bound is not value and _inside(bound) is not inner:
                return next((draw.call for call, draw in known.draws(bound) if not _of_names(call)), "")
    return ""


def _of_names(call: ast.Call) -> bool:
    """Whether a draw chooses among the keys of a dictionary."""
    tail = called(call).rpartition(".")[2] or getattr(call.func, "attr", "")
    return tail in _CHOICES and any(".keys()" in ast.unparse(one) for one in call.args)


def _inside(value: ast.expr) -> ast.expr:
    """A value without what only gives it another form."""
    while True:
        if isinstance(value, ast.Subscript):
            value = value.value
        elif (
            isinstance(value, ast.Call)
            and isinstance(value.func, ast.Attribute)
            and value.func.attr in _WRAPPERS
        ):
            value = value.args[0] if value.func.attr == "digest" and value.args else value.func.value
        elif isinstance(value, ast.Call) and called(value).rpartition(".")[2] in _HOLDERS and value.args:
            value = value.args[0]
        else:
            return value


def _added(tree: ast.Module) -> frozenset[str]:
    """Names that are added to something or taken away from it: what masks are for."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub | ast.BitXor):
            sides = (node.left, node.right)
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add | ast.Sub | ast.BitXor):
            sides = (node.value, node.target)
        else:
            continue
        found |= {part.id for side in sides for part in ast.walk(side) if isinstance(part, ast.Name)}
        found |= {part.attr for side in sides for part in ast.walk(side) if isinstance(part, ast.Attribute)}
    return frozenset(found)


def _seeds_of_jax(tree: ast.Module) -> frozenset[str]:
    """Names that start a generator of JAX, where what is no secret is called a key."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    starts = [call for call in calls if called(call).rpartition(".")[2] in {"PRNGKey", "key"}]
    return frozenset(
        part.id
        for call in starts
        for one in call.args
        for part in ast.walk(one)
        if isinstance(part, ast.Name)
    )

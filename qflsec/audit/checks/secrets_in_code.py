"""Secrets that come from generators which were made for statistics, and noise that can be drawn again."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from qflsec.audit.checks.source import SourceCheck, called, functions, words_of
from qflsec.audit.outcome import Finding
from qflsec.audit.parts import SourceFile
from qflsec.base import CheckCard, Source, register

__all__ = ["SeededNoise", "StatisticalSecrets"]

_SECRET = frozenset({"key", "keys", "pad", "pads", "otp", "nonce", "nonces", "secret", "secrets", "iv", "password", "keystream"})  # fmt: skip
_MASK = frozenset({"mask", "masks"})
_NOISE = frozenset({"noise", "noises", "noisy"})
_PUBLIC = frozenset({"public", "prng", "name", "names", "jax", "sort", "id", "ids", "index", "length", "len", "size", "state", "dict"})  # fmt: skip
_GENERATORS = re.compile(
    r"^(np|numpy)\.random\.|^random\.(?!SystemRandom)|^torch\.(rand|randn|randint|normal|bernoulli|rand_like|randn_like|randperm)$"
    r"|(^|\.)(rng|rnd|generator|gen|prng|rand)\.(integers|normal|random|bytes|choice|uniform|standard_normal|permutation|laplace)$"
)
_SEEDERS = re.compile(
    r"^(np|numpy)\.random\.(seed|default_rng|RandomState)$|^random\.(seed|Random)$|^torch\.manual_seed$|\.manual_seed$"
    r"|^(default_rng|RandomState)$"
)
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
        idea="Find keys, pads, nonces and additive masks that are drawn from random, np.random or torch.rand.",
        source=_SOURCE,
        title="a secret comes from a statistical generator",
        severity="error",
        proves="The named value is drawn by a generator whose output determines its state, or its seed is in the code.",
        cannot=(
            "It goes by the names of variables, so that a secret with another name is not seen.",
            "Generators inside libraries are not seen.",
        ),
        consequence="Who sees some outputs, or reads the code, computes all keys and masks and takes them off.",
        remedy="Draw secrets with os.urandom, secrets or the key generation of a cryptographic library.",
    )

    def read(self, file: SourceFile, tree: ast.Module) -> Iterator[Finding]:
        """Every secret that is drawn so."""
        added, seeds = _added(tree), _seeds_of_jax(tree)
        for node in ast.walk(tree):
            for name, value in _bindings(node):
                words = words_of(name)
                secret = words & _SECRET and not words & _PUBLIC and name not in seeds
                mask = words & _MASK and name in added and not isinstance(value, ast.Compare)
                drawn = _drawn(value) if secret or mask else ""
                if drawn:
                    yield Finding(what=f"{name} is drawn by {drawn}", place=file.at(node))


@register("check", "seeded-noise")
class SeededNoise(SourceCheck):
    """Noise whose generator starts from a number that stands in the code, or from a client's number."""

    card = CheckCard(
        name="seeded-noise",
        idea="Find noise that is drawn in a function which seeds its generator from a constant or a client's number.",
        source=Source(
            paper="Garfinkel, Leclerc, Randomness concerns when deploying differential privacy, arXiv:2009.03777",
            year=2020,
            where="section 3",
        ),
        title="the noise can be drawn again",
        severity="error",
        proves="The function draws the same noise each time it is called with the same public arguments.",
        cannot=("Seeds that are set in another function are not followed.",),
        consequence="Who reads the code takes the noise off: there is no differential privacy, whatever the accountant says.",
        remedy="Seed the generator of the noise from os.urandom, or leave the seed out.",
    )

    def read(self, file: SourceFile, tree: ast.Module) -> Iterator[Finding]:
        """Every function that seeds and draws noise."""
        for function in functions(tree):
            seeds = [node for node in ast.walk(function) if _fixed_seed(node)]
            if not seeds:
                continue
            for node in ast.walk(function):
                for name, value in _bindings(node):
                    if words_of(name) & _NOISE and _drawn(value):
                        seeded = ast.unparse(seeds[0])
                        yield Finding(what=f"{name} is drawn after {seeded}", place=file.at(node))


def _bindings(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """The names that a statement binds, and to what."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            for one in ast.walk(target):
                if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store):
                    yield one.id, node.value
                elif isinstance(one, ast.Attribute) and isinstance(one.ctx, ast.Store):
                    yield one.attr, node.value
    elif isinstance(node, ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Name):
        yield node.target.id, node.value


def _drawn(value: ast.expr) -> str:
    """The generator's call that makes a value; empty where none does, or where only a choice hangs on it."""
    for node in ast.walk(value):
        name = called(node)
        if name and _GENERATORS.search(name) and not _SEEDERS.search(name):
            return name
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and _SEEDERS.search(called(node.func.value))
        ):
            return ast.unparse(node.func)
    return ""


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


def _fixed_seed(node: ast.AST) -> bool:
    """Whether a call seeds a generator from a constant or from a number of a client."""
    if not isinstance(node, ast.Call) or not _SEEDERS.search(called(node)) or not node.args:
        return False
    names = {part.id for part in ast.walk(node.args[0]) if isinstance(part, ast.Name)}
    numbers = {"client", "cid", "id", "round", "rank", "node", "partition", "i", "rnd"}
    return all(words_of(name) & numbers for name in names)

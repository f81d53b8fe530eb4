"""What is drawn from generators made for statistics, and from which seed, as far as one file says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from qflsec.audit.checks.names_in_code import Names, own_nodes
from qflsec.audit.checks.source import Function, dotted, words_of

__all__ = ["Draw", "Generators", "of_something_else"]

_DEPTH = 8
_MAKERS = re.compile(
    r"^numpy\.random\.(default_rng|RandomState|Generator|SeedSequence|PCG64|PCG64DXSM|Philox|MT19937|SFC64)$"
    r"|^random\.Random$|^torch\.Generator$"
)
_SECURE = re.compile(r"(?i)secrets|SystemRandom|csprng|drbg|chacha|urandom|shake|Crypto\.Random|nacl|secure")
_SEEDERS = {
    "numpy": re.compile(r"^numpy\.random\.seed$|(^|\.)seed_everything$"),
    "random": re.compile(r"^random\.seed$|(^|\.)seed_everything$"),
    "torch": re.compile(
        r"^torch\.(random\.|cuda\.)?(manual_seed|manual_seed_all|seed)$|(^|\.)seed_everything$"
    ),
}
_TORCH = re.compile(
    r"^torch\.(rand|randn|randint|normal|bernoulli|rand_like|randn_like|randint_like|randperm|poisson|multinomial)$"
)
_IN_PLACE = frozenset({"normal_", "uniform_", "random_", "bernoulli_", "cauchy_", "exponential_", "log_normal_", "geometric_"})  # fmt: skip
_NO_DRAWS = frozenset({"seed", "get_state", "set_state", "getstate", "setstate", "get_bit_generator", "set_bit_generator", "SystemRandom", "BitGenerator"})  # fmt: skip
_METHODS = frozenset(
    {"integers", "normal", "random", "bytes", "choice", "uniform", "standard_normal", "permutation", "permuted", "laplace",
     "exponential", "standard_exponential", "poisson", "binomial", "gamma", "standard_t", "standard_cauchy", "multivariate_normal",
     "geometric", "logistic", "gumbel", "beta", "rand", "randn", "randint", "random_sample", "random_integers", "random_raw",
     "randrange", "getrandbits", "randbytes", "gauss", "normalvariate", "choices", "sample", "expovariate", "triangular"}
)  # fmt: skip
_NAMES = frozenset({"rng", "rnd", "generator", "gen", "prng", "rand", "RNG"})
_PUBLIC_NUMBERS = frozenset(
    {"client", "cid", "id", "round", "rank", "node", "partition", "i", "j", "rnd", "index", "idx", "step", "epoch"}
)  # fmt: skip
_HIDDEN = frozenset({"secret", "secrets", "key", "keys", "shared", "private", "entropy"})
_COMPUTED = frozenset(
    {"int", "abs", "hash", "str", "len", "min", "max", "sum", "pow", "ord", "range", "enumerate", "bytes", "tuple", "list", "crc32",
     "adler32", "sha256", "sha1", "sha512", "md5", "blake2b", "from_bytes", "SeedSequence", "uint32", "uint64", "int64", "array"}
)  # fmt: skip
_OF_ITSELF = frozenset({"encode", "digest", "hexdigest", "to_bytes", "spawn", "generate_state", "item"})
_WHOLES = (ast.BinOp, ast.UnaryOp, ast.Tuple, ast.List, ast.JoinedStr, ast.FormattedValue, ast.Subscript)
_SPAWNED = frozenset({"spawn", "jumped", "copy", "__getitem__"})
_HANDING_ON = frozenset({"copy.copy", "copy.deepcopy", "enumerate", "zip", "list", "tuple", "iter", "next"})
_ELSEWHERE = frozenset(
    {"data", "dataset", "datasets", "records", "load", "loader", "split", "partition", "toy", "synthetic", "samples", "init",
     "initial", "initialise", "initialize", "weights", "model", "net", "plot", "augment", "shuffle"}
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Draw:
    """A call that draws.

    Attributes:
        call: What is called, as it is written.
        seed: The call that fixes what is drawn; empty where this file holds none.
    """

    call: str
    seed: str


@dataclass(frozen=True, kw_only=True)
class _Made:
    """A generator that an expression may be."""

    seed: str = ""
    secure: bool = False


def of_something_else(name: str) -> bool:
    """Whether a function's name says that it makes records, a model's first weights or a test."""
    return bool(words_of(name) & _ELSEWHERE) or name.startswith(("test_", "Test"))


class Generators(Names):
    """The generators of one file: which names hold one, and how each is seeded.

    Args:
        tree: The file's syntax tree.
    """

    def draw(self, node: ast.AST) -> Draw | None:
        """What a node draws, where it is a call that draws."""
        if not isinstance(node, ast.Call):
            return None
        name, method = self.full(node.func), getattr(node.func, "attr", "")
        tail = name.rpartition(".")[2]
        if _MAKERS.search(name) or tail in _NO_DRAWS:
            return None
        family = self._family(name, method, node)
        if family:
            own = [word.value for word in node.keywords if word.arg in {"generator", "random_state"}]
            return Draw(call=ast.unparse(node.func), seed=self._given(own, family, node))
        if isinstance(node.func, ast.Attribute) and method in _METHODS:
            return self._of_object(node.func.value, ast.unparse(node.func))
        return None

    def _family(self, name: str, method: str, node: ast.Call) -> str:
        """The library whose own generator a call draws from unless another is handed to it; empty for none."""
        if name.startswith("numpy.random.") or method == "rvs":
            return "numpy"
        if name.startswith("random."):
            return "random"
        if _TORCH.search(name) or method in _IN_PLACE:
            return "torch"
        if method in {"sample", "rsample"} and isinstance(node.func, ast.Attribute):
            parts = (part for one in self.values(node.func.value) for part in ast.walk(one))
            if any(self.full(one).startswith("torch.distributions.") for one in parts):
                return "torch"
        return ""

    def draws(self, value: ast.AST) -> Iterator[tuple[ast.Call, Draw]]:
        """Every draw in an expression, but for those that only choose a position or decide a comparison."""
        if isinstance(value, ast.Compare):
            return
        found = self.draw(value)
        if found is not None and isinstance(value, ast.Call):
            yield value, found
        for child in ast.iter_child_nodes(value):
            if not (isinstance(value, ast.Subscript) and child is value.slice):
                yield from self.draws(child)

    def _of_object(self, holder: ast.expr, written: str) -> Draw | None:
        made = list(self._made(holder, _DEPTH))
        if made:
            if all(one.secure for one in made):
                return None
            return Draw(call=written, seed=next((one.seed for one in made if one.seed), ""))
        named = dotted(holder).rpartition(".")[2]
        return Draw(call=written, seed="") if named in _NAMES else None

    def _given(self, handed: list[ast.expr], family: str, node: ast.AST) -> str:
        """The seed of a draw that may be handed a generator or a number."""
        if not handed or (isinstance(handed[0], ast.Constant) and handed[0].value is None):
            return self._of_global(family, node)
        made = list(self._made(handed[0], _DEPTH))
        if not made and self._fixed(handed[0], _DEPTH):
            return f"random_state={ast.unparse(handed[0])}"
        return next((one.seed for one in made if one.seed), "")

    def _made(self, value: ast.expr, depth: int) -> Iterator[_Made]:
        """The generators that an expression may be."""
        if depth <= 0:
            return
        name = self.full(value.func) if isinstance(value, ast.Call) else ""
        if isinstance(value, ast.Call) and _MAKERS.search(name):
            yield from self._constructed(value, name, depth - 1)
        elif isinstance(value, ast.Call) and getattr(value.func, "attr", "") == "manual_seed" and value.args:
            if any(True for _ in self._made(value.func.value, depth - 1)):  # type: ignore[attr-defined]
                yield _Made(seed=ast.unparse(value) if self._fixed(value.args[0], depth - 1) else "")
        else:
            later = self._seeded_later(value) if isinstance(value, ast.Name | ast.Attribute) else ""
            inner = [made for one in self._alternatives(value) for made in self._made(one, depth - 1)]
            yield from (_Made(seed=later or one.seed, secure=one.secure) for one in inner)
            if not inner and name and _SECURE.search(name):
                yield _Made(secure=True)

    def _constructed(self, call: ast.Call, name: str, depth: int) -> Iterator[_Made]:
        """The generator that a library makes, of the seed or of the generator that it is given."""
        words = (word.value for word in call.keywords if word.arg in {"seed", "x", "entropy"})
        seeds = [] if name == "torch.Generator" else [*call.args, *words]  # its argument is a device
        inner = list(self._made(seeds[0], depth)) if seeds else []
        if not name.endswith(".Generator"):  # a seed from the system makes no other generator of it
            inner = [one for one in inner if not one.secure]
        fixed = bool(seeds) and not inner and self._fixed(seeds[0], depth)
        yield from inner or [_Made(seed=ast.unparse(call) if fixed else "")]

    def _alternatives(self, value: ast.expr) -> list[ast.expr]:
        """Expressions one of which holds the generator that an expression is."""
        found: list[ast.expr] = []
        match value:
            case ast.Call():
                found = self._passed_on(value)
            case ast.Name():
                found = self.last(value.id, value)
            case ast.Attribute(value=ast.Name(id=holder), attr=attr):
                found = self.of_class(value, holder, attr)
            case ast.Subscript() | ast.NamedExpr():
                found = [value.value]
            case (
                ast.BoolOp(values=parts)
                | ast.List(elts=parts)
                | ast.Tuple(elts=parts)
                | ast.Dict(values=parts)
            ):
                found = parts
            case ast.IfExp():
                found = [value.body, value.orelse]
            case ast.ListComp(elt=part) | ast.GeneratorExp(elt=part) | ast.DictComp(value=part):
                found = [part]
        return found

    def _passed_on(self, call: ast.Call) -> list[ast.expr]:
        """What a call hands on: what a function of this file returns, a copy, or what a default is made of."""
        name = self.full(call.func)
        tail = name.rpartition(".")[2]
        if tail in self._functions:
            nodes = own_nodes(self._functions[tail])
            return [one.value for one in nodes if isinstance(one, ast.Return) and one.value is not None]
        if name in _HANDING_ON:
            return call.args
        if isinstance(call.func, ast.Attribute) and call.func.attr in _SPAWNED:
            return [call.func.value]
        return (
            [word.value.body for word in call.keywords if isinstance(word.value, ast.Lambda)]
            if tail == "field"
            else []
        )

    def _seeded_later(self, held: ast.expr) -> str:
        """A statement ``name.manual_seed(1)`` in the same function or class, or at the top of the file."""
        name, here = dotted(held), [one for one in self.around(held) if not isinstance(one, ast.Module)]
        for call in self._sites["manual_seed"] + self._sites["seed"]:
            holder = next((one for one in self.around(call) if isinstance(one, Function)), None)
            kind = next((one for one in self.around(call) if isinstance(one, ast.ClassDef)), None)
            near = holder is None or holder in here or (name.startswith("self.") and kind in here)
            same = bool(name) and dotted(call.func).rpartition(".")[0] == name
            if near and same and call.args and self._fixed(call.args[0], _DEPTH):
                return ast.unparse(call)
        return ""

    def _fixed(self, value: ast.expr, depth: int) -> bool:
        """Whether the code and public numbers alone determine a value."""
        if depth <= 0:
            return False
        match value:
            case ast.Constant():
                return value.value is not None
            case ast.Name():
                bound = self.last(value.id, value)
                public = (not bound or self.is_parameter(value)) and _is_public(value.id)
                return public or any(self._fixed(one, depth - 1) for one in bound)
            case ast.Attribute(value=ast.Name(id=holder), attr=attr):
                bound = self.of_class(value, holder, attr)
                return _is_public(attr) or any(self._fixed(one, depth - 1) for one in bound)
            case ast.Call():
                return self._computed(value, depth - 1)
        either = self._alternatives(value) if isinstance(value, ast.BoolOp | ast.IfExp) else []
        parts = [one for one in ast.iter_child_nodes(value) if isinstance(one, ast.expr)]
        whole = isinstance(value, _WHOLES) and self._all_fixed(parts, depth - 1)
        return whole or any(self._fixed(one, depth - 1) for one in either)

    def _computed(self, call: ast.Call, depth: int) -> bool:
        """Whether a call gives the same each time."""
        tail = dotted(call.func).rpartition(".")[2]
        if tail in {"len", "range", "enumerate"}:
            return True
        if isinstance(call.func, ast.Attribute) and call.func.attr in _OF_ITSELF:
            return self._fixed(call.func.value, depth)
        parts = [*call.args, *(word.value for word in call.keywords)]
        return tail in _COMPUTED and bool(parts) and self._all_fixed(parts, depth)

    def _all_fixed(self, parts: list[ast.expr], depth: int) -> bool:
        return all(self._fixed(one, depth) for one in parts)

    def _of_global(self, family: str, node: ast.AST) -> str:
        """The call that fixes a library's own generator before a draw; empty where there is none."""
        around = [one for one in self.around(node) if isinstance(one, Function)]
        for function in around:
            if seeds := list(self._seeds(family, function)):
                before = [seed for seed in seeds if seed.lineno <= getattr(node, "lineno", 0)]
                return self._told((before or seeds)[-1])
        classes = [one for one in self.around(node) if isinstance(one, ast.ClassDef)]
        starts = [
            one
            for kind in classes
            for one in kind.body
            if isinstance(one, Function) and one.name == "__init__"
        ]
        for function in (*starts, *self._called_ones()):
            for seed in self._seeds(family, function):
                if told := self._told(seed):
                    return told
        last = ""
        for statement in self._tree.body:
            if not isinstance(statement, Function | ast.ClassDef):
                for seed in self._seeds(family, statement):
                    last = self._told(seed)
        return last

    def _called_ones(self) -> Iterator[Function]:
        """Functions that the file calls itself, but for those that make records, models or tests."""
        for name, function in self._functions.items():
            if not of_something_else(name) and any(
                not self.in_a_test(one) for one in self._sites.get(name, [])
            ):
                yield function

    def _seeds(self, family: str, scope: ast.AST) -> Iterator[ast.Call]:
        """The calls that seed a library's own generator, but for those whose effect ends with their block."""
        for node in (scope, *own_nodes(scope)):
            if isinstance(node, ast.Call) and _SEEDERS[family].search(self.full(node.func)):
                forked = (one for one in self.around(node) if isinstance(one, ast.With))
                if not any("fork_rng" in ast.unparse(item) for one in forked for item in one.items):
                    yield node

    def _told(self, seed: ast.Call) -> str:
        given = [*seed.args, *(word.value for word in seed.keywords)]
        return ast.unparse(seed) if given and self._fixed(given[0], _DEPTH) else ""


def _is_public(name: str) -> bool:
    """Whether a name is that of a number that everybody knows."""
    return bool(words_of(name) & _PUBLIC_NUMBERS and not words_of(name) & _HIDDEN)

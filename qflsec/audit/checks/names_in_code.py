"""What the names of one file are bound to, as far as its text says."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator

from qflsec.audit.checks.source import Function, dotted, functions

__all__ = ["Names", "own_nodes"]


class Names:
    """The names of one file: where each is bound, and to what.

    Args:
        tree: The file's syntax tree.
    """

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        self._aliases = {"np": "numpy", **_imported(tree)}
        self._bound: dict[ast.AST, dict[str, list[tuple[int, ast.expr]]]] = defaultdict(
            lambda: defaultdict(list)
        )
        self._functions = {one.name: one for one in functions(tree)}
        self._classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
        self._sites: dict[str, list[ast.Call]] = defaultdict(list)
        self._global = {
            (self.function_around(node), name)
            for node in ast.walk(tree)
            if isinstance(node, ast.Global)
            for name in node.names
        }
        for node in ast.walk(tree):
            self._note(node)

    def full(self, node: ast.AST) -> str:
        """A dotted name with what the file imports it as put in."""
        first, dot, rest = dotted(node).partition(".")
        return f"{self._aliases.get(first, first)}{dot}{rest}"

    def function_around(self, node: ast.AST) -> Function | None:
        """The innermost function around a node."""
        return next((one for one in self.around(node) if isinstance(one, Function)), None)

    def around(self, node: ast.AST) -> Iterator[ast.AST]:
        """Everything around a node, innermost first."""
        while (parent := self._parents.get(node)) is not None:
            yield parent
            node = parent

    def _note(self, node: ast.AST) -> None:
        """Take down what a node binds or calls."""
        if isinstance(node, ast.Call):
            self._sites[dotted(node.func).rpartition(".")[2]].append(node)
        pairs: list[tuple[ast.expr, ast.expr]] = []
        if isinstance(node, ast.Assign):
            pairs = [(target, node.value) for target in node.targets]
        elif (isinstance(node, ast.AnnAssign) and node.value is not None) or isinstance(node, ast.NamedExpr):
            pairs = [(node.target, node.value)]  # type: ignore[list-item]
        elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            pairs = [(node.target, node.iter)]
        for target, value in pairs:
            for one, bound in _unpacked(target, value):
                self._bind(one, bound, node)

    def _bind(self, target: ast.expr, value: ast.expr, node: ast.AST) -> None:
        line = getattr(target, "lineno", 0)
        if isinstance(target, ast.Name):
            scope = next(
                (one for one in self.around(node) if isinstance(one, Function | ast.ClassDef)), self._tree
            )
            if (scope, target.id) in self._global:
                scope = self._tree
            self._bound[scope][target.id].append((line, value))
        elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
            holder = next((one for one in self.around(node) if isinstance(one, ast.ClassDef)), None)
            if target.value.id in {"self", "cls"} and holder is not None:
                self._bound[holder][target.attr].append((line, value))

    def last(self, name: str, at: ast.AST) -> list[ast.expr]:
        """What a name may be bound to: last in this function before the line, in those around it, or in the file."""
        scopes = [one for one in self.around(at) if isinstance(one, Function)]
        first = next((one for one in self.around(at) if isinstance(one, Function | ast.ClassDef)), None)
        if isinstance(first, ast.ClassDef) and name in self._bound[first]:
            return [value for _, value in self._bound[first][name]]
        for depth, scope in enumerate(scopes):
            if found := self._bound[scope].get(name):
                line = getattr(at, "lineno", 0)
                before = [value for bound, value in found if bound < line or depth]
                if before or name not in _parameters(scope):
                    return [(before or [value for _, value in found])[-1]]
            if name in _parameters(scope):
                return self._handed(scope, name)
        found = self._bound[self._tree].get(name) or []
        return [value for _, value in found[-1:]]

    def _handed(self, function: Function, name: str) -> list[ast.expr]:
        """What the file hands to a parameter, and its default where a call leaves it out or none is here."""
        default, place = _default(function, name), _parameters(function).index(name)
        holder = self._parents.get(function)
        method = isinstance(holder, ast.ClassDef)
        called = (
            holder.name if isinstance(holder, ast.ClassDef) and function.name == "__init__" else function.name
        )
        sites = [site for site in self._sites[called] if not self.in_a_test(site)]
        found = [] if sites or default is None else [default]
        for site in sites:
            words = {word.arg: word.value for word in site.keywords}
            at = place - method
            if name in words:
                found.append(words[name])
            elif 0 <= at < len(site.args):
                found.append(site.args[at])
            elif default is not None and None not in words:
                found.append(default)
        return found

    def in_a_test(self, node: ast.AST) -> bool:
        """Whether a node stands in a test function."""
        return any(isinstance(one, Function) and one.name.startswith("test_") for one in self.around(node))

    def values(self, node: ast.expr) -> list[ast.expr]:
        """An expression, and what it names."""
        return [node, *self.last(node.id, node)] if isinstance(node, ast.Name) else [node]

    def of_class(self, node: ast.AST, holder: str, attr: str) -> list[ast.expr]:
        """What an attribute of an object or of a class of this file is bound to."""
        if holder in {"self", "cls"}:
            kind = next((one for one in self.around(node) if isinstance(one, ast.ClassDef)), None)
        else:
            kind = self._classes.get(holder)
            for bound in [] if kind else self.last(holder, node):
                kind = kind or self._classes.get(dotted(getattr(bound, "func", bound)))
        return [value for _, value in self._bound[kind].get(attr, [])] if kind is not None else []

    def is_parameter(self, name: ast.Name) -> bool:
        """Whether a name is a parameter that its function binds to nothing else."""
        function = self.function_around(name)
        return (
            function is not None and name.id in _parameters(function) and name.id not in self._bound[function]
        )


def _imported(tree: ast.Module) -> dict[str, str]:
    """What each imported name stands for."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {one.asname: one.name for one in node.names if one.asname}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    return found


def _unpacked(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    """The single targets of a binding, each with what it gets or with what holds that."""
    if not isinstance(target, ast.Tuple | ast.List):
        yield target, value
        return
    parts = value.elts if isinstance(value, ast.Tuple | ast.List) else []
    if isinstance(value, ast.Call) and value.args and dotted(value.func) in {"enumerate", "zip"}:
        parts = [value, value.args[0]] if dotted(value.func) == "enumerate" else value.args
    same = len(parts) == len(target.elts)
    for place, one in enumerate(target.elts):
        yield from _unpacked(one, parts[place] if same else value)


def own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """What stands under a node in the order of the text, without functions and classes inside it."""
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, Function | ast.ClassDef):
            yield child
            yield from own_nodes(child)


def _parameters(function: Function) -> list[str]:
    given = function.args
    return [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]


def _default(function: Function, name: str) -> ast.expr | None:
    given = function.args
    placed = [one.arg for one in (*given.posonlyargs, *given.args)]
    found: dict[str, ast.expr | None] = dict(zip(placed[::-1], given.defaults[::-1], strict=False))
    found |= {one.arg: default for one, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)}
    return found.get(name)

"""Simulated quantum key distribution: is an error rate taken, and does it decide anything?"""

from __future__ import annotations

import ast
from abc import abstractmethod
from collections.abc import Iterator

from qflsec.audit.checks.source import Function, SourceCheck, functions, words_of
from qflsec.audit.outcome import Finding
from qflsec.audit.parts import SourceFile
from qflsec.base import CheckCard, Source, register

__all__ = ["KeyComparedInTheClear", "UncheckedErrorRate"]

_RATE = frozenset({"qber", "error", "errors", "mismatch", "mismatches", "disagreement", "disagreements"})
_ENDS = (frozenset({"alice", "sender", "a"}), frozenset({"bob", "receiver", "b"}))
_BB84 = Source(
    paper="Shor, Preskill, Simple proof of security of BB84, arXiv:quant-ph/0003004",
    year=2000,
    where="protocol 1",
)


class _KeyDistribution(SourceCheck):
    """Reads functions that play both ends of a key distribution."""

    def read(self, file: SourceFile, tree: ast.Module) -> Iterator[Finding]:
        """Every such function that is at fault."""
        for function in functions(tree):
            names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
            names |= {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
            if _plays_both_ends(function.name, names):
                yield from self.judge(file, function, names)

    @abstractmethod
    def judge(self, file: SourceFile, function: Function, names: set[str]) -> Iterator[Finding]:
        """What is wrong in one function that plays both ends.

        Args:
            file: The file.
            function: The function.
            names: The names in it.
        """


@register("check", "unchecked-error-rate")
class UncheckedErrorRate(_KeyDistribution):
    """A key is made whatever the channel did."""

    card = CheckCard(
        name="unchecked-error-rate",
        idea="Find key distribution that takes no error rate, or takes one that decides nothing.",
        source=_BB84,
        title="the error rate of the channel is not checked",
        severity="error",
        proves="No comparison in the function depends on an error rate: the key is given out whatever it is.",
        cannot=("A caller that checks a rate which the function gives back is not followed.",),
        consequence="An eavesdropper who measures every photon gets the key, and nobody notices.",
        remedy="Compare a random sample, abort above the tolerated rate, and shorten the key by what the rate leaks.",
    )

    def read(self, file: SourceFile, tree: ast.Module) -> Iterator[Finding]:
        """The functions that make a key, where no error rate decides anything in the whole file."""
        rates = {
            node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and words_of(node.id) & _RATE
        }
        if rates & {name for node in ast.walk(tree) for name in _deciding(node)}:
            return
        yield from super().read(file, tree)

    def judge(self, file: SourceFile, function: Function, names: set[str]) -> Iterator[Finding]:
        """That a key is made."""
        rates = sorted(name for name in names if words_of(name) & _RATE)
        taken = f"takes {', '.join(rates)}, which decides nothing" if rates else "takes no error rate"
        yield Finding(what=f"{function.name} makes a key and {taken}", place=file.at(function))


def _deciding(node: ast.AST) -> Iterator[str]:
    """Names that are compared or given back."""
    if isinstance(node, ast.Compare) or (isinstance(node, ast.Return) and node.value is not None):
        yield from (part.id for part in ast.walk(node) if isinstance(part, ast.Name))


@register("check", "key-compared-in-the-clear")
class KeyComparedInTheClear(_KeyDistribution):
    """The two ends' keys are compared as a whole."""

    card = CheckCard(
        name="key-compared-in-the-clear",
        idea="Find comparisons of both ends' whole keys inside a key distribution.",
        source=_BB84,
        title="the key is compared in the clear",
        severity="error",
        proves="The code decides by both ends' secret keys at once, which no party holds.",
        cannot=("Comparisons in a test beside the protocol are not told from those inside it.",),
        consequence="In a real run somebody would have to send the key: then the network has it.",
        remedy="Compare tags of a universal hash, or a sample that is thrown away.",
    )

    def judge(self, file: SourceFile, function: Function, names: set[str]) -> Iterator[Finding]:
        """Every comparison of both keys."""
        for node in ast.walk(function):
            sides = _sides(node)
            if sides and _whole_key(sides[0]) and _whole_key(sides[1]) and _two_ends(sides):
                yield Finding(what=f"{ast.unparse(node)} compares both ends' keys", place=file.at(node))


def _plays_both_ends(name: str, names: set[str]) -> bool:
    """Whether a function holds secrets of both ends, or says that it is a key distribution."""
    words = [words_of(one) for one in names]
    both = all(any(end & found for found in words) for end in ({"alice"}, {"bob"}))
    said = words_of(name) & {"bb84", "qkd", "e91", "b92"} or "bb84" in name.lower()
    basis = any(found & {"basis", "bases"} for found in words)
    return basis and (both or bool(said))


def _sides(node: ast.AST) -> tuple[ast.expr, ast.expr] | None:
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.Eq | ast.NotEq):
        return node.left, node.comparators[0]
    if isinstance(node, ast.Call) and len(node.args) > 1 and isinstance(node.func, ast.Attribute | ast.Name):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        if name in {"array_equal", "allclose", "compare_digest"}:
            return node.args[0], node.args[1]
    return None


def _whole_key(side: ast.expr) -> bool:
    return isinstance(side, ast.Name | ast.Attribute) and bool(words_of(_last(side)) & {"key", "keys"})


def _last(side: ast.expr) -> str:
    return side.attr if isinstance(side, ast.Attribute) else side.id if isinstance(side, ast.Name) else ""


def _two_ends(sides: tuple[ast.expr, ast.expr]) -> bool:
    words = [words_of(ast.unparse(side).replace(".", "_")) for side in sides]
    return any(words[0] & first and words[1] & second for first, second in (_ENDS, _ENDS[::-1]))

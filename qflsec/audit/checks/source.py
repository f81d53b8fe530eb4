"""What can be read in the code, without running any of it."""

from __future__ import annotations

import ast
import re
from abc import abstractmethod
from collections.abc import Iterator

from qflsec.audit.check import Bench, Check
from qflsec.audit.outcome import Finding
from qflsec.audit.parts import SourceCode, SourceFile

__all__ = ["Function", "SourceCheck", "called", "dotted", "functions", "words_of"]

Function = ast.FunctionDef | ast.AsyncFunctionDef


class SourceCheck(Check):
    """A check that reads one syntax tree after the other; a file that does not parse is passed over here.

    That it does not parse is told when it is run.
    """

    looks_at = SourceCode

    def run(self, part: SourceCode, bench: Bench) -> Iterator[Finding]:
        """What is found in each file."""
        for file in part.files:
            try:
                tree = file.tree
            except SyntaxError:
                continue
            yield from self.read(file, tree)

    @abstractmethod
    def read(self, file: SourceFile, tree: ast.Module) -> Iterator[Finding]:
        """What is wrong in one file.

        Args:
            file: The file.
            tree: Its syntax tree.
        """


def called(node: ast.AST) -> str:
    """The dotted name of what a call calls, as it is written; empty for anything else."""
    return dotted(node.func) if isinstance(node, ast.Call) else ""


def dotted(node: ast.AST) -> str:
    """A dotted name as it is written; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        front = dotted(node.value)
        return f"{front}.{node.attr}" if front else node.attr
    return ""


def functions(tree: ast.AST) -> Iterator[Function]:
    """Every function of a file."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def words_of(name: str) -> frozenset[str]:
    """The words of a name, in lower case: of ``aliceKey`` and ``alice_key`` the same two."""
    return frozenset(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_").split("_"))

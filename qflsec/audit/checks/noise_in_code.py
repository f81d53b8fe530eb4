"""Formulas for the noise of differential privacy."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from qflsec.audit.checks.source import SourceCheck, called
from qflsec.audit.outcome import Finding
from qflsec.audit.parts import SourceFile
from qflsec.base import CheckCard, Source, register

__all__ = ["NoiseFormula"]

_CONSTANT = 1.25
_DWORK = Source(
    paper="Dwork, Roth, The algorithmic foundations of differential privacy", year=2014, where="theorem 3.22"
)


@register("check", "noise-formula")
class NoiseFormula(SourceCheck):
    """The classical scale of Gaussian noise, written wrongly or used where it does not hold."""

    card = CheckCard(
        name="noise-formula",
        idea="Find ln(1.25 / delta) without the square root, and with an epsilon of more than 1.",
        source=_DWORK,
        title="the scale of the noise is not that of its epsilon",
        severity="error",
        proves="The theorem asks for sigma >= sensitivity * sqrt(2 ln(1.25 / delta)) / epsilon, and for epsilon < 1.",
        cannot=("Other formulas are not read; the accountant's check compares what is really done.",),
        consequence="The claimed epsilon is not that of the noise: too little of it in one direction, wasted accuracy in the other.",
        remedy="Calibrate with an accountant: opacus.accountants.utils.get_noise_multiplier, or qflsec epsilon.",
    )

    def read(self, file: SourceFile, tree: ast.Module) -> Iterator[Finding]:
        """Every statement with such a logarithm."""
        for statement in ast.walk(tree):
            if isinstance(statement, ast.Assign | ast.Return | ast.AnnAssign) and statement.value is not None:
                logs = [node for node in ast.walk(statement.value) if _is_log(node)]
                if logs and not any(_is_root(node, logs) for node in ast.walk(statement.value)):
                    said = ast.unparse(statement.value)
                    yield Finding(
                        what=f"{said} has no square root over its logarithm", place=file.at(statement)
                    )
                elif logs and (epsilon := _large_epsilon(statement.value, tree)):
                    yield Finding(
                        what=f"the formula holds for epsilon below 1, and epsilon is {epsilon:g}",
                        place=file.at(statement),
                        severity="warning",
                    )


def _is_log(node: ast.AST) -> bool:
    inside = isinstance(node, ast.Call) and called(node).rpartition(".")[2] == "log" and len(node.args) == 1
    return inside and any(isinstance(one, ast.Constant) and one.value == _CONSTANT for one in ast.walk(node))


def _is_root(node: ast.AST, logs: list[ast.AST]) -> bool:
    """Whether a node is a square root with one of the logarithms under it."""
    call = isinstance(node, ast.Call) and called(node).rpartition(".")[2] == "sqrt"
    power = (
        isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Pow)
        and isinstance(node.right, ast.Constant)
        and node.right.value == 0.5
    )
    return (call or power) and any(one in logs for one in ast.walk(node))


def _large_epsilon(value: ast.expr, tree: ast.Module) -> float:
    """The epsilon that a formula divides by, where the file binds it to a constant of more than 1; 0 otherwise."""
    names = {
        part.id
        for node in ast.walk(value)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
        for part in ast.walk(node.right)
        if isinstance(part, ast.Name) and part.id.lower().startswith("eps")
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            bound = {target.id for target in node.targets if isinstance(target, ast.Name)}
            if bound & names and isinstance(node.value.value, int | float) and node.value.value > 1:
                return float(node.value.value)
    return 0.0

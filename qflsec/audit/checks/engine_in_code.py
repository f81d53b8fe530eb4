"""Privacy engines that are made again in each round: their account begins anew."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from qflsec.audit.checks.source import Function, SourceCheck, called, functions, words_of
from qflsec.audit.outcome import Finding
from qflsec.audit.parts import SourceFile
from qflsec.base import CheckCard, Source, register

__all__ = ["BudgetReset"]

_ENGINES = frozenset({"PrivacyEngine", "RDPAccountant", "PRVAccountant", "GaussianAccountant"})
_ROUND = frozenset({"fit", "round"})


@register("check", "budget-reset")
class BudgetReset(SourceCheck):
    """An accountant that forgets the rounds before."""

    card = CheckCard(
        name="budget-reset",
        idea="Find privacy engines and accountants that are made in a loop over rounds or in a client's fit.",
        source=Source(
            paper="Dwork, Rothblum, Vadhan, Boosting and differential privacy",
            year=2010,
            where="theorem III.3, composition",
        ),
        title="the privacy budget begins anew in each round",
        severity="error",
        proves="The engine is made where every round passes, so that its epsilon is that of one round.",
        cannot=("An account that is kept elsewhere, and restored, is not seen.",),
        consequence="The reported epsilon is that of the last round; that of the training is many times as large.",
        remedy="Make one engine per client, keep it over rounds, or add up the rounds' history in one accountant.",
    )

    def read(self, file: SourceFile, tree: ast.Module) -> Iterator[Finding]:
        """Every engine that is made in a loop or in a round's function."""
        kept = {"state_dict", "load_state_dict", "history"}
        if any(
            isinstance(node, ast.Attribute) and node.attr in kept and "account" in ast.unparse(node.value)
            for node in ast.walk(tree)
        ):
            return
        rounds: list[ast.AST] = [
            node for node in ast.walk(tree) if isinstance(node, ast.For | ast.While) and _of_rounds(node)
        ]
        rounds += [one for one in functions(tree) if _is_round(one)]
        seen = set()
        for block in rounds:
            for node in ast.walk(block):
                name = called(node).rpartition(".")[2]
                if name in _ENGINES and id(node) not in seen:
                    seen.add(id(node))
                    yield Finding(what=f"{name} is made in each round", place=file.at(node))


def _of_rounds(loop: ast.For | ast.While) -> bool:
    """Whether a loop is over rounds, by the names in its head."""
    head = loop.target if isinstance(loop, ast.For) else loop.test
    names = [*ast.walk(head), *(ast.walk(loop.iter) if isinstance(loop, ast.For) else [])]
    words = frozenset().union(*(words_of(one.id) for one in names if isinstance(one, ast.Name)), frozenset())
    return bool(words & {"round", "rounds", "rnd", "epoch", "epochs"})


def _is_round(function: Function) -> bool:
    return function.name == "fit" and bool(function.args.args) and function.args.args[0].arg == "self"

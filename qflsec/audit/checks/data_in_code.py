"""How the code splits, scales and hands out records."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from qflsec.audit.checks.source import SourceCheck, called, functions, words_of
from qflsec.audit.outcome import Finding
from qflsec.audit.parts import SourceFile
from qflsec.base import CheckCard, Source, register

__all__ = ["EvaluatedOnTraining", "FallbackPartition", "SameSeedForAll", "ScalerOnEverything"]

_KAPOOR = Source(
    paper="Kapoor, Narayanan, Leakage and the reproducibility crisis in machine-learning-based science, Patterns 4",
    year=2023,
    where="table 1, L1",
)
_SCALERS = frozenset({"StandardScaler", "MinMaxScaler", "RobustScaler", "MaxAbsScaler", "Normalizer", "PCA", "QuantileTransformer"})  # fmt: skip
_SCORES = frozenset({"accuracy_score", "accuracy", "score", "evaluate", "f1_score", "roc_auc_score"})
_HELD_OUT = frozenset({"test", "val", "valid", "validation", "eval", "heldout", "holdout"})
_CLIENT = frozenset({"client", "cid", "partition", "node"})


@register("check", "scaler-on-everything")
class ScalerOnEverything(SourceCheck):
    """A scaler or PCA that is fitted before records are split."""

    card = CheckCard(
        name="scaler-on-everything",
        idea="Find scalers and PCA that are fitted above train_test_split in the same function.",
        source=_KAPOOR,
        title="a scaler is fitted on records that are held out later",
        severity="warning",
        proves="Means, ranges or axes that the model is trained with were computed from test records, and from all clients'.",
        cannot=("Scalers that are fitted in one function and used in another are not followed.",),
        consequence="Accuracy is told too high, and every client's statistics reached whoever fitted the scaler, outside any account.",
        remedy="Split first, fit on a client's own training records or on public ranges, and account for what is shared.",
    )

    def read(self, file: SourceFile, tree: ast.Module) -> Iterator[Finding]:
        """Every fit above a split of the same block of code."""
        for block in (tree, *functions(tree)):
            own = list(_own_nodes(block))
            scalers = {
                target.id
                for node in own
                if isinstance(node, ast.Assign) and called(node.value).rpartition(".")[2] in _SCALERS
                for target in node.targets
                if isinstance(target, ast.Name)
            }
            splits = [
                node.lineno
                for node in own
                if called(node).rpartition(".")[2] == "train_test_split" and isinstance(node, ast.Call)
            ]
            for node in own:
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                    continue
                owner = node.func.value
                fitted = isinstance(owner, ast.Name) and owner.id in scalers
                made = called(owner).rpartition(".")[2] in _SCALERS
                if (
                    node.func.attr in {"fit", "fit_transform"}
                    and (fitted or made)
                    and any(s > node.lineno for s in splits)
                ):
                    yield Finding(what=f"{ast.unparse(node)} comes before the split", place=file.at(node))


@register("check", "evaluated-on-training")
class EvaluatedOnTraining(SourceCheck):
    """Accuracy that is taken on training records alone."""

    card = CheckCard(
        name="evaluated-on-training",
        idea="Find scores of names with 'train' in them, in code that scores nothing held out.",
        source=_KAPOOR,
        title="accuracy is measured on training records",
        severity="error",
        proves="Every score of the file is taken on names that say training.",
        cannot=("It goes by the names of variables.",),
        consequence="The accuracy says how well the model remembers, and nothing of other records.",
        remedy="Keep records out of training, and score on them.",
    )

    def read(self, file: SourceFile, tree: ast.Module) -> Iterator[Finding]:
        """The first such score, where no score is on held-out records."""
        on_training = []
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or called(node).rpartition(".")[2] not in _SCORES:
                continue
            words: frozenset[str] = frozenset().union(
                *(
                    words_of(part.id)
                    for one in node.args
                    for part in ast.walk(one)
                    if isinstance(part, ast.Name)
                )
            )
            if words & _HELD_OUT or words & {"xt", "yt"}:
                return
            if words & {"train", "trainset"}:
                on_training.append(node)
        for node in on_training[:1]:
            yield Finding(
                what=f"{ast.unparse(node)} is the only kind of score in the file", place=file.at(node)
            )


@register("check", "same-seed-for-all")
class SameSeedForAll(SourceCheck):
    """A client's data drawn from a seed that does not depend on the client."""

    card = CheckCard(
        name="same-seed-for-all",
        idea="Find functions of a client's number that draw with a constant seed and do not use the number.",
        source=_KAPOOR,
        title="every client gets the same records",
        severity="error",
        proves="The function takes a client's number, never uses it, and draws from a constant seed.",
        cannot=("A number that is used and has no effect is found by running the split, not here.",),
        consequence="Nothing is federated: one client's records are everybody's, and anonymity among clients is one of one.",
        remedy="Draw one permutation and give each client its own part of it.",
    )

    def read(self, file: SourceFile, tree: ast.Module) -> Iterator[Finding]:
        """Every such function."""
        for function in functions(tree):
            numbers = {one.arg for one in function.args.args if words_of(one.arg) & _CLIENT}
            used = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
            seeds = [node for node in ast.walk(function) if _constant_seed(node)]
            if numbers and not numbers & used and seeds:
                yield Finding(
                    what=f"{function.name} does not use {', '.join(sorted(numbers))} and draws with {ast.unparse(seeds[0])}",
                    place=file.at(function),
                )


@register("check", "fallback-partition")
class FallbackPartition(SourceCheck):
    """An error that makes every client the first one."""

    card = CheckCard(
        name="fallback-partition",
        idea="Find handlers of errors that set a client's number to a constant.",
        source=_KAPOOR,
        title="an error makes every client the same one",
        severity="warning",
        proves="Where the number of a client cannot be read, a constant takes its place without a word.",
        cannot=("Whether the error ever comes is found by running the split, not here.",),
        consequence="All clients may train on the same records, and nobody notices.",
        remedy="Let the error end the client.",
    )

    def read(self, file: SourceFile, tree: ast.Module) -> Iterator[Finding]:
        """Every such handler."""
        for handler in (node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)):
            for node in ast.walk(handler):
                if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                    names = [one.id for one in node.targets if isinstance(one, ast.Name)]
                    if any(words_of(name) & _CLIENT for name in names):
                        yield Finding(what=f"{ast.unparse(node)} in a handler of errors", place=file.at(node))


def _own_nodes(block: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a block without those of the functions in it."""
    for child in ast.iter_child_nodes(block):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        yield child
        yield from _own_nodes(child)


def _constant_seed(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    given = {word.arg: word.value for word in node.keywords}
    seed = given.get("random_state", given.get("seed"))
    if isinstance(seed, ast.Constant) and isinstance(seed.value, int):
        return True
    seeders = {"default_rng", "RandomState", "seed", "manual_seed"}
    first = node.args[0] if node.args else None
    return called(node).rpartition(".")[2] in seeders and isinstance(first, ast.Constant)

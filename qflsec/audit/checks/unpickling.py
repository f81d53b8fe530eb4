"""Received bytes that are unpickled: whoever sends them runs code."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from qflsec.audit.checks.source import SourceCheck, called
from qflsec.audit.outcome import Finding
from qflsec.audit.parts import SourceFile
from qflsec.base import CheckCard, Source, register

__all__ = ["Unpickling"]

_LOADERS = frozenset(
    {"pickle.loads", "pickle.load", "cPickle.loads", "dill.loads", "dill.load", "cloudpickle.loads", "joblib.load",
     "pickle.Unpickler", "pd.read_pickle", "pandas.read_pickle", "jsonpickle.decode"}
)  # fmt: skip
_ARRAYS = frozenset({"np.load", "numpy.load"})
_TORCH = "torch.load"


@register("check", "unpickling")
class Unpickling(SourceCheck):
    """Calls that execute what a pickle says."""

    card = CheckCard(
        name="unpickling",
        idea="Find calls that unpickle: pickle, dill, joblib, np.load with pickles, torch.load with code.",
        source=Source(paper="Python documentation, module pickle", year=2025, where="warning at the top"),
        title="models or updates are unpickled",
        severity="error",
        proves="The call executes code that the bytes name, before anything is checked.",
        cannot=("It does not see bytes that are unpickled inside a library.",),
        consequence="Whoever can send the file or the message, a client or the network, runs code at the receiver.",
        remedy="Send plain arrays: np.load(..., allow_pickle=False), torch.load(..., weights_only=True), safetensors.",
    )

    def read(self, file: SourceFile, tree: ast.Module) -> Iterator[Finding]:
        """Every such call."""
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (why := _why(node)):
                yield Finding(what=why, place=file.at(node))


def _why(node: ast.Call) -> str:
    name = called(node)
    given = {word.arg: word.value for word in node.keywords}
    if name in _LOADERS:
        return f"{name} executes what the bytes say"
    if name in _ARRAYS and _is(given.get("allow_pickle"), value=True):
        return f"{name} with allow_pickle=True executes what the file says"
    if name == _TORCH and _is(given.get("weights_only"), value=False):
        return "torch.load with weights_only=False executes what the file says"
    return ""


def _is(node: ast.expr | None, *, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value

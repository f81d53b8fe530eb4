"""Blinding factors come from secrets: no module of the proofs names a statistical generator."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import qflsec.protocols.validated

FORBIDDEN = {
    "random",
    "numpy_stream",
    "stream",
    "Generator",
    "default_rng",
    "rand",
    "randn",
    "manual_seed",
    "seed",
}
MODULES = sorted(Path(qflsec.protocols.validated.__path__[0]).glob("*.py"))


def offences(source: str) -> set[str]:
    words: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            words.add(node.attr)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            words |= {alias.name for alias in node.names}
    return words & FORBIDDEN


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_no_statistical_generator(path: Path) -> None:
    assert offences(path.read_text()) == set()


def test_the_search_finds_one() -> None:
    assert offences("import random") == {"random"}
    assert offences("import numpy as np\nnp.random.default_rng(1)") == {"random", "default_rng"}

"""Keys and masks come from secrets: the syntax trees of these modules name no statistical generator."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import qflsec.protocols.links
import qflsec.protocols.secagg

FORBIDDEN_MODULES = {"random", "numpy.random", "qflsec.base.randomness"}
FORBIDDEN_NAMES = {
    "Generator",
    "RandomState",
    "default_rng",
    "manual_seed",
    "numpy_stream",
    "rand",
    "randint",
    "randn",
    "random",
    "randperm",
    "seed",
    "stream_seed",
}
MODULES = sorted(
    path
    for package in (qflsec.protocols.links, qflsec.protocols.secagg)
    for path in Path(package.__path__[0]).rglob("*.py")
)


def offences(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module or ""] if node.module in FORBIDDEN_MODULES else []
            found += [alias.name for alias in node.names if alias.name in FORBIDDEN_NAMES | {"stream"}]
        elif isinstance(node, ast.Attribute) and node.attr in FORBIDDEN_NAMES:
            found.append(node.attr)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_no_statistical_generator(path: Path) -> None:
    assert offences(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import random",
        "from numpy.random import default_rng",
        "import numpy as np\nnp.random.default_rng(1)",
        "import torch\ntorch.randn(3)",
        "from qflsec.base import stream",
    ],
)
def test_the_search_finds_one(source: str) -> None:
    assert offences(source)

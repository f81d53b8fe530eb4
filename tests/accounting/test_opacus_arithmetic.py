from __future__ import annotations

import json
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from opacus.accountants import PRVAccountant, RDPAccountant

from qflsec.accounting import opacus_arithmetic

RELEASES = [(1.1, 0.05, 200), (0.8, 0.2, 7)]
PROGRAM = """
import json, sys
from qflsec.accounting.opacus_arithmetic import PRVAccountant, RDPAccountant
found = []
for kind in (RDPAccountant, PRVAccountant):
    accountant = kind()
    accountant.history = json.loads(sys.argv[1])
    found.append(accountant.get_epsilon(delta=1e-4))
print(json.dumps([found, sorted(sys.modules)]))
"""


def bounds_alone(releases: list[tuple[float, float, int]]) -> tuple[list[float], set[str]]:
    """The bounds of both accountants in a process of their own, and the modules that it loaded."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(releases)], capture_output=True, text=True, check=True
    )
    found, modules = json.loads(done.stdout)
    return found, set(modules)


@pytest.mark.parametrize("releases", [RELEASES, RELEASES[:1]], ids=["two mechanisms", "one"])
def test_its_bounds_are_those_of_opacus_to_the_last_bit_and_nothing_trains(
    releases: list[tuple[float, float, int]],
) -> None:
    found, modules = bounds_alone(releases)
    wanted = []
    for kind in (RDPAccountant, PRVAccountant):
        accountant = kind()
        accountant.history = list(releases)
        wanted.append(accountant.get_epsilon(delta=1e-4))
    assert found == wanted
    assert not {"opacus", "torch"} & modules
    # two are convolved, by SciPy's own; of one no more is imported than its bound needs
    assert ("scipy.signal._signaltools" in modules) == (len(releases) > 1)
    assert ("scipy.stats" in modules) == (len(releases) > 1)
    assert "scipy.signal" not in modules or len(releases) > 1, "nothing stands in its place any more"


def test_who_has_opacus_imported_takes_it() -> None:
    assert opacus_arithmetic._load()[:2] == (RDPAccountant, PRVAccountant)


def test_where_opacus_lies_differently_it_is_imported_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = ModuleSpec("opacus", None, is_package=True)
    elsewhere.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(opacus_arithmetic, "find_spec", lambda _: elsewhere)
    monkeypatch.setattr(opacus_arithmetic, "_PACKAGE", "_nowhere")
    monkeypatch.delitem(sys.modules, "opacus")  # the rest of it stays
    assert opacus_arithmetic._load()[:2] == (RDPAccountant, PRVAccountant)

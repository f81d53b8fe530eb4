"""What Opacus computes bounds with, without what it trains with.

``import opacus`` brings its engine, which brings ``torch.distributed``: half a second before the first bound, in every
process. The files of its accountants need NumPy and SciPy alone, but for the type of an optimiser that their base class
mentions. They are loaded as a package of their own, with a base class that holds the one thing which the arithmetic
reads, the history. Where Opacus lies differently, or is imported already, its own import is taken.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["PRVAccountant", "RDPAccountant", "rdp"]

_PACKAGE, _SIGNAL = "_qflsec_opacus_accountants", "scipy.signal"


class _Accountant:
    """Releases by their noise multiplier, sample rate and number."""

    def __init__(self) -> None:
        self.history: list[tuple[float, float, int]] = []


def _files() -> tuple[Any, Any, Any]:
    """The accountants and the Renyi formulas, from the files alone."""
    spec = find_spec("opacus")  # does not run the package
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("opacus is not installed as a folder", name="opacus")
    package, base = ModuleType(_PACKAGE), ModuleType(f"{_PACKAGE}.accountant")
    package.__path__ = [str(Path(spec.submodule_search_locations[0]) / "accountants")]
    base.IAccountant = _Accountant  # type: ignore[attr-defined]
    sys.modules[_PACKAGE], sys.modules[base.__name__] = package, base
    with _convolution_when_asked():
        parts = [importlib.import_module(f"{_PACKAGE}.{name}") for name in ("rdp", "prv", "analysis.rdp")]
    return parts[0].RDPAccountant, parts[1].PRVAccountant, parts[2]


@contextmanager
def _convolution_when_asked() -> Iterator[None]:
    """Imports of one function of scipy.signal find one that imports the package when it is called.

    It brings all of scipy.stats, a fifth of a second in each process, and only composing different mechanisms calls it.
    """
    if _SIGNAL in sys.modules:
        yield
        return
    waiting = ModuleType(_SIGNAL)
    waiting.convolve = _convolve  # type: ignore[attr-defined]
    sys.modules[_SIGNAL] = waiting
    try:
        yield
    finally:
        del sys.modules[_SIGNAL]


def _convolve(*given: Any, **named: Any) -> Any:  # noqa: ANN401 - it passes on what it is given
    return importlib.import_module(_SIGNAL).convolve(*given, **named)


def _whole() -> tuple[Any, Any, Any]:
    """The same of Opacus as it is."""
    accountants = importlib.import_module("opacus.accountants")
    formulas = importlib.import_module("opacus.accountants.analysis.rdp")
    return accountants.RDPAccountant, accountants.PRVAccountant, formulas


def _load() -> tuple[Any, Any, Any]:
    if "opacus" in sys.modules:
        return _whole()
    try:
        return _files()
    except (ImportError, AttributeError):
        return _whole()


RDPAccountant, PRVAccountant, rdp = _load()

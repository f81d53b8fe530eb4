"""Privacy and security toolkit with an attack/defense lab for quantum federated learning.

The names that most scripts need can be imported from here; each is loaded when it is first asked for, so that
``import qflsec`` costs nothing. Everything else has its place in a package: ``qflsec.attacks``, ``qflsec.threat``, ...
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from qflsec.version import __version__

if TYPE_CHECKING:
    from qflsec.data import DataSpec
    from qflsec.federation import FederationConfig, Pipeline, RunSpec, Stack, run_batch
    from qflsec.lab import load_spec
    from qflsec.lab import run as run_matrix
    from qflsec.models import build_model
    from qflsec.report import write_report

__all__ = [
    "DataSpec",
    "FederationConfig",
    "Pipeline",
    "RunSpec",
    "Stack",
    "__version__",
    "build_model",
    "load_spec",
    "run_batch",
    "run_matrix",
    "write_report",
]

_PLACES = {
    "DataSpec": "qflsec.data:DataSpec",
    "FederationConfig": "qflsec.federation:FederationConfig",
    "Pipeline": "qflsec.federation:Pipeline",
    "RunSpec": "qflsec.federation:RunSpec",
    "Stack": "qflsec.federation:Stack",
    "build_model": "qflsec.models:build_model",
    "load_spec": "qflsec.lab:load_spec",
    "run_batch": "qflsec.federation:run_batch",
    "run_matrix": "qflsec.lab:run",
    "write_report": "qflsec.report:write_report",
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module 'qflsec' has no attribute {name!r}")
    module, _, attribute = _PLACES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

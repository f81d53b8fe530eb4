"""Privacy and security toolkit with an attack/defense lab for quantum federated learning.

The names that most scripts need can be imported from here; each is loaded when it is first asked for, so that
``import qflsec`` costs nothing. Everything else has its place in a package: ``qflsec.attacks``, ``qflsec.threat``, ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qflsec.base.faces import lazily
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

__getattr__, __dir__ = lazily(__name__)

"""An audit's result as text, HTML, JUnit XML and SARIF."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qflsec.base.faces import lazily

if TYPE_CHECKING:
    from qflsec.audit.outputs.files import write_outputs
    from qflsec.audit.outputs.text import print_audit

__all__ = ["print_audit", "write_outputs"]

__getattr__, __dir__ = lazily(__name__)

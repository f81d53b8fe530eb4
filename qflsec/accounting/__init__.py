"""The ledger of guarantees, DP accountants and the statistics of intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qflsec.base.faces import lazily

if TYPE_CHECKING:
    from qflsec.accounting.account import ObserverAccount, observer_account
    from qflsec.accounting.audit_ceilings import audit_ceiling
    from qflsec.accounting.audited import AuditedEpsilon, audit_scores
    from qflsec.accounting.canary_states import audit_canary_states
    from qflsec.accounting.context import CircuitUse, LedgerContext, Observer, Preparation, Seeds, Training
    from qflsec.accounting.ledger import Adjacency, Guarantee, LedgerRow, dp_statement, render_ledger
    from qflsec.accounting.one_run import audit_one_run
    from qflsec.accounting.people import People
    from qflsec.accounting.rows import RowWriter, run_rows, sum_rows

__all__ = [
    "Adjacency",
    "AuditedEpsilon",
    "CircuitUse",
    "Guarantee",
    "LedgerContext",
    "LedgerRow",
    "Observer",
    "ObserverAccount",
    "People",
    "Preparation",
    "RowWriter",
    "Seeds",
    "Training",
    "audit_canary_states",
    "audit_ceiling",
    "audit_one_run",
    "audit_scores",
    "dp_statement",
    "observer_account",
    "render_ledger",
    "run_rows",
    "sum_rows",
]

__getattr__, __dir__ = lazily(__name__)

"""The ledger of guarantees, DP accountants and the statistics of intervals."""

from __future__ import annotations

from qflsec.accounting.account import ObserverAccount, observer_account, unbounded
from qflsec.accounting.circuits import CircuitUse
from qflsec.accounting.ledger import (
    Guarantee,
    LedgerContext,
    LedgerRow,
    dp_statement,
    not_covered,
    render_ledger,
)

__all__ = [
    "CircuitUse",
    "Guarantee",
    "LedgerContext",
    "LedgerRow",
    "ObserverAccount",
    "dp_statement",
    "not_covered",
    "observer_account",
    "render_ledger",
    "unbounded",
]

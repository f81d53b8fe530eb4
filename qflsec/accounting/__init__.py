"""The ledger of guarantees, DP accountants and the statistics of intervals."""

from __future__ import annotations

from qflsec.accounting.ledger import Guarantee, LedgerContext, LedgerRow, not_covered, render_ledger

__all__ = ["Guarantee", "LedgerContext", "LedgerRow", "not_covered", "render_ledger"]

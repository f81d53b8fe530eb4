"""The report: one self-contained page that opens offline."""

from __future__ import annotations

from qflsec.report.page import render_report, write_report

__all__ = ["render_report", "write_report"]

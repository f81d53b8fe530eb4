"""The report: one self-contained page that opens offline, made of panels."""

from __future__ import annotations

from qflsec.report.chart import Axis, Chart, Series
from qflsec.report.html import figure, table
from qflsec.report.page import render_report, write_report
from qflsec.report.panel import Panel

__all__ = ["Axis", "Chart", "Panel", "Series", "figure", "render_report", "table", "write_report"]

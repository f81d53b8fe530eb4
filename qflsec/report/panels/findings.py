"""The findings: what the numbers support, in five sentences, before everything else."""

from __future__ import annotations

from qflsec.base import register
from qflsec.lab.worlds.channel import ChannelMatrixResult
from qflsec.lab.worlds.delegation import SessionMatrixResult
from qflsec.lab.worlds.federation.results import MatrixResult
from qflsec.report.findings import federation_findings
from qflsec.report.html import fill
from qflsec.report.pair_findings import pair_findings
from qflsec.report.panel import Panel

__all__ = ["Findings", "PairFindings"]


@register("panel", "findings")
class Findings(Panel):
    """The worst attacks, what moved them, at which cost, contradicted claims, and what is open."""

    title = "Findings"
    order = 0.0

    def applies(self, result: object) -> bool:
        """For matrices of the federation."""
        return isinstance(result, MatrixResult)

    def render(self, result: MatrixResult) -> str:
        """Five sentences, and what they rest on."""
        note = (
            "Shown means by a 95 % interval over the seeds; changes are paired by seed. Each interval stands for itself: of "
            "many comparisons in which nothing happens, one in twenty can look like something."
        )
        return fill("panels/findings.html.j2", findings=federation_findings(result), note=note)


@register("panel", "pair-findings")
class PairFindings(Panel):
    """The worst that happened, what stopped it, and what is open."""

    title = "Findings"
    order = 0.0

    def applies(self, result: object) -> bool:
        """For matrices of the quantum channel and of delegated sessions."""
        return isinstance(result, (ChannelMatrixResult, SessionMatrixResult))

    def render(self, result: ChannelMatrixResult | SessionMatrixResult) -> str:
        """Three sentences, and what they rest on."""
        note = "Counts are of the runs that were made; limits are of 95 % Clopper-Pearson intervals."
        return fill("panels/findings.html.j2", findings=pair_findings(result), note=note)

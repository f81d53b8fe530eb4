"""Draw docs/leakage.svg from a store of the preset 'anonymity': what a server learns against the anonymity set.

Usage: qflsec matrix run anonymity --store anonymity.sqlite && python docs/leakage_svg.py anonymity.sqlite docs/leakage.svg
"""

from __future__ import annotations

import sys
from pathlib import Path

from qflsec.lab import MatrixResult, read_result
from qflsec.report.panels.leakage import leakage_chart
from qflsec.report.svg import draw

STYLE = (
    "<style>svg{background:#fff} text{font:12px sans-serif;fill:#444} path{fill:none;stroke:#ccc}"
    " .line,.whisker{stroke:#2563a8;stroke-width:1.5} .mark{fill:#2563a8;stroke:none}"
    " .muted .line{stroke:#999}</style>"
)


def main(store: Path, picture: Path) -> None:
    """Draw the figure."""
    result = read_result(store)
    chart = leakage_chart(result) if isinstance(result, MatrixResult) else None
    if chart is None:
        sys.exit(f"{store} holds no attack at three sizes of the anonymity set")
    svg = str(draw(chart, chart.title)).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    head, body = svg.split(">", 1)
    picture.write_text(f"{head}>{STYLE}{body}\n", encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

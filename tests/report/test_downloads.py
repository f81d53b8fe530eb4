"""Files that the page gives away: they arrive in a browser, and say what the document says."""

from __future__ import annotations

import base64
import csv
import io
import re
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

from qflsec.lab import to_dict
from qflsec.lab.tables import cells_csv, latex, ledger_csv, trials_csv
from qflsec.lab.worlds.federation.results import MatrixResult
from qflsec.report import render_report, write_report

ENDINGS = {"cells.csv": cells_csv, "trials.csv": trials_csv, "ledger.csv": ledger_csv, "matrix.tex": latex}


def test_every_link_holds_its_file(result: MatrixResult) -> None:
    page = render_report(result)
    links = dict(
        re.findall(r'<a download="([^"]+)" href="data:text/[a-z-]+;charset=utf-8;base64,([^"]+)"', page)
    )
    assert [name.rpartition("-")[2] for name in links] == list(ENDINGS)
    for name, data in links.items():
        assert re.fullmatch(r"[A-Za-z0-9.-]+", name), "a name that no file system takes for a path"
        assert base64.b64decode(data).decode() == ENDINGS[name.rpartition("-")[2]](result)


def test_what_is_too_large_is_left_to_the_command_line(result: MatrixResult) -> None:
    row: Any = {**result.ledgers["none", "server"][0], "note": "x" * 1_100_000}
    page = render_report(replace(result, ledgers={("none", "server"): (row,)}))
    assert "write it by <code>qflsec matrix export --format csv-ledger</code>" in page
    assert 'ledger.csv"' not in page
    assert 'cells.csv"' in page


def test_a_browser_saves_tables_and_figures(result: MatrixResult, tmp_path: Path, chromium: Any) -> None:
    path = write_report(result, tmp_path / "report.html")
    page = chromium.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(path.as_uri())

    def saved(place: Any) -> bytes:
        with page.expect_download() as waited:
            place.click()
        file = tmp_path / "saved"
        waited.value.save_as(file)
        return file.read_bytes()

    text = saved(page.locator("a[download$='cells.csv']")).decode()
    found = {(row["attack"], row["column"]): row for row in csv.DictReader(io.StringIO(text))}
    for cell in to_dict(result)["cells"]:
        row = found[cell["attack"], cell["stack"]]
        assert row["state"] == cell["state"]
        if cell["advantage"] is not None:
            assert float(row["advantage"]) == cell["advantage"]["value"]
    assert r"\toprule" in saved(page.locator("a[download$='matrix.tex']")).decode()

    button = page.locator("figure.figure:visible button.png").first
    assert button.get_attribute("aria-label").startswith("Save as PNG: ")
    image = saved(button)
    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", image[16:24])
    assert width == 2 * 560
    assert height > 500
    assert len(image) > 8_000, "a title, axes, marks and a key, not an empty sheet"
    assert not problems, problems
    page.close()

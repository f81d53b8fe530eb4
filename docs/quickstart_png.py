"""Make the picture in the README: the findings and the matrix of a report, by headless Chromium.

Usage: python docs/quickstart_png.py results/quickstart.html docs/quickstart.png
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright


def main(report: Path, picture: Path) -> None:
    """Photograph the page from its top to the last attack of the matrix."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
        page.goto(report.absolute().as_uri())
        rows = page.locator("table.matrix tbody:not(.summary)").bounding_box()
        if rows is None:
            sys.exit(f"{report} shows no matrix of the federation")
        height = rows["y"] + rows["height"] + 2
        page.screenshot(path=picture, full_page=True, clip={"x": 0, "y": 0, "width": 1280, "height": height})
        browser.close()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

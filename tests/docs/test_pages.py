"""The pages hang together: every link leads somewhere, every page is found from the README, and tables are whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]


def links(page: Path) -> list[tuple[Path, str]]:
    """The files that a page links to, with the heading in each."""
    found = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8"))
    return [((page.parent / file).resolve() if file else page, heading) for file, heading in found]


def anchors(page: Path) -> set[str]:
    """The names by which a page's headings are linked to, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    for file, heading in links(page):
        assert file.exists(), file
        assert not heading or heading in anchors(file), (file.name, heading)
    named = re.findall(
        r"`((?:docs|notebooks|tests|findings|qflsec)/[\w/.-]+\.\w+)`", page.read_text(encoding="utf-8")
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_page_is_found_from_the_readme() -> None:
    reached, new = {README}, [README]
    while new:
        page = new.pop()
        text = page.read_text(encoding="utf-8")
        named = [ROOT / name for name in re.findall(r"`(docs/[\w/.-]+\.md)`", text)]
        for file in {*(file for file, _ in links(page)), *named} - reached:
            if file.suffix == ".md":
                reached.add(file)
                new.append(file)
    assert [page for page in PAGES if page not in reached] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_rows_of_a_table_have_as_many_cells_as_its_head(page: Path) -> None:
    cells = 0
    for line in page.read_text(encoding="utf-8").splitlines():
        count = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not (cells and count) or count == cells, line[:100]
        cells = count


def test_commands_of_published_claims_name_what_exists() -> None:
    lines = (ROOT / "docs" / "published_claims.md").read_text(encoding="utf-8").splitlines()
    commands = [line.strip("|").split("|")[-1].strip() for line in lines if line.startswith("|")][2:]
    assert len(commands) >= 8
    for command in commands:
        files = re.findall(r"(?:findings|tests)/[\w/.-]+", command)
        preset = re.fullmatch(r"`qflsec matrix run ([\w-]+)`", command)
        assert files or preset or command.startswith("`python -c "), command
        assert preset is None or (ROOT / "qflsec/lab/presets" / f"{preset[1]}.toml").exists(), command
        assert all((ROOT / file).exists() for file in files), command
    named = " ".join(commands)
    assert [file.name for file in (ROOT / "findings").iterdir() if file.name not in named] == []

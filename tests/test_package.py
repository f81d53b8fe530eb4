"""The package as it is built and laid out."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[1]


def tracked(pattern: str) -> list[str]:
    try:
        listing = subprocess.run(
            ["git", "ls-files", "--", pattern], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return listing.stdout.splitlines()


def test_the_wheel_holds_exactly_the_tracked_modules(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in [name for name in tracked(".") if (ROOT / name).is_file()]:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(source),
    ]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-2000:]
    wheel = next(tmp_path.glob("*.whl"))
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == {name for name in tracked("qflsec") if (ROOT / name).is_file()}


def test_the_links_at_the_root_point_into_the_package() -> None:
    for name in ("attacks", "defenses", "protocols"):
        link = ROOT / name
        assert link.is_symlink()
        assert link.readlink() == Path("qflsec") / name


def test_party_and_key_code_imports_no_statistical_generator() -> None:
    """Secrets come from the operating system: no ``random`` and no ``numpy.random`` where keys are made."""
    banned = {"random", "numpy.random"}
    for path in [*sorted((ROOT / "qflsec/protocols").rglob("*.py")), ROOT / "qflsec/federation/identity.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not banned & {alias.name for alias in node.names}, path
            if isinstance(node, ast.ImportFrom):
                assert node.module not in banned, path
                assert not (node.module == "numpy" and "random" in {alias.name for alias in node.names}), path


def test_every_module_is_short() -> None:
    """400 lines at most: one idea, one file."""
    long = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in (ROOT / "qflsec").rglob("*.py")
        if len(path.read_text().splitlines()) > 400
    }
    assert not long


def test_no_module_imports_the_face_of_its_own_package() -> None:
    """The one circle that the contract between siblings cannot see; no module imports the root's face."""
    graph = grimp.build_graph("qflsec", cache_dir=None)
    assert not graph.find_modules_that_directly_import("qflsec")
    assert not {
        (module, imported)
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module) - {"qflsec"}
        if module.startswith(f"{imported}.")
    }


def test_the_version_stands_in_one_place_and_the_citation_follows_it() -> None:
    from qflsec.version import __version__

    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert "__version__" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")

"""What a file imports is read from its syntax tree, through everything that is not installed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.base import ConfigError
from qflsec.base.sources import Sources, content_digest, is_installed, trace


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def covered(folder: Path, root: str = "root.py", **files: str) -> Sources:
    write(folder, {name.replace("__", "/", 1) + ".py": text for name, text in files.items()})
    return trace(folder / root)


FORMS = {
    "plain": "import helper_f",
    "alias": "import helper_f as h",
    "from": "from helper_f import strength",
    "inside a function": "def run():\n    from helper_f import strength\n    return strength",
    "inside a class": "class A:\n    def run(self):\n        import helper_f",
    "import_module": 'import importlib\nh = importlib.import_module("helper_f")',
    "bare import_module": 'from importlib import import_module\nh = import_module("helper_f")',
    "dunder": '__import__("helper_f")',
    "try": "try:\n    import helper_f\nexcept ImportError:\n    helper_f = None",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_import_is_seen(form: str, tmp_path: Path) -> None:
    write(tmp_path, {"root.py": FORMS[form], "helper_f.py": "strength = 1"})
    before = trace(tmp_path / "root.py")
    assert set(before.modules) == {"helper_f"}
    assert before.not_covered == ()
    (tmp_path / "helper_f.py").write_text("strength = 2")
    assert trace(tmp_path / "root.py").digest != before.digest


PACKAGE = {
    "root.py": "from pack_f.a import one",
    "pack_f/__init__.py": "",
    "pack_f/a.py": "from . import b\nfrom .deep.c import three\none = 1",
    "pack_f/b.py": "import importlib\nx = importlib.import_module('.d', __package__)",
    "pack_f/d.py": "from .. import nothing",
    "pack_f/deep/__init__.py": "from .e import *",
    "pack_f/deep/c.py": "three = 3",
    "pack_f/deep/e.py": "",
    "pack_f/idle.py": "",
}


def test_packages_relative_imports_and_what_is_not_imported(tmp_path: Path) -> None:
    write(tmp_path, PACKAGE)
    sources = trace(tmp_path / "root.py")
    assert set(sources.modules) == {
        "pack_f", "pack_f.a", "pack_f.b", "pack_f.d", "pack_f.deep", "pack_f.deep.c", "pack_f.deep.e",
    }  # fmt: skip
    for name in PACKAGE:
        before = trace(tmp_path / "root.py").digest
        path = tmp_path / name
        path.write_text(path.read_text() + "\n# changed\n")
        assert (trace(tmp_path / "root.py").digest != before) == ("idle" not in name), name


def test_a_star_imports_the_modules_that_a_package_names(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "root.py": "from star_f import *",
            "star_f/__init__.py": "__all__ = ['a', 'number']\nnumber = 1",
            "star_f/a.py": "",
            "star_f/b.py": "",
        },
    )
    assert set(trace(tmp_path / "root.py").modules) == {"star_f", "star_f.a"}


def test_a_package_without_an_init_file_and_a_circle(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "root.py": "import space_f.a",
            "space_f/a.py": "import space_f.b",
            "space_f/b.py": "import space_f.a",
        },
    )
    assert set(trace(tmp_path / "root.py").modules) == {"space_f.a", "space_f.b"}


def test_the_place_does_not_enter_and_the_content_does(tmp_path: Path) -> None:
    found = [trace(write(tmp_path / name, PACKAGE) / "root.py").digest for name in ("one", "two/deeper")]
    assert found[0] == found[1]
    alone = trace(write(tmp_path / "alone", {"root.py": "x = 1"}) / "root.py")
    assert alone.digest == content_digest(tmp_path / "alone" / "root.py")


def test_modules_that_swap_their_contents_are_another_program(tmp_path: Path) -> None:
    root = "import swap_a, swap_b\nx = swap_a.v - swap_b.v"
    one = write(tmp_path / "1", {"root.py": root, "swap_a.py": "v = 1", "swap_b.py": "v = 2"})
    two = write(tmp_path / "2", {"root.py": root, "swap_a.py": "v = 2", "swap_b.py": "v = 1"})
    assert trace(one / "root.py").digest != trace(two / "root.py").digest


def test_a_renamed_package_of_the_root_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"__init__.py": "", "attack.py": "from .helper import x", "helper.py": "x = 1"}
    monkeypatch.syspath_prepend(str(tmp_path))
    found = []
    for name in ("old_name_f", "new_name_f"):
        write(tmp_path / name, files)
        found.append(trace(tmp_path / name / "attack.py", module=f"{name}.attack"))
        assert set(found[-1].modules) == {name, f"{name}.helper"}
    assert found[0].digest == found[1].digest


def test_installed_packages_are_covered_by_their_versions(tmp_path: Path) -> None:
    text = "import json, sklearn.svm\nimport no_such_package_f\nfrom qflsec.base import Source\nimport numpy.linalg"
    sources = trace(write(tmp_path, {"root.py": text}) / "root.py")
    assert sources.modules == {}
    assert set(sources.installed) == {"sklearn", "numpy", "no_such_package_f"}
    assert sources.installed["sklearn"].startswith("scikit-learn ")
    assert sources.installed["no_such_package_f"] == "not installed"


def test_what_installed_means() -> None:
    assert is_installed(Path(np.__file__))
    assert is_installed(Path(pytest.__file__))
    assert is_installed(Path(sys.modules["json"].__file__ or ""))
    assert is_installed(Path(sys.modules["qflsec"].__file__ or ""))
    assert not is_installed(Path(__file__))


def test_an_editable_install_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Editable installs put a folder on the search path, or a finder in front of it."""
    write(tmp_path / "src", {"editable_f/__init__.py": "x = 1"})
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    sources = trace(write(tmp_path / "mine", {"root.py": "import editable_f"}) / "root.py")
    assert set(sources.modules) == {"editable_f"}


NOT_FOLLOWED = {
    "a name": "import importlib\nimportlib.import_module(name)",
    "exec": "exec(text)",
    "eval": "eval('1 + 1')",
    "a walk": "import pkgutil\nlist(pkgutil.walk_packages(path))",
    "a location": "import importlib.util\nimportlib.util.spec_from_file_location('x', place)",
    "a run": "import runpy\nrunpy.run_path(place)",
    "syntax": "def",
}


@pytest.mark.parametrize("case", NOT_FOLLOWED)
def test_what_cannot_be_followed_is_named(case: str, tmp_path: Path) -> None:
    sources = trace(
        write(tmp_path, {"root.py": "import helper_n", "helper_n.py": NOT_FOLLOWED[case]}) / "root.py"
    )
    assert len(sources.not_covered) == 1
    assert sources.not_covered[0].startswith("helper_n.py")


def test_methods_called_eval_are_no_such_thing(tmp_path: Path) -> None:
    assert trace(write(tmp_path, {"root.py": "model.eval()"}) / "root.py").not_covered == ()


def test_files_that_a_module_names_are_covered(tmp_path: Path) -> None:
    text = 'from pathlib import Path\ntable = Path(__file__).parent / "tables/weights.txt"\nother = "absent.txt"\n'
    write(tmp_path, {"root.py": text, "tables/weights.txt": "1", "free.txt": "1"})
    before = trace(tmp_path / "root.py")
    assert set(before.data) == {"tables/weights.txt"}
    (tmp_path / "free.txt").write_text("2")
    assert trace(tmp_path / "root.py").digest == before.digest
    (tmp_path / "tables" / "weights.txt").write_text("2")
    assert trace(tmp_path / "root.py").digest != before.digest


def test_a_python_file_that_is_named_is_followed(tmp_path: Path) -> None:
    text = 'import runpy\nrunpy.run_path("part_n.py")'
    write(tmp_path, {"root.py": text, "part_n.py": "import below_n", "below_n.py": ""})
    assert set(trace(tmp_path / "root.py").modules) == {"below_n"}


def test_a_missing_file_is_told() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        trace(Path("/nowhere/root.py"))


@settings(deadline=None, max_examples=25)
@given(graph=st.lists(st.lists(st.integers(0, 5), max_size=3), min_size=6, max_size=6))
def test_exactly_what_can_be_reached_is_covered(
    graph: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("graph")
    for index, below in enumerate(graph):
        (folder / f"node_g{index}.py").write_text("".join(f"import node_g{part}\n" for part in below))
    (folder / "root.py").write_text("import node_g0")
    reached, queue = set(), [0]
    while queue:
        node = queue.pop()
        if node not in reached:
            reached.add(node)
            queue += graph[node]
    assert set(trace(folder / "root.py").modules) == {f"node_g{index}" for index in reached}

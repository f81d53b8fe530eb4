"""A long process runs what stands on disk, or says that it does not."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from qflsec.base import ConfigError
from qflsec.base.user_code import imported_anew, load_file, load_module, sources_in_use


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path / "below_u.py", "value = 1\n")
    put(tmp_path / "above_u.py", "from below_u import value\n")
    return put(
        tmp_path / "root_u.py",
        "from above_u import value\ndef lazy():\n    import lazy_u\n    return lazy_u.value\n",
    )


def test_unchanged_files_are_loaded_once(root: Path) -> None:
    assert load_file(root) is load_file(root)


def test_a_changed_helper_of_a_helper_is_loaded_again(root: Path) -> None:
    assert load_file(root).value == 1
    put(root.parent / "below_u.py", "value = 2\n")
    assert load_file(root).value == 2


def test_a_second_that_holds_two_versions_of_one_size(root: Path) -> None:
    """Python takes the bytecode of the first for the second; the control shows that it would."""
    helper = root.parent / "below_u.py"
    load_file(root)
    times = (helper.stat().st_atime, helper.stat().st_mtime)
    put(helper, "value = 3\n")
    os.utime(helper, times)

    def import_plainly() -> ModuleType:
        spec = importlib.util.spec_from_file_location("plain_u", helper)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    if not sys.dont_write_bytecode:
        assert import_plainly().value == 1
    assert load_file(root).value == 3


def test_an_import_inside_a_function_gets_the_file_beside_it(root: Path, tmp_path: Path) -> None:
    put(root.parent / "lazy_u.py", "value = 'mine'\n")
    first = load_file(root)
    other = put(tmp_path / "other" / "root_u.py", root.read_text())
    put(other.parent / "above_u.py", "value = 5\n")
    put(other.parent / "lazy_u.py", "value = 'theirs'\n")
    second = load_file(other)
    assert (second.value, second.lazy()) == (5, "theirs")
    again = load_file(root)
    assert (again.value, again.lazy()) == (1, "mine")
    assert first.value == 1


def test_a_changed_module_that_was_imported_inside_a_function(root: Path) -> None:
    put(root.parent / "lazy_u.py", "value = 'old'\n")
    assert load_file(root).lazy() == "old"
    put(root.parent / "lazy_u.py", "value = 'new'\n")
    assert load_file(root).lazy() == "new"


def test_a_changed_data_file_is_read_again(tmp_path: Path) -> None:
    put(
        tmp_path / "reader_u.py",
        "from pathlib import Path\nvalue = (Path(__file__).parent / 'd_u.txt').read_text()\n",
    )
    root = put(tmp_path / "root_d.py", "from reader_u import value\n")
    put(tmp_path / "d_u.txt", "1")
    assert load_file(root).value == "1"
    put(tmp_path / "d_u.txt", "2")
    assert load_file(root).value == "2"


def test_named_modules_are_imported_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    put(tmp_path / "pack_u" / "__init__.py", "")
    put(tmp_path / "pack_u" / "helper.py", "value = 1\n")
    put(tmp_path / "pack_u" / "attack.py", "from .helper import value\n")
    first = load_module("pack_u.attack")
    assert load_module("pack_u.attack") is first
    put(tmp_path / "pack_u" / "helper.py", "value = 2\n")
    assert load_module("pack_u.attack").value == 2
    with pytest.raises(ImportError):
        load_module("no_such_module_u")


def test_code_that_was_imported_otherwise_and_has_changed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    put(tmp_path / "helper_o.py", "value = 1\n")
    put(tmp_path / "notebook_o.py", "import helper_o\n")
    module = importlib.import_module("notebook_o")
    before = sources_in_use({"x": module})["x"]
    assert set(before.modules) == {"helper_o"}
    put(tmp_path / "helper_o.py", "value = 2\n")
    with pytest.raises(ConfigError, match=r"changed since it was imported; got helper_o; start Python again"):
        sources_in_use({"x": module})["x"]
    importlib.reload(sys.modules["helper_o"])
    assert sources_in_use({"x": module})["x"].digest != before.digest


def test_code_without_a_file_is_refused() -> None:
    with pytest.raises(ConfigError, match="stands in no file"):
        sources_in_use({"x": ModuleType("typed_at_a_prompt")})


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        put(tmp_path / folder / "root_t.py", "import twin_t\n")
        put(tmp_path / folder / "twin_t.py", "value = 1\n")

    def load() -> None:
        sources_in_use({name: load_file(tmp_path / name / "root_t.py") for name in ("a", "b")})

    load()  # copies do no harm
    put(tmp_path / "b" / "twin_t.py", "value = 2\n")
    with pytest.raises(ConfigError, match="two different files would be imported as 'twin_t'"):
        load()


def test_a_file_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    path = put(tmp_path / "fails_u.py", "1 / 0\n")
    before = set(sys.modules)
    with pytest.raises(ZeroDivisionError):
        load_file(path)
    assert {name for name in set(sys.modules) - before if "fails_u" in name} == set()


def test_a_file_and_what_it_imports_are_executed_once_more(tmp_path: Path) -> None:
    put(tmp_path / "below_x.py", "value = []\n")
    module = load_file(put(tmp_path / "root_x.py", "import math\nfrom below_x import value\n"))
    below, maths = sys.modules["below_x"], sys.modules["math"]
    with imported_anew(module) as again:
        assert again is not module
        assert again.value == []
        assert again.value is not module.value
        assert sys.modules["below_x"] is not below
        assert again.math is maths  # a library is not
    assert sys.modules["below_x"] is below
    assert sys.modules[module.__name__] is module
    with pytest.raises(ConfigError, match="stands in no file"), imported_anew(ModuleType("at_a_prompt")):
        pass


def test_a_module_of_a_package_is_executed_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    put(tmp_path / "pack_y" / "__init__.py", "")
    put(tmp_path / "pack_y" / "part.py", "value = []\n")
    put(tmp_path / "pack_y" / "task.py", "from pack_y.part import value\n")
    module = importlib.import_module("pack_y.task")
    with imported_anew(module) as again:
        assert again.value is not module.value
    assert sys.modules["pack_y.task"] is module
    assert importlib.import_module("pack_y.part").value is module.value


def test_what_fails_the_second_time_leaves_the_first(tmp_path: Path) -> None:
    module = load_file(put(tmp_path / "once_z.py", "import sys\nassert not hasattr(sys, 'z')\nsys.z = 1\n"))
    try:
        with pytest.raises(AssertionError), imported_anew(module):
            pass
    finally:
        del sys.z  # type: ignore[attr-defined]
    assert sys.modules[module.__name__] is module

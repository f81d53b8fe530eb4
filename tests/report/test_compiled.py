"""Compiled templates: taken from the cache only where they are what would be compiled now."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import DictLoader, Environment

from qflsec.report import compiled

TEXT = "{{ x }}!"


class Counting(Environment):
    """Counts what is compiled."""

    made = 0

    def compile(self, *args, **kwargs):  # type: ignore[no-untyped-def] # noqa: ANN201, ANN002, ANN003
        type(self).made += 1
        return super().compile(*args, **kwargs)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(Counting, "made", 0)
    return tmp_path / "qflsec" / "templates"


def said(text: str = TEXT) -> tuple[str, int]:
    """What a new environment makes of a template, and how many were compiled until then."""
    environment = Counting(loader=DictLoader({"a": text}), bytecode_cache=compiled.CompiledTemplates())
    return environment.get_template("a").render(x=1), Counting.made


def test_a_template_is_compiled_once(folder: Path) -> None:
    assert [said(), said()] == [("1!", 1), ("1!", 1)]
    (path,) = folder.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600


def test_another_text_or_another_installation_is_compiled(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [said(), said("{{ x }}?")] == [("1!", 1), ("1?", 2)]
    monkeypatch.setattr(compiled, "installation_digest", lambda: "another")
    assert said("{{ x }}?") == ("1?", 3)
    assert len(list(folder.iterdir())) == 1


def test_what_was_cut_short_or_others_could_write_is_not_run(folder: Path) -> None:
    said()
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:-20])
    assert said() == ("1!", 2)
    path.chmod(0o666)
    assert said() == ("1!", 3)
    assert said() == ("1!", 3)


def test_a_cache_that_cannot_be_written_changes_nothing(folder: Path) -> None:
    folder.parent.write_text("a file where a folder should be")
    assert [said(), said()] == [("1!", 1), ("1!", 2)]

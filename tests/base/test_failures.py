"""Tracebacks are cut to the user's own frames, and stay whole where there are none."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from qflsec.base.errors import ConfigError
from qflsec.base.failures import SHOW_ALL, own_traceback, traceback_of
from qflsec.base.user_code import load_file

USER = """import json


from qflsec.base import ConfigError, find

def helper(text):
    return json.loads(text)

def through_the_package():
    return find("attack", Unhashable())

class Unhashable:
    __hash__ = None

def wrapped():
    try:
        helper("{")
    except ValueError as error:
        raise ConfigError("the file is broken") from error

def twice():
    try:
        helper("{")
    except ValueError:
        {}["another"]

def refuses():
    raise ConfigError("a value of mine is out of range")
"""


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(USER)
    return load_file("mine.py")


def caught(function: Any, *arguments: Any) -> Exception:
    """What a call raises, as if the package had called: without the frame of this file."""
    try:
        function(*arguments)
    except Exception as error:  # noqa: BLE001 - whatever the user's code raises
        return error.with_traceback(error.__traceback__.tb_next if error.__traceback__ else None)
    raise AssertionError


def test_library_frames_are_left_out(user: ModuleType) -> None:
    text = own_traceback(caught(user.helper, "{"))
    lines = text.splitlines()
    assert lines[0] == "Traceback (your code alone; all frames with QFLSEC_TRACEBACK=all):"
    assert lines[1] == '  File "mine.py", line 7, in helper'
    assert lines[2] == "    return json.loads(text)"
    assert lines[-1].startswith("json.decoder.JSONDecodeError: Expecting property name")
    assert "decoder.py" not in text
    assert traceback_of(caught(user.helper, "{")) == text


def test_frames_of_the_package_are_left_out(user: ModuleType) -> None:
    text = own_traceback(caught(user.through_the_package))
    assert text.count("  File ") == 1
    assert 'find("attack", Unhashable())' in text
    assert "TypeError" in text


def test_the_mistake_is_told_where_errors_cause_others(user: ModuleType) -> None:
    text = own_traceback(caught(user.wrapped))
    assert [line.split(", ")[-1] for line in text.splitlines() if line.startswith("  File")] == [
        "in wrapped",
        "in helper",
    ]
    assert "JSONDecodeError" in text
    assert "the file is broken" not in text
    assert "KeyError: 'another'" in own_traceback(caught(user.twice))


def test_an_error_that_says_how_to_mend_it_is_no_mistake_of_the_code(user: ModuleType) -> None:
    error = caught(user.refuses)
    assert isinstance(error, ConfigError)
    assert own_traceback(error) == traceback_of(error) == ""


def test_code_that_does_not_parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.py").write_text("def run(:\n    pass\n")
    text = own_traceback(caught(load_file, "bad.py"))
    assert "bad.py" in text
    assert "line 1" in text
    assert "SyntaxError" in text
    assert "importlib" not in text


def test_without_frames_of_the_user_it_is_whole() -> None:
    error = caught(functools.partial(json.loads, "{"))
    assert own_traceback(error) == ""
    assert "decoder.py" in traceback_of(error)


def test_all_frames_on_demand(user: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SHOW_ALL, "all")
    assert "decoder.py" in own_traceback(caught(user.helper, "{"))
    assert "refuses" in traceback_of(caught(user.refuses))

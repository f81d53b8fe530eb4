"""Lazy faces: every name leads to what its import says, and a mistake is told like any other."""

from __future__ import annotations

import importlib

import pytest

from qflsec.base.installation import PACKAGE

FACES = sorted(
    ".".join(file.relative_to(PACKAGE.parent).parent.parts)
    for file in PACKAGE.rglob("__init__.py")
    if "= lazily(__name__)" in file.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", FACES)
def test_every_name_is_there_and_none_is_one_of_the_face_own_modules(name: str) -> None:
    face = importlib.import_module(name)
    for part in face.__all__:
        found = getattr(face, part)
        assert type(found).__name__ != "module", part
        assert getattr(face, part) is found
    assert set(face.__all__) <= set(dir(face))
    assert len(set(face.__all__)) == len(face.__all__)


@pytest.mark.parametrize("name", FACES)
def test_a_name_that_is_not_there(name: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'nothing'"):
        importlib.import_module(name).nothing  # noqa: B018

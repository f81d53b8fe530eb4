"""What the sources say that a plugin takes is what it takes."""

from __future__ import annotations

import dataclasses

import pytest

from qflsec.base.registry import Kind, find, names
from qflsec.base.written import written_keys
from qflsec.lab.grid.schema import table_of


@pytest.mark.parametrize("kind", ["attack", "layer", "threat", "topology"])
def test_parameters_are_those_of_the_imported_plugins(kind: Kind) -> None:
    registered = names(kind)
    assert registered
    for name in registered:
        assert set(written_keys(kind, name) or ()) == set(table_of(find(kind, name)).model_fields), name


def test_models_take_the_keys_of_their_configuration() -> None:
    for name in names("model"):
        expected = {field.name for field in dataclasses.fields(find("model", name).keys)}
        assert set(written_keys("model", name) or ()) == expected, name


def test_what_no_source_registers_is_not_known() -> None:
    assert written_keys("attack", "no-such-attack") is None

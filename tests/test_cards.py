"""Every registered attack and layer carries a card, and can be made again from its configuration."""

from __future__ import annotations

import dataclasses

import pytest

from qflsec.attacks import Attack, attack_from_config
from qflsec.base import AttackCard, ConfigError, DefenseCard, find, names
from qflsec.base.registry import Kind, spelled
from qflsec.federation import Layer, layer_from_config
from qflsec.lab.conformance import card_faults, value_faults

LAYERS = names("layer")
ATTACKS = names("attack")


def test_the_registry_is_not_empty() -> None:
    assert {"client-clip", "dp-sgd", "norm-bound", "median", "masked", "aes-gcm-link", "fedavg"} <= set(
        LAYERS
    )


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    kind = find("layer", name)
    assert isinstance(kind.card, DefenseCard)
    assert list(card_faults(kind.card, name)) == []
    layer = kind()
    assert isinstance(layer, Layer)
    assert layer.to_config()["name"] == name
    assert list(value_faults(layer, layer_from_config)) == []


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks(name: str) -> None:
    kind = find("attack", name)
    assert isinstance(kind.card, AttackCard)
    assert list(card_faults(kind.card, name)) == []
    if not issubclass(kind, Attack):
        return  # attacks inside a protocol have configurations of their own
    attack = kind()
    assert attack.to_config()["name"] == name
    assert list(value_faults(attack, attack_from_config)) == []


@pytest.mark.parametrize("kind", ["attack", "dataset", "layer", "model", "topology"])
def test_names_are_those_that_the_sources_spell(kind: Kind) -> None:
    own = {name for name in names(kind) if find(kind, name).__module__.startswith("qflsec.")}
    assert set(spelled(kind)) == own


def test_an_empty_field_is_noticed() -> None:
    card = find("layer", "median").card
    assert list(card_faults(dataclasses.replace(card, claim=""), "median")) == [
        "'claim' of the card is empty"
    ]
    assert list(card_faults(dataclasses.replace(card, name="other"), "median"))
    for wrong in ("hide anything", "It is " + 25 * "very " + "long."):
        (fault,) = card_faults(dataclasses.replace(card, does_not=(wrong,)), "median")
        assert "no sentence" in fault
    assert list(card_faults(dataclasses.replace(card, assumption="hope"), "median"))
    attack = find("attack", "dlg").card
    for field, value in (("family", "none"), ("ideal", 0.0), ("idea", "Two\nlines.")):
        assert list(card_faults(dataclasses.replace(attack, **{field: value}), "dlg"))


def test_one_text_in_place_of_sentences_is_refused() -> None:
    card = find("layer", "median").card
    with pytest.raises(ConfigError, match="is one text"):
        dataclasses.replace(card, does_not="It does not stop short lies.")

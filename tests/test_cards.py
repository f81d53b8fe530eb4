"""Every registered attack and layer carries a card, and can be made again from its configuration."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
from typing import Any, get_args

import pytest

from qflsec.attacks import Attack, attack_from_config
from qflsec.base import Assumption, AttackCard, ConfigError, DefenseCard, Family, Goal, find, names
from qflsec.federation import Layer, layer_from_config

LAYERS = names("layer")
ATTACKS = names("attack")


def check_card(card: Any, name: str) -> None:
    assert card.name == name
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
    for field in dataclasses.fields(card):
        value = getattr(card, field.name)
        assert value is not None, field.name
        assert value not in ("", ()), field.name
    assert "\n" not in card.idea
    assert card.source.paper.strip()
    assert card.source.where.strip()
    assert 1920 <= card.source.year <= 2030


def check_value(thing: Any) -> None:
    assert dataclasses.is_dataclass(thing)
    assert type(thing).__dataclass_params__.frozen
    assert pickle.loads(pickle.dumps(thing)) == thing
    assert hash(thing) == hash(pickle.loads(pickle.dumps(thing)))


def test_the_registry_is_not_empty() -> None:
    assert {"client-clip", "dp-sgd", "norm-bound", "median", "masked", "aes-gcm-link", "fedavg"} <= set(
        LAYERS
    )


def check_sentences(sentences: Any) -> None:
    """Short ones: what a defense does not do must be read."""
    assert isinstance(sentences, tuple)
    for sentence in sentences:
        assert re.fullmatch(r"[A-Z].*\.", sentence)
        assert len(sentence.split()) <= 25


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    kind = find("layer", name)
    card = kind.card
    assert isinstance(card, DefenseCard)
    check_card(card, name)
    check_sentences(card.does_not)
    assert card.assumption in get_args(Assumption)
    layer = kind()
    assert isinstance(layer, Layer)
    check_value(layer)
    config = layer.to_config()
    assert config["name"] == name
    assert layer_from_config(json.loads(json.dumps(config))) == layer


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks(name: str) -> None:
    kind = find("attack", name)
    card = kind.card
    assert isinstance(card, AttackCard)
    check_card(card, name)
    assert card.family in get_args(Family)
    assert card.goal in get_args(Goal)
    assert card.ideal > card.baseline
    if not issubclass(kind, Attack):
        return  # attacks inside a protocol have configurations of their own
    attack = kind()
    check_value(attack)
    config = attack.to_config()
    assert config["name"] == name
    assert attack_from_config(json.loads(json.dumps(config))) == attack


def test_an_empty_field_is_noticed() -> None:
    card = find("layer", "median").card
    with pytest.raises(AssertionError):
        check_card(dataclasses.replace(card, claim=""), "median")
    with pytest.raises(AssertionError):
        check_card(dataclasses.replace(card, name="other"), "median")
    for wrong in ("It hides nothing.", ("hide anything",), ("It is " + 25 * "very " + "long.",)):
        with pytest.raises(AssertionError):
            check_sentences(wrong)


def test_one_text_in_place_of_sentences_is_refused() -> None:
    card = find("layer", "median").card
    with pytest.raises(ConfigError, match="is one text"):
        dataclasses.replace(card, does_not="It does not stop short lies.")

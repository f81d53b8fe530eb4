"""The fold over layers: wrong order and rules that cannot work are refused with a sentence."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recorders import Aggregated, Bounded, Executing, Graded, Linked, Noisy, Ruled, Shaped

from qflsec.base import ConfigError, IncompatibleStack, UnknownName
from qflsec.defenses.backdoor import RandomisedSmoothing
from qflsec.defenses.privacy import ClientClip, DpSgd
from qflsec.defenses.robust import Median, NormBound
from qflsec.federation import FedAvg, Stack, layer_from_config
from qflsec.federation.aggregation import weighted_mean
from qflsec.protocols.links import AesGcmLink
from qflsec.protocols.secagg import Masked

REFUSED = {
    "median needs individual updates, but 'masked' leaves only their sum": (Masked(), Median()),
    "'norm-bound' needs individual updates, but 'masked' leaves only their sum": (
        Masked(),
        NormBound(max_norm=1.0),
    ),
    "'masked' needs plain payloads, but 'aes-gcm-link' before it already made them sealed": (
        AesGcmLink(),
        Masked(),
    ),
    "'client-clip' acts before 'masked' in a round": (Masked(), ClientClip(clip_norm=1.0)),
    "one aggregation layer": (Masked(), Masked()),
    "one layer that answers records": (RandomisedSmoothing(), RandomisedSmoothing(noise_std=1.0)),
    "'fedavg' acts before 'randomised-smoothing'": (RandomisedSmoothing(), FedAvg()),
    "one gradient layer": (
        DpSgd(clip_norm=1.0, noise_multiplier=1.0),
        DpSgd(clip_norm=1.0, noise_multiplier=2.0),
    ),
    "'dp-sgd' acts before 'client-clip'": (
        ClientClip(clip_norm=1.0),
        DpSgd(clip_norm=1.0, noise_multiplier=1.0),
    ),
    "twice with the same parameters": (AesGcmLink(), AesGcmLink()),
    "one rule": (Median(), FedAvg()),
    "'norm-bound' acts before 'median'": (Median(), NormBound(max_norm=1.0)),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_wrong_stacks_are_refused(sentence: str) -> None:
    with pytest.raises(IncompatibleStack) as error:
        Stack.from_layers("wrong", REFUSED[sentence])
    assert sentence.replace("'", "") in str(error.value).replace("'", "")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "layers",
    [
        (),
        (ClientClip(clip_norm=1.0), Masked(), AesGcmLink()),
        (DpSgd(clip_norm=1.0, noise_multiplier=1.0), AesGcmLink(), NormBound(max_norm=1.0), Median()),
        (Masked(), FedAvg()),
        (AesGcmLink(), Median()),
    ],
)
def test_right_stacks_are_public_values(layers: tuple[Any, ...]) -> None:
    stack = Stack.from_layers("right", layers)
    assert pickle.loads(pickle.dumps(stack)) == stack
    assert hash(stack) == hash(Stack.from_layers("right", layers))
    rebuilt = Stack.from_layers("right", [layer_from_config(config) for config in stack.to_config()])
    assert rebuilt == stack


def test_leaves_and_linearity() -> None:
    assert Stack(name="a").leaves == "individual"
    assert Stack(name="a").linear
    assert Stack.from_layers("b", [Masked(), AesGcmLink()]).leaves == "sum"
    assert not Stack.from_layers("c", [NormBound(max_norm=1.0)]).linear
    assert not Stack.from_layers("d", [Median()]).linear


def test_unknown_names_and_parameters_are_told_plainly() -> None:
    with pytest.raises(UnknownName, match="did you mean 'median'"):
        layer_from_config({"name": "medain"})
    with pytest.raises(ConfigError, match="unknown parameter of layer 'client-clip'; got clip_nrom"):
        layer_from_config({"name": "client-clip", "clip_nrom": 1.0})
    with pytest.raises(ConfigError, match="a layer without a name"):
        layer_from_config({"clip_norm": 1.0})


def test_weighted_mean_by_hand() -> None:
    updates = torch.tensor([[1.0, 0.0], [4.0, 3.0]])
    assert weighted_mean(updates, torch.tensor([2.0, 1.0])).tolist() == [2.0, 1.0]


# -- order, for any layers -----------------------------------------------------------------------------

# Each with its place among the layers of its side; those of one place may stand in any order.
CLIENT_SIDE = [
    (0, Executing()),
    (0, Graded()),
    (1, Shaped(name="a")),
    (1, Shaped(name="b")),
    (2, Aggregated()),
    (3, Linked()),
    (3, AesGcmLink()),
]
SERVER_SIDE = [
    (0, Bounded(name="a")),
    (0, Bounded(name="b")),
    (1, Ruled()),
    (2, Noisy()),
    (2, Noisy(shift=1.0)),
]
Placed = tuple[int, Any]
pieces = st.permutations([*CLIENT_SIDE, *SERVER_SIDE]).flatmap(
    lambda order: st.integers(0, len(order)).map(lambda n: order[:n])
)


def sides(chosen: list[Placed]) -> tuple[list[Placed], list[Placed]]:
    return [part for part in chosen if part in CLIENT_SIDE], [part for part in chosen if part in SERVER_SIDE]


def accepted(layers: list[Any]) -> bool:
    try:
        Stack.from_layers("any", layers)
    except IncompatibleStack:
        return False
    return True


@given(chosen=pieces)
def test_a_stack_is_accepted_where_each_side_is_in_order(chosen: list[Placed]) -> None:
    """By the places alone, and no bound where only the sum is left."""
    client, server = sides(chosen)
    ordered = all(
        [place for place, _ in side] == sorted(place for place, _ in side) for side in (client, server)
    )
    hidden = any(isinstance(layer, Aggregated) for _, layer in client)
    bounded = any(isinstance(layer, Bounded) for _, layer in server)
    assert accepted([layer for _, layer in chosen]) == (ordered and not (hidden and bounded))


@given(chosen=pieces, data=st.data())
def test_what_is_left_of_a_stack_that_works_works(chosen: list[Placed], data: st.DataObject) -> None:
    client, server = sides(chosen)
    if any(isinstance(layer, Aggregated) for _, layer in client):
        server = [part for part in server if not isinstance(part[1], Bounded)]
    layers = [layer for _, layer in [*sorted(client, key=_place), *sorted(server, key=_place)]]
    assert accepted(layers)
    if layers:
        gone = data.draw(st.integers(0, len(layers) - 1))
        assert accepted([*layers[:gone], *layers[gone + 1 :]])


@given(chosen=pieces, data=st.data())
def test_the_two_sides_may_be_mixed_at_will(chosen: list[Placed], data: st.DataObject) -> None:
    """How client and server layers interleave in one list says nothing: the stack is the same value."""
    client, server = ([layer for _, layer in sorted(side, key=_place)] for side in sides(chosen))
    server = [layer for layer in server if not isinstance(layer, Bounded)]
    takes = data.draw(st.permutations([0] * len(client) + [1] * len(server)))
    left, right = iter(client), iter(server)
    mixed = [next(right) if side else next(left) for side in takes]
    assert Stack.from_layers("x", mixed) == Stack(name="x", client=tuple(client), server=tuple(server))


def _place(part: Placed) -> int:
    return part[0]

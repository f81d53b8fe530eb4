"""The fold over layers: wrong order and rules that cannot work are refused with a sentence."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch

from qflsec.base import ConfigError, IncompatibleStack, UnknownName
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

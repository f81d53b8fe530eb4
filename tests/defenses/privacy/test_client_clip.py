"""Client clipping: what it bounds, and that it claims nothing more."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch

from qflsec.accounting import LedgerContext
from qflsec.base import ConfigError
from qflsec.defenses.privacy import ClientClip
from qflsec.federation import layer_from_config


def test_every_update_is_bounded(streams: Callable[..., Any]) -> None:
    updates = torch.randn(2, 3, 20, generator=torch.Generator().manual_seed(0)) * 5
    asked = streams(0, 1)
    shaped = ClientClip(clip_norm=0.7).shape(updates, asked)
    assert bool((torch.linalg.vector_norm(shaped.double(), dim=-1) <= 0.7).all())
    assert asked.purposes == []


def test_all_at_once_equals_the_loop_over_clients(streams: Callable[..., Any]) -> None:
    updates = torch.randn(2, 3, 20, generator=torch.Generator().manual_seed(0))
    layer = ClientClip(clip_norm=2.0)
    at_once = layer.shape(updates, streams(0, 1))
    for lane in range(2):
        for index in range(3):
            single = updates[lane : lane + 1, index : index + 1].clone()
            assert torch.equal(at_once[lane, index], layer.shape(single, streams(lane))[0, 0])


def test_it_claims_no_epsilon(context: Callable[..., LedgerContext]) -> None:
    assert ClientClip().ledger(context()) == ()
    assert "epsilon" in ClientClip.card.does_not[0]


@pytest.mark.parametrize("clip_norm", [0.0, -1.0, float("inf"), float("nan")])
def test_impossible_norms_are_refused(clip_norm: float) -> None:
    with pytest.raises(ConfigError, match="clip_norm"):
        ClientClip(clip_norm=clip_norm)


def test_it_is_a_public_value() -> None:
    layer = ClientClip(clip_norm=0.5)
    assert pickle.loads(pickle.dumps(layer)) == layer
    assert hash(layer) == hash(ClientClip(clip_norm=0.5))
    assert layer_from_config(layer.to_config()) == layer

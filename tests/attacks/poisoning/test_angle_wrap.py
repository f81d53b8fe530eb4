"""Angle wrap: the same circuit for whoever sends it, and the shift of the mean that theory says."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from qflsec.attacks.poisoning import AngleWrap, most_harmful_turns
from qflsec.base import ConfigError, IncompatibleAttack
from qflsec.federation import FederationConfig, Hands, Pipeline, RunSpec, Stack, run_batch
from qflsec.models import build_model
from qflsec.threat import corrupted_clients, honest_but_curious_server

MakeHands = Callable[..., Hands]


def test_what_is_sent_is_the_honest_model(hands: MakeHands) -> None:
    held = hands([])
    sent = AngleWrap(turns=-3).updates(held)
    assert isinstance(sent, torch.Tensor)
    assert torch.allclose(sent - held.honest, torch.full_like(sent, -6 * math.pi), atol=1e-5)
    honest, wrapped = (
        held.model((held.base + update)[..., None, :], held.features) for update in (held.honest, sent)
    )
    assert torch.allclose(honest, wrapped, atol=1e-4)


def test_parameters_without_a_period_are_left_alone(hands: MakeHands) -> None:
    periods = (None, 4 * math.pi, *(2 * math.pi,) * 34)
    held = hands([], periods=periods)
    sent = AngleWrap(turns=1).updates(held)
    assert isinstance(sent, torch.Tensor)
    shift = (sent - held.honest)[0, 0]
    assert shift[:3].tolist() == pytest.approx([0.0, 4 * math.pi, 2 * math.pi], abs=1e-5)


@pytest.mark.parametrize(("share", "expected"), [(0.2, 2), (0.4, 1), (0.1, 5), (0.5, 1), (0.25, 2)])
def test_as_many_turns_as_bring_the_mean_to_half_a_period(share: float, expected: int) -> None:
    turns = most_harmful_turns(share)
    off = [abs((share * k) % 1.0 - 0.5) for k in range(1, 101)]
    assert off[turns - 1] == pytest.approx(min(off[: round(1 / share)]))
    assert turns == expected


@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_the_mean_moves_by_share_times_rate_times_turns(
    pipeline: Callable[..., Pipeline], rate: float
) -> None:
    """In the first round exactly, by the numbers of records that the clients state."""
    small = pipeline(model={"layers": 1}, members=33, rounds=1, server_learning_rate=rate)
    attack, threat = AngleWrap(turns=2), corrupted_clients(n=3)
    honest, attacked = run_batch(
        small, Stack(name="none"), [RunSpec(seed=0), RunSpec(seed=0, adversary=attack, threat=threat)]
    )
    counts = [len(rows) for rows in attacked.clients]
    share = sum(counts[:3]) / sum(counts)
    shift = attacked.params - honest.params
    assert torch.allclose(shift, torch.full_like(shift, rate * share * 4 * math.pi), atol=1e-4)
    sent = [item.vector for item in attacked.view(honest_but_curious_server()).readable("update", about=0)]
    assert float(sent[0].min()) > math.pi, "no honest update is so long"


def test_moves_of_several_rounds_add_up_and_one_round_is_left_as_it_is(
    pipeline: Callable[..., Pipeline],
) -> None:
    """Two of four equal clients: half a period in each of two rounds is a whole one, in the last alone a half."""
    small = pipeline(model={"layers": 1}, members=40, rounds=2, n_clients=4, learning_rate=1e-4)
    threat = corrupted_clients(n=2)
    attacks = [AngleWrap(), AngleWrap(round=1)]
    specs = [RunSpec(seed=0), *(RunSpec(seed=0, adversary=attack, threat=threat) for attack in attacks)]
    honest, every, last = run_batch(small, Stack(name="none"), specs)
    for run, periods in ((every, 1.0), (last, 0.5)):
        shift = run.params - honest.params
        assert torch.allclose(shift, torch.full_like(shift, periods * 2 * math.pi), atol=2e-3)


@pytest.mark.parametrize(("rate", "expected"), [(1.0, 2), (0.5, 4), (2.0, 1)])
def test_the_default_counts_the_server_learning_rate(hands: MakeHands, rate: float, expected: int) -> None:
    """Two of eight clients: at rate 1/2 the mean takes over an eighth of a move, four of which are a half."""
    config = FederationConfig(n_clients=8, rounds=1, learning_rate=0.1, server_learning_rate=rate)
    held = replace(hands([]), clients=(0, 1), n_clients=8, training=config)
    sent = AngleWrap().updates(held)
    assert isinstance(sent, torch.Tensor)
    assert float((sent - held.honest)[0, 0, 0]) == pytest.approx(2 * math.pi * expected, abs=1e-4)


@pytest.mark.parametrize("rule", ["wrap-angles", "median", "krum", "geometric-median"])
def test_reduced_differences_undo_it(
    pipeline: Callable[..., Pipeline], stack: Callable[..., Stack], rule: str
) -> None:
    small = pipeline(model={"layers": 1}, members=33, rounds=2)
    specs = [RunSpec(seed=0), RunSpec(seed=0, adversary=AngleWrap(turns=2), threat=corrupted_clients(n=2))]
    honest, attacked = run_batch(small, stack(rule), specs)
    assert torch.allclose(attacked.params, honest.params, atol=1e-4)


def test_the_mean_without_reduction_is_moved_and_so_is_the_geometric_median(
    pipeline: Callable[..., Pipeline], stack: Callable[..., Stack]
) -> None:
    small = pipeline(model={"layers": 1}, members=33, rounds=1)
    specs = [RunSpec(seed=0), RunSpec(seed=0, adversary=AngleWrap(turns=2), threat=corrupted_clients(n=2))]
    lengths = []
    for rule in ("mean", "geometric-median"):
        honest, attacked = run_batch(small, stack({"name": rule, "wrap": False}), specs)
        lengths.append(float((attacked.params - honest.params).norm()))
    assert lengths[0] == pytest.approx(0.2 * 4 * math.pi * math.sqrt(12), rel=1e-3)
    assert 0 < lengths[1] < lengths[0] / 5


def test_a_model_without_angles_is_refused(pipeline: Callable[..., Pipeline]) -> None:
    linear = build_model({"name": "classical", "n_features": 4, "n_classes": 2})
    plain = replace(pipeline(members=20, rounds=1), model=linear)
    with pytest.raises(IncompatibleAttack, match="period"):
        AngleWrap().check(plain, corrupted_clients(n=1))
    with pytest.raises(ConfigError, match="turns"):
        AngleWrap(turns=0)
    with pytest.raises(ConfigError, match="round"):
        AngleWrap(round=-1)

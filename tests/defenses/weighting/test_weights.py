"""Rules that weigh clients, against plain references, their reductions to FedAvg, and the cap."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch.autograd.functional import hessian, jacobian

from qflsec.base import ConfigError, UpdateError
from qflsec.defenses.weighting import (
    LossRule,
    LossWeighted,
    QFedAvg,
    Softmin,
    WeightCap,
    capped_shares,
    softmin_bound,
)
from qflsec.federation import FedAvg, RoundUpdates

Maker = Callable[..., RoundUpdates]
N = 5


def batch_of(make: Maker, seed: int = 0, **changes: object) -> RoundUpdates:
    generator = torch.Generator().manual_seed(seed)
    updates = 0.2 * torch.randn(N, 7, generator=generator)
    losses = torch.rand(N, generator=generator) + 0.1
    return make(updates, [3, 5, 8, 2, 1], **{"reports": {"loss": losses}, **changes})


def plain(batch: RoundUpdates) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    losses = batch.reports["loss"].double().numpy()
    return batch.updates.double().numpy(), batch.counts.double().numpy(), losses


def test_one_over_the_loss_and_softmin_are_what_they_say(round_updates: Maker) -> None:
    batch = batch_of(round_updates)
    updates, counts, losses = plain(batch)
    by_inverse = counts / (losses + 1e-6)
    by_softmin = counts * np.exp(-3.0 * losses)
    for rule, weights in ((LossWeighted(), by_inverse), (Softmin(beta=3.0), by_softmin)):
        step, _ = rule.aggregate(batch, None)
        assert np.allclose(step.numpy(), weights @ updates / weights.sum(), atol=1e-6)


def test_q_fedavg_is_the_published_step(round_updates: Maker) -> None:
    """Li et al. write the step with gradients L * (w - w_k), and h from them; here it is a scaled weighted mean."""
    batch = batch_of(round_updates)
    updates, counts, losses = plain(batch)
    for q in (0.5, 1.0, 3.0):
        for lipschitz in (0.4, 2.0):
            gradients = -lipschitz * updates
            delta = (losses**q)[:, None] * gradients
            h = q * losses ** (q - 1) * (gradients**2).sum(axis=1) + lipschitz * losses**q
            expected = -(counts @ delta) / (counts @ h)
            step, _ = QFedAvg(q=q, lipschitz=lipschitz).aggregate(batch, None)
            assert np.allclose(step.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("q", [1.0, 2.5])
def test_the_constant_of_q_fedavg_bounds_the_curvature_that_it_stands_for(q: float) -> None:
    """The derivation, on a quadratic whose Hessian L bounds: h is at least every eigenvalue, and the step descends."""
    generator = torch.Generator().manual_seed(1)
    factors = torch.randn(N, 4, 4, generator=generator, dtype=torch.float64)
    hessians = factors @ factors.transpose(1, 2)
    lipschitz = float(torch.linalg.eigvalsh(hessians).max())
    centres = torch.randn(N, 4, generator=generator, dtype=torch.float64)

    def loss(w: torch.Tensor, k: int) -> torch.Tensor:
        return 0.5 * (w - centres[k]) @ hessians[k] @ (w - centres[k]) + 0.1

    def objective(w: torch.Tensor) -> torch.Tensor:
        return torch.stack([loss(w, k) ** (q + 1) / (q + 1) for k in range(N)]).sum()

    w = torch.zeros(4, dtype=torch.float64)
    losses = torch.stack([loss(w, k) for k in range(N)])
    gradients = torch.stack([jacobian(lambda v, k=k: loss(v, k), w) for k in range(N)])
    h = q * losses ** (q - 1) * gradients.square().sum(dim=1) + lipschitz * losses**q
    for k in range(N):
        curved = hessian(lambda v, k=k: loss(v, k) ** (q + 1) / (q + 1), w)
        assert float(torch.linalg.eigvalsh(curved).max()) <= float(h[k]) * (1 + 1e-9)
    batch = RoundUpdates(
        round=0,
        updates=-gradients / lipschitz,
        counts=torch.ones(N),
        ids=tuple(range(N)),
        broadcast=w,
        periods=(None,) * 4,
        f=0,
        generator=torch.Generator(),
        reports={"loss": losses},
    )
    step, _ = QFedAvg(q=q, lipschitz=lipschitz).aggregate(batch, None)
    assert torch.allclose(step, -jacobian(objective, w) / h.sum())
    assert float(objective(w + step)) < float(objective(w))


@pytest.mark.parametrize("rule", [LossWeighted(power=0.0), Softmin(beta=0.0), QFedAvg(q=0.0)])
def test_without_its_knob_a_rule_is_fedavg_bit_for_bit(round_updates: Maker, rule: LossRule) -> None:
    batch = batch_of(round_updates)
    assert torch.equal(rule.aggregate(batch, None)[0], FedAvg().aggregate(batch, None)[0])
    other = type(rule)()
    assert not torch.allclose(other.aggregate(batch, None)[0], FedAvg().aggregate(batch, None)[0])


@pytest.mark.parametrize("rule", [LossWeighted(), Softmin(), QFedAvg(), QFedAvg(q=0.5), QFedAvg(q=20.0)])
@pytest.mark.parametrize("said", [-5.0, 0.0, 1e-30, 3e38])
def test_no_report_ends_a_round(round_updates: Maker, rule: LossRule, said: float) -> None:
    losses = torch.tensor([said, 0.3, 0.2, 0.4, 0.5])
    for reports in (losses, torch.full((N,), said)):
        step, _ = rule.aggregate(batch_of(round_updates, reports={"loss": reports}), None)
        assert bool(torch.isfinite(step).all())


def test_who_reports_nothing_is_told_so(round_updates: Maker) -> None:
    with pytest.raises(UpdateError, match="reported none"):
        Softmin().aggregate(batch_of(round_updates, reports={}), None)


@settings(max_examples=60, deadline=None)
@given(
    weights=st.lists(st.just(0.0) | st.floats(1e-3, 1e6), min_size=1, max_size=8).filter(any),
    cap=st.floats(0.05, 1.0),
)
def test_capped_shares_are_the_water_level(weights: list[float], cap: float) -> None:
    """An independent way to the same shares: min(cap, t w) for the level t at which they sum to 1."""
    shares = capped_shares(torch.tensor(weights, dtype=torch.float64), cap).numpy()
    n, wide = len(weights), np.array(weights)
    assert shares.sum() == pytest.approx(1.0)
    if cap * n <= 1:
        assert np.allclose(shares, 1 / n)
        return
    assert shares.max() <= cap + 1e-9
    positive = wide[wide > 0]
    if cap * len(positive) <= 1 + 1e-9:
        return  # the cap alone leaves something for those without weight
    high = cap / positive.min() * 2
    level = brentq(lambda t: np.minimum(cap, t * wide).sum() - 1, 0, high, xtol=1e-15, rtol=1e-14)
    assert np.allclose(shares, np.minimum(cap, level * wide), atol=1e-7)


def test_the_cap_binds_what_clients_state_and_what_they_report(round_updates: Maker) -> None:
    cap = WeightCap(factor=2.0)
    liar = batch_of(round_updates, reports={"loss": torch.tensor([0.0, 0.5, 0.5, 0.5, 0.5])})
    free = LossWeighted().shares(liar)
    held = LossWeighted().shares(cap.bound(liar))
    assert float(free[0]) > 0.99
    assert float(held.max()) == pytest.approx(0.4)
    counted = cap.bound(round_updates(torch.eye(N), [1000, 1, 1, 1, 1]))
    step, _ = FedAvg().aggregate(counted, None)
    assert float(step[0]) == pytest.approx(0.4)
    equal = round_updates(torch.eye(N))
    assert cap.bound(equal).counts is equal.counts


def test_the_bound_of_softmin_is_reached_by_a_reported_loss_of_zero(round_updates: Maker) -> None:
    honest = torch.tensor([0.7, 0.6, 0.8, 0.5])
    for beta in (1.0, 5.0):
        bound = softmin_bound(honest, beta=beta)
        for said in (0.0, 0.2, 1.0):
            batch = round_updates(torch.eye(N), reports={"loss": torch.cat([torch.tensor([said]), honest])})
            share = float(Softmin(beta=beta).shares(batch)[0])
            assert share <= bound + 1e-12
            assert (share == pytest.approx(bound)) == (said == 0.0)
    assert softmin_bound(honest, beta=5.0) > 0.8, "a large beta bounds next to nothing while losses are large"


@pytest.mark.parametrize(
    "make",
    [
        lambda: LossWeighted(epsilon=0.0),
        lambda: LossWeighted(power=-1.0),
        lambda: Softmin(beta=-1.0),
        lambda: QFedAvg(q=-0.1),
        lambda: QFedAvg(lipschitz=0.0),
        lambda: WeightCap(factor=0.5),
    ],
)
def test_parameters_out_of_range_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        make()

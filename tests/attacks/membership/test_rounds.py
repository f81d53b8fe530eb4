"""Attacks over rounds: the trajectory against plain NumPy, and a server that raises the candidates' losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from qflsec.attacks import Blocked, MembershipChallenge, MembershipClaim
from qflsec.attacks.membership import GradientAscent, Lira, Trajectory
from qflsec.attacks.membership.trajectory import trajectory_ratio
from qflsec.base import ConfigError
from qflsec.data import DataSpec
from qflsec.federation import FederationConfig, Pipeline, RunSpec, Stack, run_batch
from qflsec.federation.shadows import ShadowTrainer
from qflsec.lab.challenges import challenge_for
from qflsec.models import Model, build_model, per_sample_gradients
from qflsec.threat import Item, Records, View, honest_but_curious_server, malicious_server, public_final_model

PIPELINE = Pipeline(
    data=DataSpec(
        name="breast-cancer", n_features=2, balanced=True, members=8, nonmembers=8, auxiliary=12, test=8
    ),
    model=build_model({"name": "vqc", "n_qubits": 2, "layers": 2}),
    federation=FederationConfig(n_clients=2, rounds=3, learning_rate=0.4),
)


def test_the_trajectory_ratio_is_that_of_two_normals() -> None:
    """Means of each record, one covariance for all: SciPy's densities, to 1e-9 of sums of some ten."""
    generator = np.random.default_rng(0)
    n, s, m = 7, 12, 3
    mixing = generator.standard_normal((m, m))
    shadows, observed = generator.standard_normal((s, n, m)) @ mixing, generator.standard_normal((n, m))
    inside = generator.random((s, n)).argsort(axis=0) < s // 2
    means, residuals = [], []
    for chosen in (inside, ~inside):
        means.append(np.stack([shadows[chosen[:, i], i].mean(axis=0) for i in range(n)]))
        residuals += [shadows[chosen[:, i], i] - means[-1][i] for i in range(n)]
    covariance = sum(part.T @ part for part in residuals) / (2 * n * (s // 2 - 1))
    expected = [
        stats.multivariate_normal.logpdf(observed[i], means[0][i], covariance)
        - stats.multivariate_normal.logpdf(observed[i], means[1][i], covariance)
        for i in range(n)
    ]
    found = trajectory_ratio(torch.from_numpy(observed), torch.from_numpy(shadows), torch.from_numpy(inside))
    assert np.allclose(found, expected, rtol=0, atol=1e-9)
    twice = [torch.from_numpy(np.concatenate([part, part], axis=-1)) for part in (observed, shadows)]
    assert np.allclose(trajectory_ratio(*twice, torch.from_numpy(inside)), expected, atol=1e-6), (
        "a round told twice"
    )
    still = torch.zeros(s, n, m)
    assert torch.isfinite(trajectory_ratio(still[0], still, torch.from_numpy(inside))).all()


def test_of_one_model_it_is_lira() -> None:
    run = run_batch(PIPELINE, Stack(name="none"), [RunSpec(seed=0, evaluate="never")])[0]
    trainer = ShadowTrainer(pipeline=PIPELINE, like=run.dataset, seed=0)
    threat = honest_but_curious_server()
    last = Trajectory(shadows=8, points=1)
    asked, _ = challenge_for(last, run, seed=0, threat=threat, trainer=trainer)
    first, second, whole = (
        attack(run.view(threat), asked)
        for attack in (last, Lira(shadows=8, variance="shared"), Trajectory(shadows=8))
    )
    assert isinstance(first, MembershipClaim)
    assert isinstance(second, MembershipClaim)
    assert isinstance(whole, MembershipClaim)
    # LiRA pools the variances inside and outside apart, the trajectory together
    agree = np.corrcoef(first.scores, second.scores)[0, 1]
    assert agree > 0.9
    assert not torch.allclose(first.scores, whole.scores)


def test_the_rounds_are_spread_to_the_last(
    item: Callable[..., Item], view: Callable[..., View], vqc: Model
) -> None:
    models = [item("model", torch.full((36,), float(r)), round_index=r) for r in range(10)]
    seen = view(*models, item("final-model", torch.ones(36), round_index=10), model=vqc)
    assert Trajectory(points=3)._rounds(seen) == [2, 6, 10]
    assert Trajectory(points=20)._rounds(seen) == list(range(1, 11))
    alone = view(item("final-model", torch.ones(36), round_index=10), model=vqc)
    assert Trajectory()._rounds(alone) == [10]


def test_the_trace_of_a_shadow_is_that_of_its_run() -> None:
    """The last is the final model bit for bit; each is where a run of so many rounds ends."""
    run = run_batch(PIPELINE, Stack(name="none"), [RunSpec(seed=0, evaluate="never", trace=True)])[0]
    assert run.trace.shape == (4, PIPELINE.model.n_params)
    assert torch.equal(run.trace[0], run.initial)
    assert torch.equal(run.trace[-1], run.params)
    short = replace(PIPELINE, federation=replace(PIPELINE.federation, rounds=2))
    assert torch.equal(run.trace[2], run_batch(short, Stack(name="none"), [RunSpec(seed=0)])[0].params)
    trainer = ShadowTrainer(pipeline=PIPELINE, like=run.dataset, seed=3)
    pool, members = run.records("auxiliary"), torch.eye(12, dtype=torch.bool)[:4] | (torch.arange(12) > 5)
    assert torch.equal(trainer.trace(pool, members)[:, -1], trainer(pool, members))


def test_why_they_are_blocked_or_refused(
    item: Callable[..., Item], view: Callable[..., View], vqc: Model
) -> None:
    def last_only(_pool: Records, members: torch.Tensor, _defenses: Any = None) -> torch.Tensor:
        return torch.zeros(len(members), 36)

    candidates = Records(features=torch.rand(6, 4), labels=torch.zeros(6, dtype=torch.long))
    asked = MembershipChallenge(seed=0, attack="any", candidates=candidates, n_members=3, trainer=last_only)
    seen = view(item("final-model", torch.zeros(36), round_index=2), model=vqc)
    assert Trajectory()(seen, asked) == Blocked(
        reason="whoever trains on chosen records keeps the last model alone"
    )
    reason = "no update, sum or step of a round in which the server deviated can be read"
    assert GradientAscent()(seen, asked) == Blocked(reason=reason)
    for bad in ({"online": False}, {"points": 0}):
        with pytest.raises(ConfigError):
            Trajectory(**bad)
    for wrong in ({"step": 0.0}, {"first_round": -1}):
        with pytest.raises(ConfigError):
            GradientAscent(**wrong)
    with pytest.raises(ConfigError, match="leaves honest"):
        GradientAscent().corrupts(public_final_model())


def test_the_server_sends_what_raises_the_losses_and_keeps_its_own_model() -> None:
    """One step of the stated length up the candidates' gradients, the same for all, and no sooner than it says."""
    threat = malicious_server()
    honest = run_batch(PIPELINE, Stack(name="none"), [RunSpec(seed=0)])[0]
    attack = GradientAscent(step=0.5, first_round=1)
    asked, _ = challenge_for(attack, honest, seed=0, threat=threat)
    assert isinstance(asked, MembershipChallenge)
    records, model = asked.candidates, PIPELINE.model
    spec = RunSpec(seed=0, adversary=attack, threat=threat, asked=records, trace=True)
    run = run_batch(PIPELINE, Stack(name="none"), [spec])[0]
    view = run.view(threat)
    assert torch.equal(
        run.trace[1], run_batch(PIPELINE, Stack(name="none"), [RunSpec(seed=0, trace=True)])[0].trace[1]
    )
    for index in range(3):
        sent = [item.vector for item in view.readable("model", round_index=index) if not item.derived]
        assert all(torch.equal(one, sent[0]) for one in sent)
        moved = sent[0] - run.trace[index]
        if index == 0:
            assert not moved.any()
            continue
        assert float(moved.norm()) == pytest.approx(0.5, rel=1e-4)
        gradients = per_sample_gradients(model, run.trace[index], records.features, records.labels)
        up = torch.nn.functional.normalize(gradients, dim=-1).sum(dim=0)
        assert float(torch.nn.functional.cosine_similarity(moved, up, dim=0)) == pytest.approx(1.0, abs=1e-4)
    untold = replace(spec, asked=None)
    assert torch.equal(run_batch(PIPELINE, Stack(name="none"), [untold])[0].params, honest.params)

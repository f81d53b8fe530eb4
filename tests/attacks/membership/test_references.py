"""Scores of fixed tables against plain NumPy, written from the formulas, to 1e-12; and what no score may depend on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from scipy.special import digamma, polygamma

from qflsec.attacks import MembershipChallenge, MembershipClaim, ShadowRequest
from qflsec.attacks.membership import CalibratedLoss, Lira, LossThreshold, Rmia
from qflsec.attacks.membership.likelihood import Variance, _prior, likelihood_ratio, resolved_variance
from qflsec.attacks.membership.rmia import relative_scores
from qflsec.attacks.shadows import shadow_sets
from qflsec.base import ConfigError, IncompatibleAttack
from qflsec.models import Model
from qflsec.threat import Item, Records, View

Array = np.ndarray[Any, np.dtype[np.float64]]
N, M, S = 12, 9, 10


def table(rows: int, columns: int, seed: int, scale: float = 3.0) -> Array:
    return scale * np.random.default_rng(seed).standard_normal((rows, columns))


def halves(columns: int, seed: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    order = np.random.default_rng(seed).random((S, columns)).argsort(axis=0)
    return order < S // 2


def tensor(values: Any) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))


# LiRA.


def numpy_ratio(observed: Array, shadows: Array, inside: Any, variance: str) -> Array:
    """The likelihood ratio, a loop over records."""
    sides = []
    for chosen in (inside, ~inside):
        samples = [shadows[chosen[:, i], i] for i in range(shadows.shape[1])]
        pooled = sum(((s - s.mean()) ** 2).sum() for s in samples) / sum(len(s) - 1 for s in samples)
        spreads = [math.sqrt(pooled if variance == "shared" else s.var(ddof=1)) for s in samples]
        sides.append(
            [
                stats.norm.logpdf(x, s.mean(), spread)
                for x, s, spread in zip(observed, samples, spreads, strict=True)
            ]
        )
    return np.asarray(sides[0]) - np.asarray(sides[1])


@pytest.mark.parametrize("variance", ["record", "shared"])
def test_lira_online(variance: Variance) -> None:
    observed, shadows, inside = table(1, N, 0)[0], table(S, N, 1), halves(N, 2)
    found = likelihood_ratio(tensor(observed), tensor(shadows), tensor(inside), variance=variance)
    assert np.allclose(found, numpy_ratio(observed, shadows, inside, variance), rtol=0, atol=1e-12)


@pytest.mark.parametrize("variance", ["record", "shared"])
def test_lira_offline_orders_as_the_one_sided_tail(variance: str) -> None:
    observed, shadows = table(1, N, 0)[0], table(S, N, 1)
    none = torch.zeros(S, N, dtype=torch.bool)
    found = likelihood_ratio(tensor(observed), tensor(shadows), none, variance=variance)  # type: ignore[arg-type]
    each = shadows.std(axis=0, ddof=1)
    spread = math.sqrt((each**2).mean()) if variance == "shared" else each
    tails = stats.norm.cdf((observed - shadows.mean(axis=0)) / spread)
    assert np.allclose(stats.norm.cdf(found), tails, rtol=0, atol=1e-12)


def test_the_bayesian_density_is_the_integral_over_the_variance() -> None:
    """The mixture of normals over the posterior of the variance, by quadrature; the prior's two numbers as they are."""
    n = 4
    observed, shadows, inside = table(1, n, 0)[0], table(S, n, 1) * np.linspace(0.3, 3, n), halves(n, 2)
    found = likelihood_ratio(tensor(observed), tensor(shadows), tensor(inside), variance="bayes")
    sides = []
    for chosen in (inside, ~inside):
        samples = [shadows[chosen[:, i], i] for i in range(n)]
        d = np.asarray([len(s) - 1.0 for s in samples])
        d0, s0 = _prior(tensor(np.asarray([s.var(ddof=1) for s in samples])), tensor(d))
        logs = []
        for x, s, freedom in zip(observed, samples, d, strict=True):
            posterior = stats.invgamma((d0 + freedom) / 2, scale=(d0 * s0 + freedom * s.var(ddof=1)) / 2)

            def mixed(v: float, x: float = x, s: Array = s, posterior: Any = posterior) -> float:
                return float(posterior.pdf(v) * stats.norm.pdf(x, s.mean(), math.sqrt(v * (1 + 1 / len(s)))))

            inner, outer = posterior.ppf([0.001, 0.999])
            parts = [(0.0, inner), (inner, outer), (outer, np.inf)]
            logs.append(math.log(sum(integrate.quad(mixed, *ends, limit=200)[0] for ends in parts)))
        sides.append(np.asarray(logs))
    assert np.allclose(found, sides[0] - sides[1], atol=1e-6)


def test_the_prior_of_variances_is_found_again() -> None:
    """4000 variances of 5 degrees of freedom under a prior of 6 degrees and scale 2; control: one common variance."""
    generator = np.random.default_rng(0)
    true = 6 * 2 / generator.chisquare(6, 4000)
    sampled = true * generator.chisquare(5, 4000) / 5
    d0, s0 = _prior(tensor(sampled), torch.full((4000,), 5.0, dtype=torch.float64))
    logs = np.log(sampled)
    assert logs.var() == pytest.approx(polygamma(1, 2.5) + polygamma(1, 3.0), rel=0.1)
    assert logs.mean() == pytest.approx(
        math.log(2) + digamma(2.5) - math.log(2.5) - digamma(3) + math.log(3), abs=0.1
    )
    assert d0 == pytest.approx(6, rel=0.2)
    assert s0 == pytest.approx(2, rel=0.1)
    same = 2 * generator.chisquare(5, 4000) / 5
    freedom, scale = _prior(tensor(same), torch.full((4000,), 5.0, dtype=torch.float64))
    assert freedom > 50
    assert scale == pytest.approx(2, rel=0.05)


def test_auto_pools_below_64_models() -> None:
    assert [resolved_variance("auto", n) for n in (4, 62, 64)] == ["shared", "shared", "record"]
    assert resolved_variance("bayes", 4) == "bayes"
    with pytest.raises(ConfigError, match="unknown 'variance'"):
        Lira(variance="none")  # type: ignore[arg-type]


# RMIA.


def numpy_rmia(
    p: Array, ps: Array, inside: Any, q: Array, qs: Array, outside_q: Any, gamma: float, a: float
) -> Array:
    """Plain probabilities, loops over records and population."""

    def mean(column: Array, saw: Any, offline: bool) -> float:
        out = column[~saw].mean()
        return float(((1 + a) * out + 1 - a) / 2 if offline else (column[saw].mean() + out) / 2)

    offline = not inside.any()
    ours = [p[i] / mean(ps[:, i], inside[:, i], offline) for i in range(len(p))]
    theirs = [q[j] / mean(qs[:, j], outside_q[:, j], True) for j in range(len(q))]
    return np.asarray([np.mean([x / z > gamma for z in theirs]) for x in ours])


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize(("gamma", "a"), [(1.0, 0.3), (2.0, 0.33), (0.7, 1.0)])
def test_rmia(online: bool, gamma: float, a: float) -> None:
    logs = [
        np.minimum(-np.abs(table(r, c, k, 1.0)), -1e-3)
        for k, (r, c) in enumerate([(1, N), (S, N), (1, M), (S, M)])
    ]
    inside = halves(N, 5) if online else np.zeros((S, N), dtype=bool)
    seen = halves(M, 6)
    found = relative_scores(
        tensor(logs[0][0]),
        tensor(logs[1]),
        tensor(inside),
        population=tensor(logs[2][0]),
        population_shadows=tensor(logs[3]),
        population_inside=tensor(seen),
        gamma=gamma,
        a=a,
    )
    p = [np.exp(part) for part in logs]
    expected = numpy_rmia(p[0][0], p[1], inside, p[2][0], p[3], seen, gamma, a)
    assert np.allclose(found, expected, rtol=0, atol=1e-12)
    assert 0 < expected.mean() < 1


def test_scores_of_hopeless_probabilities_stay_finite() -> None:
    """Log probabilities down to -1e5 and confidences up to 1e30: e^-1e5 is no double."""
    logs = -(10.0 ** torch.linspace(-3, 5, S * N, dtype=torch.float64).reshape(S, N))
    inside = tensor(halves(N, 2))
    for seen in (inside, torch.zeros_like(inside)):
        scores = relative_scores(
            logs[0],
            logs,
            seen,
            population=logs[1],
            population_shadows=logs.flip(0),
            population_inside=inside,
            gamma=1.0,
            a=1.0,
        )
        assert torch.isfinite(scores).all()
    wide = torch.logspace(-30, 30, S * N, dtype=torch.float64).reshape(S, N)
    for variance in ("record", "shared", "bayes"):
        for values in (wide, torch.zeros_like(wide)):
            found = likelihood_ratio(values[0], values, inside, variance=variance)  # type: ignore[arg-type]
            assert torch.isfinite(found).all()


@pytest.mark.parametrize(("name", "value"), [("gamma", 0.0), ("a", -0.1), ("a", 1.5)])
def test_bad_parameters_of_rmia_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match="out of range"):
        Rmia(**{name: value})


# Attacks on views: what they compute, and what they must not see.


def records(n: int, seed: int) -> Records:
    generator = torch.Generator().manual_seed(seed)
    return Records(
        features=torch.rand(n, 4, generator=generator) * 3,
        labels=torch.randint(0, 2, (n,), generator=generator),
    )


def trained(_pool: Records, members: torch.Tensor, _defenses: Any = None) -> torch.Tensor:
    return torch.randn(len(members), 36, generator=torch.Generator().manual_seed(7))


@pytest.fixture
def seen(view: Callable[..., View], item: Callable[..., Item], vqc: Model) -> View:
    last = item("final-model", torch.linspace(0, 3, 36), round_index=4)
    return view(last, model=vqc, auxiliary=records(9, 1))


def asked(**change: Any) -> MembershipChallenge:
    values = {"seed": 0, "attack": "any", "candidates": records(N, 0), "n_members": 6, "trainer": trained}
    return MembershipChallenge(**{**values, **change})


def numpy_losses(model: Model, params: torch.Tensor, of: Records) -> Array:
    """Cross entropy of every record at every row of parameters."""
    logits = model(params[:, None, :], of.features).detach().double().numpy()
    top = logits.max(axis=-1, keepdims=True)
    log_p = logits - top - np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))
    return -np.asarray([[row[label] for row, label in zip(rows, of.labels, strict=True)] for rows in log_p])


def scores(attack: Any, view: View, challenge: MembershipChallenge) -> Array:
    claim = attack(view, challenge)
    assert isinstance(claim, MembershipClaim)
    return claim.scores.double().numpy()


def test_losses_of_a_view(seen: View, vqc: Model) -> None:
    """Loss threshold to the single precision of its logits, calibrated loss to 1e-12 of the same logits."""
    challenge, own = asked(), torch.linspace(0, 3, 36)[None]
    expected = numpy_losses(vqc, own, challenge.candidates)[0]
    assert np.allclose(scores(LossThreshold(), seen, challenge), -expected, atol=1e-6)
    shadows = trained(challenge.candidates, torch.zeros(4, 1))
    inside = torch.zeros(4, N, dtype=torch.bool)
    losses = numpy_losses(vqc, shadows, challenge.candidates)
    for online in (True, False):
        if online:
            request = ShadowRequest(count=4, online=True)
            inside = shadow_sets(challenge, seen.granted.auxiliary, request)[1][:, :N]
        means = [losses[~inside[:, i].numpy(), i].mean() for i in range(N)] if online else losses.mean(axis=0)
        found = scores(CalibratedLoss(shadows=4, online=online), seen, challenge)
        assert np.allclose(found, means - expected, rtol=0, atol=1e-12)


def test_the_population_is_apart_from_the_candidates(seen: View) -> None:
    """Other auxiliary records change the scores of RMIA; none at all block it; all in every shadow refuse it."""
    challenge, attack = asked(), Rmia(shadows=4)
    first = scores(attack, seen, challenge)
    other = replace(seen, granted=replace(seen.granted, auxiliary=records(9, 2)))
    assert not np.array_equal(first, scores(attack, other, challenge))
    nothing = replace(seen, granted=replace(seen.granted, auxiliary=None))
    assert "to compare candidates with" in attack(nothing, challenge).reason  # type: ignore[union-attr]
    with pytest.raises(IncompatibleAttack, match="none is left for a population"):
        Rmia(shadows=4, online=False)(seen, asked(n_members=9))


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("kind", [CalibratedLoss, Lira, Rmia])
def test_too_few_records_are_refused_and_no_smaller_models_trained(
    seen: View, kind: Any, online: bool
) -> None:
    told: list[int] = []

    def trainer(_pool: Records, members: torch.Tensor, _defenses: Any = None) -> torch.Tensor:
        told.extend(members.sum(dim=1).tolist())
        return trained(_pool, members)

    attack = kind(shadows=4, online=online)
    with pytest.raises(IncompatibleAttack, match="too few records of its own") as refused:
        attack(seen, asked(n_members=16, trainer=trainer))
    assert ("half of the candidates" in str(refused.value)) == online
    assert "at least 10" in str(refused.value) or "at least 16" in str(refused.value)
    attack(seen, asked(n_members=8, trainer=trainer))
    assert told == [8] * 4

"""Certified and empirical radii: the first is proved, so the second may never be smaller."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.accounting.statistics import clopper_pearson
from qflsec.attacks import EvasionClaim
from qflsec.attacks.evasion import (
    AutoPgd,
    Pgd,
    certified_distance,
    certified_moves,
    certified_within,
    empirical_moves,
)
from qflsec.federation import Pipeline, RunSpec, Stack, run_batch
from qflsec.lab.challenges import challenge_for
from qflsec.lab.scoring import score_claim
from qflsec.models import Model, build_model
from qflsec.protocols.qdp import angle_distance, certified_radius
from qflsec.protocols.qdp.noise import global_depolarizing
from qflsec.threat import public_final_model

ONE = build_model({"name": "vqc", "n_qubits": 1, "layers": 1})


def quick(epsilon: float) -> AutoPgd:
    return AutoPgd(epsilon=epsilon, steps=8, restarts=1)


def drawn(model: Model, n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return model.initial(generator), math.pi * torch.rand(n, model.n_features, generator=generator)


@pytest.mark.parametrize(
    "config",
    [
        {"name": "vqc", "n_qubits": 2, "layers": 2},
        {"name": "vqc", "n_qubits": 3, "layers": 1},
        {"name": "vqc", "n_qubits": 2, "layers": 2, "encoder": "reuploading"},
    ],
    ids=["2 qubits", "3 qubits", "re-uploading"],
)
def test_no_attack_moves_an_answer_within_its_certified_radius(config: dict[str, object]) -> None:
    """AutoPGD with 6 budgets, 30 records, two models: what it needed is at least what is certified."""
    model = build_model(config)
    budgets = np.geomspace(0.05, math.pi, 6).tolist()
    for seed in range(2):
        params, features = drawn(model, 30, seed)
        proved = certified_moves(model, params, features)
        assert proved is not None
        found = empirical_moves(
            model, params, features, feature_range=(-20.0, 20.0), budgets=budgets, attack=quick
        )
        assert bool((found > proved).all())
        assert float(proved.max()) > 0.02, "something is certified"
        assert bool(torch.isfinite(found).any()), "and something is evaded"


def test_for_one_qubit_the_radius_is_reached() -> None:
    """A rotation about the measured axis' normal: the answer changes where the angle crosses a zero of z.

    The state is RX(x)|0>, and the best measurement axis lies in its plane: then z = cos(x - x0), |z| / 2 is the certified
    distance, and the nearest zero lies at asin|z| >= 2 asin(|z| / 2).
    """
    params, features = torch.zeros(3), torch.linspace(0.05, math.pi - 0.05, 40)[:, None]
    proved = certified_moves(ONE, params, features)
    assert proved is not None
    needed = (features[:, 0].double() - math.pi / 2).abs()
    closed = 2 * torch.asin(torch.cos(features[:, 0].double()).abs() / 2)
    assert torch.allclose(proved, closed, atol=5e-3)
    assert bool((proved <= needed + 1e-9).all())
    budgets = np.linspace(0.05, 1.7, 16).tolist()
    found = empirical_moves(
        ONE, params, features, feature_range=(0.0, math.pi), budgets=budgets, attack=quick
    )
    assert bool((found >= needed - 1e-4).all())
    assert bool((found <= needed + 0.12).all()), "the attack is close to what is needed"


@given(seed=st.integers(0, 10**6), tau=st.floats(0.0, 0.99))
@settings(max_examples=60, deadline=None)
def test_no_state_within_the_distance_has_another_answer(seed: int, tau: float) -> None:
    """The worst state at trace distance tau of a pure qubit state has <Z> lower by at most 2 tau."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, math.pi)
    value = math.cos(angle)
    distance = certified_distance(ONE, torch.zeros(3), torch.tensor([[angle]], dtype=torch.float32))
    assert distance is not None
    if tau < float(distance):
        turned = [math.cos(angle + sign * 2 * math.asin(tau)) for sign in (1, -1)]
        assert all(math.copysign(1, other) == math.copysign(1, value) for other in turned)
        assert angle_distance(2 * math.asin(tau)) == pytest.approx(tau, abs=1e-7), "1 - cos^2 cancels"


@given(z=st.floats(0.01, 0.99), p=st.floats(0.001, 0.999))
@settings(max_examples=60, deadline=None)
def test_noise_certifies_no_more_than_no_noise(z: float, p: float) -> None:
    """Depolarising noise shrinks the lead and the spread alike; the radius from epsilon grows with p, up to |z| / 2."""
    bits = [np.diag([1.0, 0.0]).astype(np.complex128), np.diag([0.0, 1.0]).astype(np.complex128)]
    lead = (1 - p) * z
    found = certified_radius(global_depolarizing(1, p), bits, *[[(1 + lead) / 2, (1 - lead) / 2]] * 2)
    assert found.by_spread == pytest.approx(z / 2, rel=1e-6)
    assert found.by_epsilon <= z / 2 + 1e-9


def test_shots_certify_less_the_more_noise_there_is() -> None:
    """1,000 shots at z = 0.6, with both limits at 97.5 %: counts shrink with the noise, and their limits do not."""
    bits = [np.diag([1.0, 0.0]).astype(np.complex128), np.diag([0.0, 1.0]).astype(np.complex128)]
    radii = []
    for p in (0.0, 0.5, 0.9):
        up = clopper_pearson(round(1000 * (1 + (1 - p) * 0.6) / 2), 1000, confidence=0.95)
        least, greatest = [up.low, 1 - up.high], [up.high, 1 - up.low]
        radii.append(certified_radius(global_depolarizing(1, p), bits, least, greatest).tau)
    assert 0.3 > radii[0] > radii[1] > radii[2]


def test_what_is_not_proved_is_not_said() -> None:
    for config in (
        {"name": "classical", "n_features": 2, "hidden": [3]},
        {"name": "vqc", "n_qubits": 3, "layers": 1, "n_classes": 3},
    ):
        model = build_model(config)
        params, features = drawn(model, 3, 0)
        assert certified_distance(model, params, features) is None
        assert certified_moves(model, params, features) is None
        assert certified_within(model, params, features, 0.1) is None


def test_the_lab_shows_both_accuracies(make_pipeline: Callable[..., Pipeline]) -> None:
    made = make_pipeline(n_qubits=2, layers=2, members=60, rounds=10, local_steps=2)
    (run,) = run_batch(made, Stack(name="none"), [RunSpec(seed=0, evaluate="never")])
    certified = []
    for epsilon in (0.02, 0.2, 3.0):
        attack = Pgd(epsilon=epsilon, steps=5)
        challenge, answer = challenge_for(attack, run, seed=0, threat=public_final_model())
        claim = attack(run.view(public_final_model()), challenge)
        assert isinstance(claim, EvasionClaim)
        metrics = score_claim(claim, answer).metrics
        certified.append(metrics["certified_accuracy"].value)
        assert certified[-1] <= metrics["accuracy"].value <= metrics["honest_accuracy"].value
    assert certified[0] > 0.5 > certified[2]

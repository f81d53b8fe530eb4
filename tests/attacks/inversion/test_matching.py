"""The matching problem against finite differences and against the loop's own training."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from qflsec.attacks.inversion.matching import Matching
from qflsec.attacks.inversion.unrolled import LocalRule
from qflsec.federation import Pipeline, RunSpec, Stack, run_batch
from qflsec.models import Execution, Model, build_model
from qflsec.threat import honest_but_curious_server

EXACT = Execution(dtype="complex128")


def problem(model: Model, **change: object) -> Matching:
    generator = torch.Generator().manual_seed(3)
    params = model.initial(generator).double()
    values: dict[str, object] = {
        "model": model,
        "params": params,
        "observed": torch.randn(model.n_params, generator=generator, dtype=torch.float64),
        "match": "euclidean",
        "execution": EXACT,
        **change,
    }
    rule = {"learning_rate": 0.2, "steps": values.pop("local_steps", 1)}
    rule |= {name: values.pop(name) for name in ("momentum", "proximal", "learning_rate") if name in values}
    values["rule"] = LocalRule(**rule)  # type: ignore[arg-type]
    return Matching(**values)  # type: ignore[arg-type]


def guesses(n: int, records: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    features = math.pi * torch.rand(n, records, 4, generator=generator, dtype=torch.float64)
    return features, torch.randint(0, 2, (n, records), generator=generator)


@pytest.mark.parametrize("match", ["euclidean", "cosine"])
@pytest.mark.parametrize("local_steps", [1, 3])
@pytest.mark.parametrize("records", [1, 2])
def test_jacobians_equal_finite_differences(vqc: Model, match: str, local_steps: int, records: int) -> None:
    features, labels = guesses(3, records)
    there = problem(vqc, match=match, local_steps=local_steps)
    if match == "cosine":  # aim at the first guess's direction, so that not all angles are obtuse
        there = problem(
            vqc,
            match=match,
            local_steps=local_steps,
            observed=simulated(there, features[:1], labels[:1])[0] + 0.05,
        )
    residuals, jacobians = there.linearise(features, labels)
    step = 1e-6
    for column in range(records * 4):
        shift = torch.zeros(records * 4, dtype=torch.float64)
        shift[column] = step
        shift = shift.view(records, 4)
        plus, _ = there.linearise(features + shift, labels)
        minus, _ = there.linearise(features - shift, labels)
        assert torch.allclose((plus - minus) / (2 * step), jacobians[..., column], atol=1e-7)
    assert torch.allclose(residuals.square().sum(dim=-1), there.objective(features, labels))


def simulated(there: Matching, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The simulated update, from the residual of a Euclidean match with a unit vector."""
    unit = torch.zeros(there.model.n_params, dtype=torch.float64)
    unit[0] = 1
    plain = problem(
        there.model, params=there.params, observed=unit, local_steps=there.rule.steps, match="euclidean"
    )
    return plain.linearise(features, labels)[0] + unit


def test_one_step_is_the_gradient_of_the_mean_loss(vqc: Model) -> None:
    features, labels = guesses(2, 3)
    there = problem(vqc)
    params = there.params.clone().requires_grad_()
    for row in range(2):
        logits = vqc(params, features[row], execution=EXACT)
        loss = torch.nn.functional.cross_entropy(logits, labels[row])
        (gradient,) = torch.autograd.grad(loss, params)
        assert torch.allclose(simulated(there, features, labels)[row], gradient, atol=1e-12)


@pytest.mark.parametrize("local_steps", [1, 4])
def test_the_true_records_explain_the_loops_update(
    pipeline: Callable[..., Pipeline], local_steps: int
) -> None:
    pipe = pipeline(members=20, rounds=1, local_steps=local_steps, learning_rate=0.2)
    result = run_batch(pipe, Stack(name="none"), [RunSpec(seed=0)])[0]
    seen = result.view(honest_but_curious_server())
    update = seen.readable("update", about=4)[0].vector.double()
    records = result.client_records(4)
    there = problem(
        pipe.model,
        params=result.initial.double(),
        observed=-update / 0.2,
        local_steps=local_steps,
    )
    truth = records.features[None].double(), records.labels[None]
    assert float(there.objective(*truth)) < 1e-10
    wrong = truth[0].flip(dims=[-1]), truth[1]
    assert float(there.objective(*wrong)) > 1e-3


def test_momentum_and_fedprox_explain_the_loops_update(pipeline: Callable[..., Pipeline]) -> None:
    how = {"learning_rate": 0.2, "momentum": 0.8, "proximal": 1.5}
    pipe = pipeline(members=20, rounds=1, local_steps=4, **how)
    result = run_batch(pipe, Stack(name="none"), [RunSpec(seed=0)])[0]
    update = result.view(honest_but_curious_server()).readable("update", about=4)[0].vector.double()
    records = result.client_records(4)
    truth = records.features[None].double(), records.labels[None]
    start = {"params": result.initial.double(), "observed": -update / 0.2, "local_steps": 4}
    assert float(problem(pipe.model, **start, **how).objective(*truth)) < 1e-10
    for left_out in ("momentum", "proximal"):
        assert float(problem(pipe.model, **start, **{**how, left_out: 0.0}).objective(*truth)) > 1e-5, (
            left_out
        )


def test_the_scale_is_free_in_a_cosine_match_only(vqc: Model) -> None:
    features, labels = guesses(1, 2)
    observed = 0.3 * simulated(problem(vqc), features, labels)[0]
    assert float(problem(vqc, observed=observed, match="cosine").objective(features, labels)) < 1e-20
    assert float(problem(vqc, observed=observed).objective(features, labels)) > 1
    turned = problem(vqc, observed=-observed, match="cosine")
    assert float(turned.objective(features, labels)) == pytest.approx(1)


def test_other_models_can_be_matched() -> None:
    features, labels = guesses(2, 1)
    configs = (
        {"name": "classical", "n_features": 4, "hidden": [5]},
        {"name": "hybrid", "n_features": 4, "n_qubits": 2, "layers": 1},
        {"name": "vqc", "n_qubits": 4, "layers": 2, "encoder": "reuploading"},
    )
    for config in configs:
        _, jacobians = problem(build_model(config)).linearise(features, labels)
        assert bool(torch.isfinite(jacobians).all())
        assert float(jacobians.abs().max()) > 0

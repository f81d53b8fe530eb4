"""Simulated local training against the loop's own: the true records explain its updates, and others do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from qflsec.attacks.inversion import DeepLeakage
from qflsec.attacks.inversion.gradient_matching import _live, _plans
from qflsec.attacks.inversion.labels import label_options, present_classes
from qflsec.attacks.inversion.matching import Matching
from qflsec.attacks.inversion.unrolled import LocalRule, draw_plans
from qflsec.federation import FederationConfig, Pipeline, RunSpec, Stack, run_batch
from qflsec.lab.challenges import challenge_for
from qflsec.models import Execution, build_model, per_sample_gradients
from qflsec.threat import honest_but_curious_server

EXACT = Execution(dtype="complex128")
TRAININGS = [
    {"batch_size": 1, "local_steps": 3},
    {"batch_size": 2, "epochs": 2, "momentum": 0.5},
    {"batch_size": 1, "local_steps": 3, "sampling": "poisson"},
    {"optimizer": "adam", "local_steps": 3, "learning_rate": 0.05},
    {"optimizer": "adam", "batch_size": 1, "epochs": 2, "learning_rate": 0.05, "proximal": 0.5},
]


@pytest.mark.parametrize("training", TRAININGS, ids=str)
def test_the_true_records_explain_the_loops_update(
    pipeline: Callable[..., Pipeline], training: dict[str, object]
) -> None:
    """The loop is the oracle: under one of the drawn plans its update comes out; with mirrored records under none."""
    pipe = pipeline(members=30, rounds=1, **training)
    result = run_batch(pipe, Stack(name="none"), [RunSpec(seed=0)])[0]
    asked, _ = challenge_for(DeepLeakage(), result, seed=0)
    records, config = result.client_records(0), pipe.federation
    update = result.view(honest_but_curious_server()).readable("update", about=0)[0].vector.double()
    rule = LocalRule.of(config, 0, len(records.labels))
    matching = Matching(
        model=pipe.model,
        params=result.initial.double(),
        observed=-update / rule.learning_rate,
        rule=rule,
        match="euclidean",
        execution=EXACT,
        live=_live(pipe.model, result.initial.double(), asked) if rule.optimizer == "adam" else None,
    )
    groups = [[tuple(range(len(records.labels)))]]
    plans = _plans(config, len(records.labels), groups, torch.Generator().manual_seed(0))
    plan = None if plans is None else plans[:, 0]
    count = 1 if plan is None else len(plan)
    features = records.features.double().expand(count, -1, -1)
    labels = records.labels.expand(count, -1)
    assert float(matching.objective(features, labels, plan).min()) < 1e-8
    assert float(matching.objective(torch.pi - features, labels, plan).min()) > 1e-2


def test_plans_are_what_the_pipeline_draws() -> None:
    generator = torch.Generator().manual_seed(0)

    def plan(n: int, **training: object) -> torch.Tensor:
        return draw_plans(FederationConfig(**training), n, 50, generator)  # type: ignore[arg-type]

    assert torch.equal(plan(3, local_steps=2), torch.full((1, 2, 3), 1 / 3, dtype=torch.float64))
    fixed = plan(5, batch_size=2, local_steps=3)
    assert fixed.shape == (50, 3, 5)
    assert torch.equal(fixed.gt(0).sum(dim=-1), torch.full((50, 3), 2))
    shuffled = plan(5, batch_size=2, epochs=2)  # two batches of two and one of one, twice
    assert shuffled.shape == (50, 6, 5)
    assert torch.equal(shuffled.gt(0).view(50, 2, 3, 5).sum(dim=2), torch.ones(50, 2, 5))
    assert torch.allclose(shuffled.sum(dim=-1), torch.ones(50, 6, dtype=torch.float64))
    poisson = plan(4, batch_size=1, local_steps=2, sampling="poisson")
    assert {0, 1, 2} <= set(poisson.gt(0).sum(dim=-1).flatten().tolist())


def hybrid_piece(labels: list[int], *, steps: int = 1) -> Matching:
    model = build_model({"name": "hybrid", "n_features": 3, "n_qubits": 2, "layers": 1, "n_classes": 3})
    generator = torch.Generator().manual_seed(len(labels))
    params = model.initial(generator).double()
    features = torch.rand(len(labels), 3, generator=generator, dtype=torch.float64)
    gradient = per_sample_gradients(model, params, features, torch.tensor(labels), execution=EXACT).mean(
        dim=0
    )
    return Matching(
        model=model,
        params=params,
        observed=gradient,
        rule=LocalRule(learning_rate=0.1, steps=steps),
        match="cosine",
        execution=EXACT,
        clients=(tuple(range(len(labels))),),
    )


def test_the_last_bias_tells_labels_up_to_repetition() -> None:
    """iDLG: one record's label always; of several, only that a class is there."""
    for label in range(3):
        assert present_classes(hybrid_piece([label])) == [label]
    generator = torch.Generator().manual_seed(0)
    several = hybrid_piece([0, 0, 1])
    assert set(present_classes(several)) <= {0, 1}
    options = label_options([several], 3, how="enumerate", most=16, generator=generator)
    assert options is not None
    assert [0, 0, 1] in options.tolist()
    assert len(options) < 10  # of the ten multisets some are excluded
    assert present_classes(hybrid_piece([1], steps=2)) == []  # signs of a sum of gradients prove nothing
    vqc = Matching(**{**vars(several), "model": build_model({"name": "vqc", "n_qubits": 2, "layers": 1})})
    assert present_classes(vqc) == []  # a circuit has no bias


def test_when_labels_are_unknowns_like_features() -> None:
    generator = torch.Generator().manual_seed(0)
    piece = hybrid_piece([0, 1])
    assert label_options([piece], 2, how="joint", most=16, generator=generator) is None
    assert label_options([piece], 2, how="auto", most=3, generator=generator) is None
    separate = Matching(**{**vars(hybrid_piece([0, 1], steps=2)), "clients": ((0,), (1,))})
    assert label_options([separate], 2, how="auto", most=16, generator=generator) is None
    records = torch.rand(1, 2, 3, generator=generator, dtype=torch.float64)
    certain = torch.tensor([[[0, 1, 0], [1, 0, 0]]], dtype=torch.float64)
    assert torch.equal(piece.residuals(records, torch.tensor([[1, 0]])), piece.residuals(records, certain)), (
        "certain labels are labels"
    )


def test_labels_of_records_that_updates_tell_apart_are_tried_in_every_order() -> None:
    """A sum of all records, and one of the first two: their labels count by themselves, the rest's by themselves."""
    generator = torch.Generator().manual_seed(0)
    piece = vars(hybrid_piece([0, 1, 1])) | {
        "model": build_model({"name": "vqc", "n_qubits": 2, "layers": 1})
    }
    whole, part = (Matching(**{**piece, "clients": groups}) for groups in (((0, 1, 2),), ((0, 1),)))
    options = label_options([whole, part], 3, how="auto", most=6, generator=generator)
    assert options is not None
    first = [[0, 0], [0, 1], [1, 1]]
    assert sorted(options.tolist()) == sorted([*pair, one] for pair in first for one in (0, 1))
    assert label_options([whole, part], 3, how="auto", most=5, generator=generator) is None
    drawn = label_options([whole, part], 3, how="enumerate", most=5, generator=generator)
    assert drawn is not None
    assert len(drawn) == 5
    assert all(row in options.tolist() for row in drawn.tolist())


def test_several_clients_train_on_their_own_parts() -> None:
    """Against each client alone: the weighted mean of their updates, over one step and over several."""
    model = build_model({"name": "vqc", "n_qubits": 2, "layers": 2})
    generator = torch.Generator().manual_seed(1)
    params = model.initial(generator).double()
    features = torch.rand(1, 3, 2, generator=generator, dtype=torch.float64)
    labels = torch.tensor([[0, 1, 1]])
    for steps in (1, 3):
        rule = LocalRule(learning_rate=0.3, steps=steps)

        def simulate(clients: tuple[tuple[int, ...], ...], rule: LocalRule = rule) -> torch.Tensor:
            piece = Matching(
                model=model,
                params=params,
                observed=torch.ones(model.n_params, dtype=torch.float64),
                rule=rule,
                match="euclidean",
                execution=EXACT,
                clients=clients,
            )
            return piece._simulate(features, labels, None, create_graph=False)[0]

        together = simulate(((0,), (1, 2)))
        assert torch.allclose(together, (simulate(((0,),)) + 2 * simulate(((1, 2),))) / 3, atol=1e-12)

"""Which aggregations add up what clients give, with which weights, so that the clients' noise adds up in it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy import stats

from qflsec.accounting import Training
from qflsec.accounting.accountants import epsilon_rdp
from qflsec.attacks import attack_from_config
from qflsec.base import ConfigError, find, names
from qflsec.data import PartitionSpec
from qflsec.defenses.privacy import ClientClip, DpFedAvg, DpSgd, GradientNoise, LocalDp
from qflsec.defenses.robust import Median, NormBound
from qflsec.federation import AggregationLayer, Layer, Pipeline, RunSpec, Schedule, Stack, run_batch
from qflsec.models import build_model
from qflsec.protocols.ghz import Ghz
from qflsec.protocols.secagg import Ddp, Masked
from qflsec.protocols.secagg.one_round import OneRound
from qflsec.protocols.validated import Validated
from qflsec.threat import ThreatModel, corrupted_clients, honest_but_curious_server, public_final_model

Maker = Callable[..., Pipeline]
SKEWED = PartitionSpec(kind="dirichlet", alpha=0.5, min_records=2)

EXACT = {"masked", "secagg", "validated-groups", "he-bfv", "he-masked", "he-threshold"}
ALIKE = {"ghz", "ddp", "validated"}


def aggregations() -> list[type[AggregationLayer]]:
    kinds = [find("layer", name) for name in names("layer")]
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, AggregationLayer)]


def test_what_every_aggregation_states() -> None:
    """A new one is no exact sum until this table says so, and the test below shows it."""
    known = {kind.card.name: kind for kind in aggregations()}
    assert {name for name, kind in known.items() if kind.additive} == EXACT & set(known)
    assert {name for name, kind in known.items() if not kind.weighted} == ALIKE & set(known)


@pytest.mark.parametrize("name", sorted(EXACT))
def test_an_aggregation_that_says_so_gives_the_exact_weighted_sum(name: str) -> None:
    """Of vectors as long as noise makes them, with the weights that the loop and the ledger use."""
    layer = find("layer", name)()
    n = 9 if name == "validated-groups" else 4
    counts = torch.tensor([8.0, 11.0, 41.0, 3.0, 17.0, 5.0, 23.0, 2.0, 29.0][:n])
    given = 20 * torch.randn(n, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    report = OneRound(layer, given, counts).run()
    assert report.mean is not None, report.reason
    weights = torch.tensor(Stack.from_layers("one", [layer]).weights(counts.tolist()), dtype=torch.float64)
    expected = (weights[:, None] * given).sum(dim=0) / weights.sum()
    grid = 2.0**-layer.fractional_bits
    assert float((report.mean.double() - expected).abs().max()) <= n * grid / float(weights.sum()) + 1e-5


@pytest.mark.parametrize("name", sorted(ALIKE))
def test_an_aggregation_that_clips_gives_no_sum_of_what_it_got(name: str) -> None:
    """So that noise in what clients give is neither weighted by their records nor Gaussian afterwards."""
    layer = find("layer", name)()
    given = 20 * torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    report = OneRound(layer, given, torch.tensor([8.0, 11.0, 41.0, 3.0])).run()
    assert report.mean is not None, report.reason
    assert not layer.weighted
    assert float((report.mean.double() - given.mean(dim=0)).abs().max()) > 2.0


def handed(pipeline: Pipeline, *layers: Layer, threat: ThreatModel | None = None) -> Training:
    """What a run of these layers hands to every row."""
    (result,) = run_batch(pipeline, Stack.from_layers("stack", layers), [RunSpec(seed=3)])
    return result.context(result.view(threat or honest_but_curious_server())).training


@pytest.mark.parametrize(
    ("layers", "additive", "alike"),
    [
        ((), True, False),
        ((DpSgd(),), True, False),
        ((DpSgd(), Masked()), True, False),
        ((DpSgd(), ClientClip()), False, False),
        ((DpSgd(), GradientNoise(), Masked()), False, False),
        ((DpSgd(), LocalDp(), Masked()), False, False),
        ((DpSgd(), NormBound()), False, False),
        ((DpSgd(), Median()), False, False),
        ((DpSgd(), DpFedAvg()), False, False),
        ((DpSgd(), Ddp()), False, True),
        ((DpSgd(), Ghz(shots=20, tests=4)), False, True),
        ((DpSgd(), Validated()), False, True),
    ],
    ids=lambda value: "+".join(layer.card.name for layer in value) if isinstance(value, tuple) else "",
)
def test_what_a_run_hands_to_the_ledger(
    make_pipeline: Maker, layers: tuple[Layer, ...], additive: bool, alike: bool
) -> None:
    training = handed(make_pipeline(rounds=1, partition=SKEWED, test=0), *layers)
    assert training.additive is additive
    assert len(set(training.counts)) > 1
    assert training.weights == ((1.0,) * 3 if alike else tuple(map(float, training.counts)))


SEVERAL: list[dict[str, Any]] = [{"optimizer": "adam"}, {"local_steps": 2}, {"epochs": 2}, {"momentum": 0.5}]


@pytest.mark.parametrize("federation", SEVERAL, ids=str)
def test_noise_adds_up_in_one_step_of_plain_sgd_only(
    make_pipeline: Maker, federation: dict[str, Any]
) -> None:
    training = handed(make_pipeline(rounds=1, test=0, **federation), DpSgd())
    assert not (training.additive and training.local_steps == 1)


def test_what_the_ledger_is_told_of_epochs_and_schedules(make_pipeline: Maker) -> None:
    """The steps that a record is in, how batches were made, and the least learning rate of all rounds."""
    falling = Schedule(kind="step", step_size=1, gamma=0.1)
    training = handed(make_pipeline(rounds=3, test=0, epochs=2, batch_size=4, schedule=falling), DpSgd())
    assert (training.sampling, training.local_steps, training.batch_size) == ("shuffled", 2, 4)
    assert training.learning_rate == pytest.approx(0.002)
    assert handed(make_pipeline(rounds=1, test=0, epochs=2), DpSgd()).sampling == "full"


def test_a_part_that_clients_keep_ends_the_credit_for_others_noise(make_pipeline: Maker) -> None:
    """A head that stays at its client has that client's noise alone, and steers what all of its records add to the next sum.

    Noise z = 1, two rounds, 100 clients: one record moves the head by a standard deviation, and the other records of its
    client, many of them, send its sign. The sign is right with probability .8413 instead of .5, so that epsilon is at
    least 1.147, whereas noise added up over 100 clients would promise less than 0.7.
    """
    pipeline = make_pipeline(members=24, n_clients=3, rounds=1, test=0)
    hybrid = build_model({"name": "hybrid", "n_qubits": 4, "layers": 1, "n_features": 4, "n_classes": 2})
    assert handed(replace(pipeline, model=hybrid), DpSgd()).additive
    assert not handed(replace(pipeline, model=hybrid, personal=("after",)), DpSgd()).additive
    told = math.log((1 - stats.norm.cdf(0) - 1e-5) / (1 - stats.norm.cdf(1)))
    promised = epsilon_rdp(noise_multiplier=10.0, sample_rate=1.0, steps=2, delta=1e-5).epsilon
    assert told == pytest.approx(1.1478, abs=1e-4)
    assert promised < 0.7


def test_a_client_that_deviated_covers_nobody(make_pipeline: Maker) -> None:
    """Two of four clients send updates of their own making, without noise: whoever else looks counts the noise of two."""
    threat = corrupted_clients(n=2)
    spec = RunSpec(seed=3, threat=threat, adversary=attack_from_config({"name": "sign-flip"}))
    pipeline = make_pipeline(n_clients=4, rounds=2, test=0)
    run, honest = run_batch(pipeline, Stack.from_layers("s", [DpSgd()]), [spec, RunSpec(seed=3)])
    public = public_final_model()
    assert run.context(run.view(public)).training.sure_members(()) == 2
    assert honest.context(honest.view(public)).training.sure_members(()) == 4
    assert "in a sum over 2 clients" in str([row.mechanism for row in run.ledger(public)])


def test_a_run_hands_over_who_was_in_each_round(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_clients=4, rounds=4, participation=0.5, client_sampling="poisson", test=0)
    training = handed(pipeline, DpSgd())
    sizes = [len(members) for members in training.members or ()]
    assert len(sizes) == 4
    assert len(set(sizes)) > 1, "an independent draw, of two clients on average"
    assert training.sure_members(()) == min(size for size in sizes if size)


def test_a_training_has_a_weight_for_each_client() -> None:
    assert Training(counts=(3, 4), rounds=1, n_params=1).weights == (3.0, 4.0)
    with pytest.raises(ConfigError, match="every client needs a weight"):
        Training(counts=(3, 4), rounds=1, n_params=1, weights=(1.0,))

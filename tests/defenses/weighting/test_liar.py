"""A client that lies about its loss: what it gains under each rule, and what a cap leaves of it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from qflsec.attacks.poisoning import LabelFlip, LossLiar
from qflsec.attacks.poisoning.loss_liar import counts_small_losses
from qflsec.base import ConfigError
from qflsec.data import DataSpec
from qflsec.defenses.robust import Median
from qflsec.defenses.weighting import LossWeighted, QFedAvg, Softmin, WeightCap
from qflsec.federation import Adversary, FederationConfig, Layer, Pipeline, RunSpec, Stack, run_batch
from qflsec.models import build_model
from qflsec.threat import corrupted_clients

ONE = replace(corrupted_clients(n=1), knows=("architecture", "defenses"))
Q = QFedAvg(lipschitz=0.4)


@cache
def pipeline() -> Pipeline:
    return Pipeline(
        data=DataSpec(
            name="breast-cancer",
            n_features=4,
            balanced=True,
            members=200,
            nonmembers=0,
            auxiliary=40,
            test=100,
        ),
        model=build_model({"name": "vqc", "n_qubits": 4, "layers": 3}),
        federation=FederationConfig(n_clients=10, rounds=25, local_steps=5, learning_rate=0.5),
    )


@cache
def accuracy(*layers: Layer, attack: Adversary | None = None) -> float:
    """The mean over three seeds."""
    threat = None if attack is None else ONE
    specs = [RunSpec(seed=s, adversary=attack, threat=threat, evaluate="last") for s in range(3)]
    found = run_batch(pipeline(), Stack.from_layers("s", layers), specs)
    assert all(run.outcome == "completed" for run in found)
    return sum(run.accuracy[-1] for run in found) / len(found)


def test_one_liar_of_ten_takes_the_model_where_weights_have_no_bound() -> None:
    """Without a lie one flipper of ten costs nothing to speak of; with it, it turns the model round or spoils it."""
    assert accuracy(attack=LabelFlip()) > 0.85
    for rule in (LossWeighted(), Q):
        assert accuracy(rule) > 0.85
        assert accuracy(rule, attack=LabelFlip()) > 0.85
    assert accuracy(LossWeighted(), attack=LossLiar()) < 0.25
    assert accuracy(Q, attack=LossLiar()) < 0.5


def test_a_cap_on_weights_and_a_small_beta_bound_the_damage() -> None:
    for rule in (LossWeighted(), Q):
        assert accuracy(WeightCap(), rule, attack=LossLiar()) > 0.85
    assert accuracy(Softmin(beta=1.0), attack=LossLiar()) > 0.85
    # as the model gets worse, honest losses grow and their weights vanish
    assert accuracy(Softmin(beta=5.0), attack=LossLiar()) < 0.25


def test_the_liar_reports_what_gains_most_where_it_knows_the_rule() -> None:
    assert counts_small_losses(LossWeighted())
    assert counts_small_losses(Softmin())
    assert counts_small_losses(Median())
    assert not counts_small_losses(Q)
    assert accuracy(Q, attack=LossLiar(lie="low")) > 0.85, "the wrong lie gives weight away"


def test_where_nobody_asks_the_liar_is_a_label_flip() -> None:
    assert accuracy(attack=LossLiar()) == accuracy(attack=LabelFlip())


def test_losses_that_are_none_are_refused() -> None:
    for wrong in ({"lie": "always"}, {"low": 2.0, "high": 1.0}, {"low": -1.0}):
        with pytest.raises(ConfigError):
            LossLiar(**wrong)  # type: ignore[arg-type]

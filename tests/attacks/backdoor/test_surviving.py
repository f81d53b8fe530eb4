"""A trigger that is planted through the server's pruning and tuning, beside the same attack that does not know of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from qflsec.attacks.backdoor import FeatureTrigger, SurvivingTrigger
from qflsec.base import ConfigError
from qflsec.data import DataSpec
from qflsec.defenses.backdoor import FinePruning
from qflsec.federation import FederationConfig, Hands, Pipeline, RunSpec, Stack, run_batch
from qflsec.lab.scoring import score_backdoor
from qflsec.models import Classical
from qflsec.threat import Records, ThreatModel, corrupted_clients

MakeHands = Callable[..., Hands]
PIPELINE = Pipeline(
    data=DataSpec(name="breast-cancer", n_features=4, members=100, nonmembers=0, auxiliary=100, test=150),
    model=Classical(n_features=4, hidden=(16,)),
    federation=FederationConfig(n_clients=10, rounds=20, local_steps=2, learning_rate=0.5),
)
WHO = corrupted_clients(n=2)
KNOWS = replace(WHO, knows=frozenset({"defenses"}))
PRUNED = Stack(name="pruned", server=(FinePruning(),))


def test_with_the_defense_known_the_trigger_survives_pruning_and_behind_tuning_it_spoils_the_model() -> None:
    """The control is the same attack without the knowledge; without a defense both are the plain trigger, bit for bit."""
    attack = SurvivingTrigger(target_class=0, features=(1,), first_round=15)
    plain = FeatureTrigger(target_class=0, features=(1,), first_round=15)
    seeds = (0, 6)
    specs = [RunSpec(seed=seed, evaluate="last") for seed in seeds]

    def lied(stack: Stack, who: ThreatModel, how: FeatureTrigger) -> list[tuple[float, float]]:
        honest = run_batch(PIPELINE, stack, specs)
        runs = run_batch(PIPELINE, stack, [replace(one, adversary=how, threat=who) for one in specs])
        found = [
            score_backdoor(how, after, before, seed=seed)
            for after, before, seed in zip(runs, honest, seeds, strict=True)
        ]
        return [(one.advantage, one.metrics["accuracy"].value) for one in found]

    alone = Stack(name="alone", server=(FinePruning(steps=0),))
    known, unknown = lied(alone, KNOWS, attack), lied(alone, WHO, attack)
    assert known[1][0] > 0.9
    assert known[1][1] > 0.8, "a backdoor, in a model that is right otherwise"
    assert max(advantage for advantage, _ in unknown) < 0.1
    for advantage, accuracy in lied(PRUNED, KNOWS, attack):
        assert advantage > 0.9
        assert accuracy < 0.5, "one class for everything, which no trigger is needed for"
    none = Stack(name="none")
    assert lied(none, KNOWS, attack) == lied(none, WHO, plain)


def test_units_that_will_be_pruned_are_not_planted_in(hands: MakeHands) -> None:
    """Behind pruning alone the weights that read a pruned unit stay; with nothing pruned, all weights move."""
    model = Classical(n_features=4, hidden=(5,))
    generator = torch.Generator().manual_seed(2)
    params = model.initial(generator)
    records = Records(features=torch.rand(30, 4, generator=generator), labels=torch.arange(30) % 2)
    poisoned = Records(features=records.features, labels=torch.zeros(30, dtype=torch.long))
    columns = model.unflatten(torch.arange(len(params)))["dense.1.weight"]
    attack, held = SurvivingTrigger(plans=1), hands([], model=model)
    for prune in (True, False):
        layer = FinePruning(tolerance=1.0, prune=prune, steps=0)
        moved = attack.planned(held, layer, params, records, poisoned) != params
        stays = [unit for unit in range(5) if not bool(moved[columns[:, unit]].any())]
        assert len(stays) == (4 if prune else 0)


def test_refusals() -> None:
    for bad in ({"plans": 0}, {"plan_rate": 0.0}, {"plan_rate": float("inf")}):
        with pytest.raises(ConfigError, match=r"out of range|finite"):
            SurvivingTrigger(**bad)  # type: ignore[arg-type]

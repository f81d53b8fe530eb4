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
from qflsec.threat import Records, corrupted_clients

MakeHands = Callable[..., Hands]
PIPELINE = Pipeline(
    data=DataSpec(name="breast-cancer", n_features=4, members=100, nonmembers=0, auxiliary=100, test=150),
    model=Classical(n_features=4, hidden=(16,)),
    federation=FederationConfig(n_clients=10, rounds=20, local_steps=2, learning_rate=0.5),
)
WHO = corrupted_clients(n=2)
KNOWS = replace(WHO, knows=frozenset({"defenses"}))
PRUNED = Stack(name="pruned", server=(FinePruning(),))


def test_with_the_defense_known_the_trigger_survives_it() -> None:
    """The control is the same attack without the knowledge; without a defense both are the plain trigger, bit for bit."""
    attack = SurvivingTrigger(target_class=0, features=(1,), first_round=15)
    plain = FeatureTrigger(target_class=0, features=(1,), first_round=15)
    seeds = (0, 1)
    specs = [RunSpec(seed=seed, evaluate="never") for seed in seeds]

    def lied(stack: Stack, who: object, how: FeatureTrigger) -> list[float]:
        honest = run_batch(PIPELINE, stack, specs)
        runs = run_batch(PIPELINE, stack, [replace(one, adversary=how, threat=who) for one in specs])  # type: ignore[arg-type]
        return [
            score_backdoor(how, after, before, seed=seed).advantage
            for after, before, seed in zip(runs, honest, seeds, strict=True)
        ]

    known, unknown = lied(PRUNED, KNOWS, attack), lied(PRUNED, WHO, attack)
    assert min(known) > 0.9
    assert max(unknown) < 0.1
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

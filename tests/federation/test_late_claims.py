"""What is published of updates that come late, over many seeds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from qflsec.federation import RunSpec, Stack, run_batch
from qflsec.lab import build, load_spec
from tests.federation.claims import told

NONE = Stack(name="none")


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "name"), [("satellites", "four"), ("vehicles", "town")])
def test_smaller_steps_make_up_for_age_whether_they_go_by_the_age_or_not(preset: str, name: str) -> None:
    """Xie, Koyejo, Gupta, arXiv:1903.03934: a factor that falls with age. Presets `satellites` and `vehicles`, 64 seeds."""
    pipeline = build(load_spec(preset)).matrix.pipelines[name]
    parts = pipeline.parts
    assert parts is not None

    def run(rounds: int, power: float = 0.0, rate: float = 1.0) -> torch.Tensor:
        found = replace(
            pipeline,
            parts=replace(parts, train_rounds=rounds, staleness_power=power),
            federation=replace(pipeline.federation, server_learning_rate=rate),
        )
        specs = [RunSpec(seed=seed, evaluate="last") for seed in range(64)]
        made = torch.tensor([[one.accuracy[-1]] for one in run_batch(found, NONE, specs)])
        told(f"{preset}, train_rounds {rounds}, power {power}, server's rate {rate}:", made)
        return made

    prompt, late, discounted, halved = run(0), run(1), run(1, 0.5), run(1, rate=0.5)
    ((_, cost),) = told("late less prompt:", late - prompt)
    told("prompt less discounted:", prompt - discounted)
    ((gain, _),) = told("discounted less late:", discounted - late)
    ((low, high),) = told("discounted less halved:", discounted - halved)
    assert cost < 0 < gain
    assert -0.02 < low < high < 0.01, "the age is worth nothing beside a smaller step"

"""How well a class is ranked above the rest: against the definitions, and through a matrix."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import recall_score

from qflsec.base import ConfigError
from qflsec.cli.grids import federation_grid
from qflsec.defenses.privacy import GradientNoise
from qflsec.federation import RunSpec, Stack, layer_from_config, run_batch
from qflsec.lab import assemble, build, from_json, parse_spec, run_matrix, to_json
from qflsec.lab.grid.compare import compare
from qflsec.lab.scoring import mean_ranking, ranking
from qflsec.lab.tables import cells_csv, latex, markdown, trials_csv
from qflsec.report import render_report

SPEC = """
name = "ranked"
seeds = [0, 1]
[pipelines.rare]
data = { name = "breast-cancer", n_features = 2, members = 24, nonmembers = 0, auxiliary = 4, test = 40 }
model = { name = "layered", n_qubits = 2, layers = 2 }
federation = { n_clients = 2, rounds = 2, local_steps = 2 }
personal = ["layer.2"]
detects = 0
[pipelines.plain]
data = { name = "breast-cancer", n_features = 2, members = 24, nonmembers = 0, auxiliary = 4, test = 40 }
model = { name = "layered", n_qubits = 2, layers = 2 }
federation = { n_clients = 2, rounds = 2, local_steps = 2 }
[stacks]
none = []
noisy = [{ name = "gradient-noise", noise_std = 0.3 }]
[threats.first]
kind = "corrupted-clients"
n = 1
[[attacks]]
name = "sign-flip"
label = "rare"
pipeline = "rare"
threat = "first"
[[attacks]]
name = "sign-flip"
label = "plain"
pipeline = "plain"
threat = "first"
"""


def plain(logits: torch.Tensor, labels: torch.Tensor, label: int) -> tuple[float, float]:
    """Shares of pairs in the right order, and the sum over thresholds, both written out from the probabilities."""
    p = logits.double().softmax(dim=1)[:, label]
    odds = (p / (1 - p)).tolist()
    ill = [one for one, truth in zip(odds, labels.tolist(), strict=True) if truth == label]
    well = [one for one, truth in zip(odds, labels.tolist(), strict=True) if truth != label]
    pairs = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in product(ill, well))
    area, before = 0.0, 0.0
    for threshold in sorted(set(odds), reverse=True):
        caught = sum(one >= threshold for one in ill)
        precision = caught / sum(one >= threshold for one in odds)
        area, before = area + (caught / len(ill) - before) * precision, caught / len(ill)
    return pairs / (len(ill) * len(well)), area


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 4), st.integers(4, 14), st.integers(0, 10_000))
def test_both_areas_are_their_definitions(classes: int, n: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    # some records are alike, so that scores are equal
    logits = torch.randn(n, classes, generator=generator)[torch.randint(0, n, (n,), generator=generator)]
    labels = torch.randint(0, classes, (n,), generator=generator)
    known = [label for label in range(classes) if 0 < int((labels == label).sum()) < n]
    for label in range(classes):
        found = ranking(logits, labels, label)
        if label not in known:
            assert found == {}
            continue
        auroc, aupr = plain(logits, labels, label)
        assert (found["auroc"], found["aupr"]) == pytest.approx((auroc, aupr), abs=1e-9)
        assert found["prevalence"] == pytest.approx(float((labels == label).double().mean()))
        answers = logits[labels == label].argmax(dim=1)
        assert found["recall"] == pytest.approx(float((answers == label).double().mean()))
    every = ranking(logits, labels, "every")
    each = [plain(logits, labels, label) for label in known]
    assert bool(every) == bool(known)
    if len(known) == len(set(labels.tolist())) and known:
        answers = logits.argmax(dim=1)
        balanced = recall_score(labels.numpy(), answers.numpy(), labels=known, average="macro")
        assert every["recall"] == pytest.approx(float(balanced))
    if known:
        assert every["auroc"] == pytest.approx(sum(one[0] for one in each) / len(each), abs=1e-9)
        assert every["aupr"] == pytest.approx(sum(one[1] for one in each) / len(each), abs=1e-9)


def test_weights_are_repetitions_and_zero_leaves_out() -> None:
    generator = torch.Generator().manual_seed(3)
    logits, labels = torch.randn(12, 2, generator=generator), torch.tensor([0, 1, 1] * 4)
    times = torch.tensor([0, 1, 2, 3] * 3)
    repeated = [row for row, count in enumerate(times.tolist()) for _ in range(count)]
    assert ranking(logits, labels, 0, weights=times) == pytest.approx(
        ranking(logits[repeated], labels[repeated], 0)
    )
    assert ranking(logits, labels, 0, weights=(labels == 1).long()) == {}


def test_an_area_goes_from_the_run_through_every_output(tmp_path: Path) -> None:
    world = build(parse_spec(SPEC, base=tmp_path))
    list(run_matrix(world, tmp_path / "s.sqlite", jobs=1))
    result = assemble(world, tmp_path / "s.sqlite")
    parts = result.summaries["none"].by_pipeline
    assert not parts["plain"].detection
    assert parts["rare"].detection["auroc"].baseline == 0.5
    assert 0 < parts["rare"].detection["aupr"].baseline < 0.6
    assert {"personal_auroc", "alone_aupr", "shared_auroc"} <= set(parts["rare"].own)
    pipeline = world.matrix.pipelines["rare"]

    def by_hand(stack: Stack) -> list[float]:
        runs = run_batch(pipeline, stack, [RunSpec(seed=seed) for seed in (0, 1)])
        return [
            plain(pipeline.model(model, run.records("test").features), run.records("test").labels, 0)[0]
            for run in runs
            for model in run.models
        ]

    free, noisy = (
        by_hand(Stack(name="none")),
        by_hand(Stack.from_layers("noisy", [GradientNoise(noise_std=0.3)])),
    )
    assert parts["rare"].detection["auroc"].value == pytest.approx(sum(free) / len(free), abs=1e-9)
    assert parts["rare"].detection_lost["auroc"].low == parts["rare"].detection_lost["auroc"].high == 0
    behind = result.summaries["noisy"].by_pipeline["rare"]
    taken = (sum(free) - sum(noisy)) / len(free)
    assert behind.detection_lost["auroc"].value == pytest.approx(taken, abs=1e-9)
    assert taken != 0
    assert not result.summaries["noisy"].by_pipeline["plain"].detection_lost
    again = from_json(to_json(result))
    assert again.summaries["none"].by_pipeline["rare"] == parts["rare"]
    heads = [row.head[0].text for row in federation_grid(result).rows]
    assert heads.count("AUROC without attack") == heads.count("AUPR on own classes") == 1
    assert "AUPR without attack" in render_report(result)
    assert "AUROC on rare" in markdown(result)
    assert "AUROC on plain" not in latex(result)
    assert "honest_auroc" in trials_csv(result).splitlines()[0]
    assert "auroc" not in cells_csv(result).splitlines()[0]
    rare, flat = result.cells["rare", "none"], result.cells["plain", "none"]
    assert set(rare.measures) == {"advantage", "auroc", "aupr", "recall"}
    assert set(flat.measures) == {"advantage"}
    moved = {part.attack: part.changes for part in compare(result, again)}
    assert moved["rare"]["auroc"].value == 0


def test_a_class_that_is_none_and_scores_that_nobody_sees(tmp_path: Path) -> None:
    world = build(parse_spec(SPEC, base=tmp_path))
    pipeline = world.matrix.pipelines["rare"]
    for wrong in (2, -1, True, "all"):
        with pytest.raises(ConfigError, match="names no class"):
            replace(pipeline, detects=wrong)  # type: ignore[arg-type]
    assert "detects" not in world.matrix.pipelines["plain"].to_config()
    shared = replace(pipeline, personal=())
    serving = Stack.from_layers("served", [layer_from_config({"name": "randomised-smoothing", "samples": 2})])
    stacks = (Stack(name="none"), serving)
    found = [mean_ranking(run_batch(shared, stack, [RunSpec(seed=0)])[0]) for stack in stacks]
    assert [bool(one) for one in found] == [True, False]

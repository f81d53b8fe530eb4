"""Norms of what clients release: those of the messages themselves, whoever sends them and whoever reads them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from qflsec.attacks.poisoning import ScaledSignFlip
from qflsec.defenses.privacy import ClientClip
from qflsec.federation import (
    Adversary,
    ClientPayloads,
    Hands,
    Pipeline,
    Ring,
    RunResult,
    RunSpec,
    Stack,
    run_batch,
)
from qflsec.protocols.secagg import Masked
from qflsec.threat import SERVER, ThreatModel, corrupted_clients

Maker = Callable[..., Pipeline]
NONE = Stack(name="none")
CLIP = Stack.from_layers("clip", [ClientClip(clip_norm=0.03)])
SCALE = 7.0


def runs(pipeline: Pipeline, stack: Stack, *adversaries: Adversary) -> list[RunResult]:
    threat = corrupted_clients(n=1)
    specs = [RunSpec(seed=0), *(RunSpec(seed=0, adversary=one, threat=threat) for one in adversaries)]
    return run_batch(pipeline, stack, specs, secrets="seeded")


def from_messages(run: RunResult) -> np.ndarray:
    """The norms of the updates that a server sees where nothing hides them, without the lab's own arithmetic."""
    found = np.full((run.training.rounds, run.training.n_clients), np.nan)
    for item in run.view(ThreatModel(name="server", corrupted=frozenset({SERVER}))).items:
        if item.kind == "update" and isinstance(item.value, torch.Tensor):
            update = [float(value) for value in item.value[:-1]]  # the last is the number of records
            found[item.round, item.sender.index] = math.hypot(*update)
    return found


def test_norms_are_those_of_the_messages(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_qubits=2, members=12, n_clients=4, rounds=3, participation=0.5)
    honest, attacked = runs(pipeline, NONE, ScaledSignFlip(scale=SCALE))
    for run in (honest, attacked):
        assert run.norms.dtype == torch.float32
        assert run.norms.shape == (3, 4)
        expected = from_messages(run)
        assert np.isnan(expected).sum() == 6  # two of four take part in each round
        np.testing.assert_allclose(run.norms.numpy(), expected, rtol=1e-6)


def test_a_lie_shows_its_factor_and_only_honest_clients_are_bound(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_qubits=2, members=12, rounds=1)
    (honest, attacked), (clipped, lied) = (
        runs(pipeline, stack, ScaledSignFlip(scale=SCALE)) for stack in (NONE, CLIP)
    )
    (liar,) = corrupted_clients(n=1).clients
    others = [index for index in range(3) if index != liar]
    for without, with_lie in ((honest, attacked), (clipped, lied)):
        assert float(with_lie.norms[0, liar]) == pytest.approx(
            SCALE * float(without.norms[0, liar]), rel=1e-5
        )
        assert torch.equal(with_lie.norms[0, others], without.norms[0, others])
    assert float(honest.norms.min()) > 0.03, "the clip norm would bind nobody"
    assert float(lied.norms[0, others].max()) <= 0.03 * (1 + 1e-6)
    assert float(lied.norms[0, liar]) > 0.03


def test_masks_hide_norms_from_the_server_and_not_from_the_lab(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_qubits=2, members=12, rounds=1)
    (plain,), (masked,) = (runs(pipeline, stack) for stack in (NONE, Stack.from_layers("sum", [Masked()])))
    assert torch.equal(masked.norms, plain.norms)
    assert np.isnan(from_messages(masked)).all()


class Odd(Adversary):
    """Sends something in place of an update."""

    def __init__(self, payload: float | None) -> None:
        self.payload = payload

    def updates(self, hands: Hands) -> torch.Tensor | ClientPayloads:
        if self.payload is None:
            return [[None] * hands.honest.shape[1]] * hands.honest.shape[0]
        return torch.full_like(hands.honest, self.payload)

    def identity(self) -> dict[str, object]:
        return {"name": "odd", "payload": str(self.payload)}


def test_what_is_no_update_has_no_norm_and_a_huge_one_does_not_overflow(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_qubits=2, members=12, rounds=1)
    (liar,) = corrupted_clients(n=1).clients
    _, silent, huge, nan = runs(pipeline, NONE, Odd(None), Odd(1e30), Odd(math.nan))
    size = pipeline.sharing.n_shared
    assert math.isnan(silent.norms[0, liar])
    assert float(huge.norms[0, liar]) == pytest.approx(1e30 * math.sqrt(size), rel=1e-6)
    assert math.isnan(nan.norms[0, liar])


def test_each_client_of_a_ring_has_its_turn(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_qubits=2, members=12, rounds=2)
    ring = Pipeline(
        data=pipeline.data,
        partition=pipeline.partition,
        model=pipeline.model,
        federation=pipeline.federation,
        topology=Ring(),
    )
    (run,) = runs(ring, NONE)
    assert torch.isfinite(run.norms).all()
    assert float(run.norms.min()) > 0

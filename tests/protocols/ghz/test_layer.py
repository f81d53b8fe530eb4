"""Quantum secure aggregation in the loop: the model, views, ledger, costs, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from qflsec.base import ConfigError, IncompatibleStack
from qflsec.defenses.robust import Median
from qflsec.federation import RunResult, RunSpec, Stack, run_batch
from qflsec.protocols.ghz import Ghz
from qflsec.protocols.links import AesGcmLink
from qflsec.threat import coalition

Maker = Callable[..., Any]
LAYER = Ghz(shots=4000, max_abs=0.5, tests=50)


def one(pipeline: Any, *layers: Any, **spec: Any) -> RunResult:
    stack = Stack.from_layers("s", layers)
    return run_batch(pipeline, stack, [RunSpec(seed=4, **spec)], grant_honest_updates=True, secrets="seeded")[
        0
    ]


@pytest.mark.parametrize("link", [(), (AesGcmLink(),)])
def test_the_server_reads_the_mean_of_equal_clients_with_the_stated_error(
    make_pipeline: Maker, link: Any
) -> None:
    result = one(make_pipeline(n_clients=4), LAYER, *link)
    assert result.outcome == "completed"
    view = result.view(coalition(server=True))
    for round_index in range(2):
        (item,) = view.readable("aggregate", round_index=round_index)
        updates = [result.transcript.honest_updates[0][round_index, i] for i in range(4)]
        error = (item.vector - torch.stack(updates).mean(dim=0)).abs().max()
        assert 0 < error < 5 * 0.5 / (torch.pi / 2) / 4000**0.5
        assert (item.k, item.weight) == (4, 4.0)
    plain = one(make_pipeline(n_clients=4))
    assert torch.allclose(plain.params, result.params, atol=0.05)


def test_costs_are_states_and_qubits(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_clients=4)
    result = one(pipeline, LAYER)
    copies = 2 * (2 * 4000 * pipeline.model.n_params + 50)
    assert result.costs["ghz_states"] == copies
    assert result.costs["ghz_qubits"] == 4 * copies


def test_what_each_coalition_reads(make_pipeline: Maker) -> None:
    """Only all others together come to a single update, and only with the noise of the sum."""
    result = one(make_pipeline(n_clients=4), LAYER)
    truth = result.transcript.honest_updates[0][0, 3]
    for server in (False, True):
        for n in range(4):
            threat = coalition(server=server, n=n)
            view = result.view(threat)
            singles = [i for i in view.readable("update", round_index=0) if i.about == {3}]
            assert bool(singles) == (n == 3), (server, n)
            assert bool(view.readable("aggregate", round_index=0)) == (server or n > 0)
            for item in singles:
                assert not torch.equal(item.vector, truth)
                assert torch.allclose(item.vector, truth, atol=4 * 5 * 0.5 / 1.57 / 4000**0.5)
            rows = [row for row in result.ledger(threat) if row.layer == "ghz"]
            assert bool(rows) == (server or n > 0)
            if n == 3:
                assert [row.guarantee for row in rows] == ["not covered"]
            elif server:
                assert rows[0].assumption == "none", "its secrets are seeded"
                assert ("not proved" in rows[0].note) == (n > 0)
                assert "stabiliser tests" in rows[0].mechanism
    exact = {truth.numpy().tobytes()[:16]}
    everything = result.view(coalition(server=True, wire=True, n=2))
    blobs = [i.value if isinstance(i.value, bytes) else i.vector.numpy().tobytes() for i in everything.items]
    assert not any(canary in blob for canary in exact for blob in blobs)


def test_seeded_coins_hide_nothing(make_pipeline: Maker) -> None:
    """Whoever knows the seed knows which copies are tested."""
    stack = Stack.from_layers("s", [Ghz(shots=20, tests=20)])
    server = coalition(server=True)
    for secrets, assumption in (("os", "information-theoretic"), ("seeded", "none")):
        result = run_batch(make_pipeline(n_clients=3), stack, [RunSpec(seed=1)], secrets=secrets)[0]
        row = next(row for row in result.ledger(server) if row.layer == "ghz" and row.guarantee == "secrecy")
        assert row.assumption == assumption
        assert ("from a seed" in row.note) == (secrets == "seeded")
        with_client = coalition(server=True, n=1)
        row = next(r for r in result.ledger(with_client) if r.layer == "ghz" and r.guarantee == "secrecy")
        assert row.assumption == "none"
        assert "not proved" in row.note


def test_noise_above_the_tolerance_ends_the_run(make_pipeline: Maker) -> None:
    result = one(make_pipeline(n_clients=4), Ghz(shots=50, depolarising=0.2))
    assert "stabiliser tests failed" in result.outcome
    tolerant = one(make_pipeline(n_clients=4), Ghz(shots=50, depolarising=0.05, max_failed=0.2))
    assert tolerant.outcome == "completed"


def test_bits_do_not_depend_on_the_batch(make_pipeline: Maker) -> None:
    pipeline, stack = make_pipeline(n_clients=3), Stack.from_layers("s", [Ghz(shots=20, tests=20)])
    both = run_batch(pipeline, stack, [RunSpec(seed=1), RunSpec(seed=2)], secrets="seeded")
    for result, seed in zip(both, (1, 2), strict=True):
        alone = run_batch(pipeline, stack, [RunSpec(seed=seed)], secrets="seeded")[0]
        assert torch.equal(result.params, alone.params)


def test_what_is_refused(make_pipeline: Maker) -> None:
    with pytest.raises(IncompatibleStack, match="leaves only their sum"):
        Stack.from_layers("s", [Ghz(), Median()])
    for federation in ({"n_clients": 2}, {"n_clients": 4, "participation": 0.75}):
        with pytest.raises(IncompatibleStack):
            Ghz().check(make_pipeline(**federation))
    with pytest.raises(IncompatibleStack, match="GHZ states"):
        Ghz(shots=10**6).check(make_pipeline())
    for wrong in (
        {"shots": 0},
        {"span": 3.2},
        {"tests": 0},
        {"max_failed": 0.5},
        {"depolarising": 1.0},
        {"max_abs": 0},
    ):
        with pytest.raises(ConfigError):
            Ghz(**wrong)

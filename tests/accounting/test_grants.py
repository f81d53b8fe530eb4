"""Updates that a threat model grants are items of the view, and every row follows from what they hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest

from qflsec.defenses.privacy import DpSgd
from qflsec.federation import Layer, Pipeline, RunResult, RunSpec, Stack, run_batch
from qflsec.protocols.secagg import Ddp, Masked
from qflsec.threat import ThreatModel, corrupted_clients, honest_but_curious_server, public_final_model

OBSERVERS = (honest_but_curious_server, public_final_model, corrupted_clients)


@pytest.fixture
def trained(make_pipeline: Callable[..., Pipeline]) -> Callable[[Layer], RunResult]:
    def train(*layers: Layer) -> RunResult:
        pipeline = make_pipeline(n_qubits=2, n_clients=3, members=12, rounds=1, test=5)
        stack = Stack.from_layers("s", list(layers))
        return run_batch(pipeline, stack, [RunSpec(seed=0)], grant_honest_updates=True)[0]

    return train


def epsilons(run: RunResult, threat: ThreatModel, accountant: str) -> Sequence[float]:
    rows = [row for row in run.ledger(threat) if row.guarantee == "differential privacy"]
    return sorted(
        row.epsilon for row in rows if row.epsilon is not None and row.accountant.startswith(accountant)
    )


def test_masks_add_nothing_against_who_holds_the_updates(trained: Callable[..., RunResult]) -> None:
    """One Gaussian release at z = 2, delta 1e-5: 1.9931 exactly, within the .01 of the accountant."""
    run = trained(DpSgd(noise_multiplier=2.0), Masked())
    assert epsilons(run, honest_but_curious_server(), "PRV")[0] < 1.2
    for observer in OBSERVERS:
        found = epsilons(run, observer(knows=("honest-updates",)), "PRV")
        assert found == [pytest.approx(2.0032, abs=1e-3)], observer


def test_noise_that_comes_with_the_seal_protects_nothing_before_it(trained: Callable[..., RunResult]) -> None:
    run = trained(Ddp())
    assert epsilons(run, honest_but_curious_server(), "")[0] <= 8
    for observer in OBSERVERS:
        threat = observer(knows=("honest-updates",))
        assert epsilons(run, threat, "") == [math.inf], observer
        assert any("the threat model grants" in row.statement for row in run.ledger(threat))
        assert any("before anything sealed them" in sentence for sentence in run.account(threat).sees)


def test_what_is_granted_stands_beside_the_sums_that_it_takes_apart(
    trained: Callable[..., RunResult],
) -> None:
    """Of a sum of three with every update granted nobody is hidden."""
    run = trained(Masked())
    view = run.view(honest_but_curious_server(knows=("honest-updates",)))
    granted = [item for item in view.items if item.granted]
    assert [(item.about, item.k, item.weight) for item in granted] == [
        (frozenset({i}), 1, 4.0) for i in range(3)
    ]
    assert {item.k for item in view.readable("aggregate")} == {0}
    assert not hasattr(view.granted, "honest_updates")

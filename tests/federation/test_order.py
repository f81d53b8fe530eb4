"""The order of all hooks of one round, from what layers of each kind and the adversary write down."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from recorders import (
    Aggregated,
    Bounded,
    Delegating,
    Executing,
    Graded,
    Linked,
    Noisy,
    Ruled,
    Shaped,
    Watching,
)

from qflsec.federation import Layer, Pipeline, RunSpec, Stack, run_batch
from qflsec.threat import ThreatModel, coalition

Maker = Callable[..., Pipeline]
EVERYBODY = coalition(server=True, n=1, wire=True, active=True)
RUSHING = coalition(n=1, active=True, rushing=True)


def turns(log: list[str], pipeline: Pipeline, layers: list[Layer], threat: ThreatModel) -> list[str]:
    """What happened in a run, neighbours that are equal once."""
    log.clear()
    spec = RunSpec(seed=0, adversary=Watching(), threat=threat)
    result = run_batch(pipeline, Stack.from_layers("all", layers), [spec], secrets="seeded")[0]
    assert result.outcome == "completed"
    return [what for what, _ in itertools.groupby(log)]


def crossing(kind: str) -> list[str]:
    """A message to or from each of three clients over a link that an adversary taps."""
    return ["link seals", *[f"adversary taps {kind}", "link unseals"] * 3]


def test_a_round_with_a_layer_of_every_kind_that_a_sum_allows(make_pipeline: Maker, log: list[str]) -> None:
    pipeline = make_pipeline(n_qubits=2, members=9, rounds=1, local_steps=2)
    layers = [
        Executing(),
        Graded(),
        Shaped(name=" first"),
        Shaped(name=" second"),
        Aggregated(),
        Linked(),
        Ruled(),
        Noisy(),
    ]
    assert turns(log, pipeline, layers, EVERYBODY) == [
        # before the first round
        "open",
        "start",
        "execution",
        "adversary taps announcement",
        # broadcast
        "adversary broadcasts",
        *crossing("model"),
        # train and release: what is voluntary comes before the corrupted clients have their turn
        "gradient",
        "shape first",
        "shape second",
        "prepare",
        "adversary updates",
        # upload: what binds them comes after it
        "seal unchecked",
        "seal",
        *crossing("update"),
        # aggregate and update
        "conclude",
        "combine",
        "reveal",
        "aggregate",
        "perturb",
    ]


def test_bounds_act_on_single_updates_before_the_rule(make_pipeline: Maker, log: list[str]) -> None:
    pipeline = make_pipeline(n_qubits=2, members=9, rounds=2)
    once = ["shape", "adversary updates", "bound first", "bound second", "aggregate", "perturb"]
    layers = [Shaped(), Bounded(name=" first"), Bounded(name=" second"), Ruled(), Noisy()]
    found = turns(log, pipeline, layers, coalition(n=1, active=True))
    assert found == ["start", *once, *once]


def test_a_rushing_client_moves_after_the_others_have_sent(make_pipeline: Maker, log: list[str]) -> None:
    pipeline = make_pipeline(n_qubits=2, members=9, rounds=1)
    found = turns(log, pipeline, [Aggregated()], RUSHING)
    assert found[1:5] == ["prepare", "seal", "adversary updates", "seal unchecked"]
    patient = turns(log, pipeline, [Aggregated()], coalition(n=1, active=True))
    assert patient[1:5] == ["prepare", "adversary updates", "seal unchecked", "seal"]


def test_local_steps_and_rounds_are_counted(make_pipeline: Maker, log: list[str]) -> None:
    pipeline = make_pipeline(n_qubits=2, members=9, rounds=3, local_steps=4)
    turns(log, pipeline, [Graded(), Shaped(), Aggregated()], coalition(n=2, active=True))
    counts = {name: log.count(name) for name in ("gradient", "shape", "seal", "seal unchecked", "reveal")}
    # numeric layers act on all clients at once, layers with secrets party by party
    assert counts == {"gradient": 3 * 4, "shape": 3, "seal": 3, "seal unchecked": 3 * 2, "reveal": 3}


def test_circuits_are_delegated_at_every_local_step_of_every_client(
    make_pipeline: Maker, log: list[str]
) -> None:
    pipeline = make_pipeline(n_qubits=2, members=6, rounds=1, local_steps=2)
    found = turns(log, pipeline, [Delegating(executor="exact"), Shaped()], EVERYBODY)
    assert log.count("evaluator") == 3 * 2
    spoken = [what for what in found if what.startswith("adversary taps")]
    assert set(spoken) == {
        f"adversary taps {kind}" for kind in ("model", "graph", "qubits", "delta", "reply", "update")
    }
    places = [
        found.index(what) for what in ("adversary taps model", "evaluator", "shape", "adversary updates")
    ]
    assert places == sorted(places)
    assert found[-1] == "adversary taps update"

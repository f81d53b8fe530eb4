"""What is kept of a run and what is granted of it: kinds of messages, honest updates, and the final model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from recorders import Aggregated, Linked, Shaped

from qflsec.base import ConfigError
from qflsec.federation import Adversary, Hands, Pipeline, RunResult, RunSpec, Stack, Tree, run_batch
from qflsec.threat import (
    SERVER,
    View,
    client,
    coalition,
    corrupted_clients,
    honest_but_curious_server,
    public_final_model,
    wire_eavesdropper,
)

Maker = Callable[..., Pipeline]
NONE = Stack(name="none")
EVERYBODY = coalition(server=True, n=3, wire=True)


def run(pipeline: Pipeline, stack: Stack = NONE, spec: RunSpec | None = None, **kwargs: Any) -> RunResult:
    (result,) = run_batch(pipeline, stack, [spec or RunSpec(seed=2)], secrets="seeded", **kwargs)
    assert result.outcome == "completed", result.traceback
    return result


@pytest.mark.parametrize("kinds", [(), ("update",), ("model", "final-model"), ("announcement", "update")])
def test_only_the_kinds_asked_for_are_kept(make_pipeline: Maker, kinds: tuple[str, ...]) -> None:
    """The run itself, its costs included, does not depend on what is written down."""
    pipeline = make_pipeline(n_qubits=2, members=9)
    stack = Stack(name="linked", client=(Linked(),))
    whole, part = run(pipeline, stack), run(pipeline, stack, record=frozenset(kinds))
    kept = {item.kind for item in part.view(EVERYBODY).items if not item.derived}
    assert kept == set(kinds)
    assert {item.kind for item in whole.view(EVERYBODY).items} >= {
        "announcement",
        "model",
        "update",
        "final-model",
    }
    assert torch.equal(whole.params, part.params)
    for name in ("network_bytes", "network_messages"):
        assert part.costs[name] == whole.costs[name] > 0


@dataclass(frozen=True)
class Zero(Adversary):
    """Sends nothing but zeros."""

    def updates(self, hands: Hands) -> torch.Tensor:
        return torch.zeros_like(hands.honest)

    def identity(self) -> dict[str, object]:
        return {"name": "zero"}


def grants(view: View) -> dict[tuple[int, int], torch.Tensor]:
    return {(item.round, min(item.about)): item.vector for item in view.items if item.granted}


def test_honest_updates_are_granted_only_where_asked_and_assumed(make_pipeline: Maker) -> None:
    """What a client released before it sealed; of a corrupted client, what it would have sent."""
    pipeline = make_pipeline(n_qubits=2, n_clients=4, members=12, participation=0.5, rounds=3)
    strong = coalition(server=True, knows=("honest-updates",))
    stack = Stack(name="sum", client=(Shaped(factor=0.5), Aggregated()))
    granted = run(pipeline, stack, grant_honest_updates=True)
    updates = grants(granted.view(strong))
    participants = granted.transcript.facts[0].participants
    assert set(updates) == {(r, i) for r, chosen in participants.items() for i in chosen}
    assert not grants(granted.view(coalition(server=True))), "not assumed"
    with pytest.raises(ConfigError, match="kept none"):
        run(pipeline, stack).view(strong)
    open_view = run(pipeline, Stack(name="open", client=(Shaped(factor=0.5),))).view(
        honest_but_curious_server()
    )
    for item in open_view.readable("update", round_index=0):
        if not item.derived:
            assert torch.allclose(updates[0, min(item.about)], item.vector, atol=1e-5)
    lying = RunSpec(seed=2, adversary=Zero(), threat=corrupted_clients(n=4))
    liars = grants(run(pipeline, stack, lying, grant_honest_updates=True).view(strong))
    for index in participants[0]:
        assert torch.equal(liars[0, index], updates[0, index])
        assert float(liars[0, index].abs().max()) > 0


def test_the_final_model_is_published_by_the_server(make_pipeline: Maker) -> None:
    result = run(make_pipeline(n_qubits=2, members=9, rounds=3))
    (final,) = result.view(public_final_model()).items
    assert (final.kind, final.round, final.sender) == ("final-model", 3, SERVER)
    assert torch.equal(final.vector, result.params)


def test_where_the_server_reads_nothing_a_client_publishes(
    make_pipeline: Maker, shared_key_stub: Any
) -> None:
    """Every client applies every aggregate; the server relays what it cannot open, and the model is that of a sum."""
    pipeline = make_pipeline(n_qubits=2, n_clients=4, members=12, rounds=4, participation=0.5)
    hidden = run(pipeline, Stack(name="hidden", client=(shared_key_stub,)))
    plain = run(pipeline)
    assert torch.allclose(hidden.params, plain.params, atol=1e-5)
    (final,) = hidden.view(public_final_model()).items
    assert (final.kind, final.sender, final.round) == ("final-model", client(0), 4)
    assert torch.equal(final.vector, hidden.params)
    server = hidden.view(honest_but_curious_server())
    for round_index in range(1, 4):
        relayed = [item for item in server.items if item.kind == "model" and item.round == round_index]
        # all clients, whether they take part or not: nobody could send them the model later
        assert {item.receiver for item in relayed if not item.derived} == {client(i) for i in range(4)}
        assert {item.form for item in relayed} == {"ciphertext"}
    first = [item for item in server.items if item.kind == "model" and item.round == 0]
    assert len(first) == 2, "the first model is nobody's secret and goes to the participants"
    assert not server.readable("update")
    one = hidden.view(corrupted_clients(n=1, active=False))
    models = {item.round: item.vector for item in one.readable("model", "final-model")}
    assert torch.equal(models[4], hidden.params)


def test_a_rushing_client_reads_what_the_others_sent_in_its_round(make_pipeline: Maker) -> None:
    """It sees the updates where it holds the wire, sealed ones as sealed; a patient one sees those of rounds before."""
    seen: dict[tuple[str, bool], set[tuple[int, int, str]]] = {}

    @dataclass(frozen=True)
    class Looking(Adversary):
        name: str
        rushing: bool

        def updates(self, hands: Hands) -> torch.Tensor:
            (view,) = hands.views()
            found = {
                (item.round, min(item.about), item.form)
                for item in view.items
                if item.kind == "update" and not item.derived
            }
            if hands.round == 1:
                seen[self.name, self.rushing] = found
            return hands.honest

        def identity(self) -> dict[str, object]:
            return {"name": self.name, "rushing": self.rushing}

    pipeline = make_pipeline(n_qubits=2, members=9, rounds=2)
    for name, layers in (("open", ()), ("masked", (Aggregated(),))):
        for rushing in (False, True):
            threat = coalition(n=1, wire=True, active=True, rushing=rushing)
            spec = RunSpec(seed=0, adversary=Looking(name, rushing), threat=threat)
            run(pipeline, Stack(name=name, client=layers), spec)
    for name, form in (("open", "plain"), ("masked", "masked")):
        others = lambda rounds, form=form: {(r, i, form) for r in rounds for i in (1, 2)}  # noqa: E731
        assert others([0]) <= seen[name, False]
        assert not others([1]) & seen[name, False]
        assert others([0, 1]) <= seen[name, True]
    assert wire_eavesdropper().wire


def test_the_sums_of_edge_servers_say_what_their_clients_started_from(make_pipeline: Maker) -> None:
    pipeline = replace(make_pipeline(n_qubits=2, n_clients=4, members=12), topology=Tree(edges=2))
    view = run(pipeline).view(honest_but_curious_server())
    models = {item.version: item.vector for item in view.readable("model")}
    assert len(models) == 2
    for round_index in range(2):
        groups = [i for i in view.readable("aggregate", round_index=round_index) if not i.derived]
        assert {item.about for item in groups} == {frozenset({0, 2}), frozenset({1, 3})}
        for item in groups:
            assert item.base == str(round_index)
            found = view.base_of(item)
            assert found is not None
            assert torch.equal(found, models[str(round_index)])

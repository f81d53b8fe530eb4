"""What a coalition computes from masked vectors, in whole runs of the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from qflsec.federation import RunResult, RunSpec, Stack, run_batch
from qflsec.federation.aggregation import weighted_mean
from qflsec.protocols.links import AesGcmLink
from qflsec.protocols.secagg import Masked
from qflsec.threat import SERVER, WIRE, Item, LaneFacts, ThreatModel, client, coalition

Maker = Callable[..., Any]
MASK = Stack(name="mask", client=(Masked(),))
MASK_LINK = Stack(name="mask+link", client=(Masked(), AesGcmLink()))


def run(pipeline: Any, stack: Stack) -> RunResult:
    result = run_batch(pipeline, stack, [RunSpec(seed=4)], grant_honest_updates=True)[0]
    assert result.outcome == "completed"
    return result


def truth(result: RunResult, round_index: int, among: list[int]) -> torch.Tensor:
    updates = result.transcript.honest_updates[0]
    counts = torch.tensor([float(len(result.clients[i])) for i in among])
    return weighted_mean(torch.stack([updates[round_index, i] for i in among]), counts)


def sums(result: RunResult, threat: ThreatModel, round_index: int = 0) -> list[Item]:
    return list(result.view(threat).readable("aggregate", round_index=round_index))


@pytest.mark.parametrize("threat", [coalition(server=True), coalition(wire=True)])
@pytest.mark.parametrize("n_clients", [2, 5])
def test_whoever_hears_all_masked_vectors_reads_the_sum(
    make_pipeline: Maker, threat: ThreatModel, n_clients: int
) -> None:
    result = run(make_pipeline(n_clients=n_clients), MASK)
    for round_index in range(2):
        (item,) = sums(result, threat, round_index)
        everybody = list(range(n_clients))
        assert torch.allclose(item.vector, truth(result, round_index, everybody), atol=2e-6)
        assert item.derived
        assert item.weight == sum(len(rows) for rows in result.clients)
        assert (item.about, item.k) == (frozenset(everybody), n_clients)
        assert item.vector.dtype == torch.float32
    assert result.view(threat).readable("update") == ()


def test_the_server_reads_what_it_used(make_pipeline: Maker) -> None:
    result = run(make_pipeline(rounds=1), MASK)
    (item,) = sums(result, coalition(server=True))
    assert torch.allclose(result.initial + item.vector, result.params, atol=1e-7)


def test_partial_participation(make_pipeline: Maker) -> None:
    result = run(make_pipeline(n_clients=5, participation=0.6, rounds=4, members=40), MASK)
    chosen = [result.transcript.facts[0].participants[r] for r in range(4)]
    assert {len(c) for c in chosen} == {3}
    assert len(set(chosen)) > 1, "the rounds must differ, or this tests nothing"
    for round_index, members in enumerate(chosen):
        (item,) = sums(result, coalition(wire=True), round_index)
        assert item.about == members
        assert torch.allclose(item.vector, truth(result, round_index, sorted(members)), atol=2e-6)


def test_the_wire_reads_nothing_behind_links(make_pipeline: Maker) -> None:
    result = run(make_pipeline(n_clients=4), MASK_LINK)
    view = result.view(coalition(wire=True))
    assert view.readable("update", "aggregate", "step") == ()
    assert len(sums(result, coalition(server=True))) == 1


def test_the_wire_and_one_client_hear_one_masked_vector_only(make_pipeline: Maker) -> None:
    """Partial visibility: the links hide the others' vectors; the sum comes from the models alone."""
    result = run(make_pipeline(n_clients=4), MASK_LINK)
    threat = ThreatModel(name="wire+client", corrupted=frozenset({WIRE, client(1)}))
    view = result.view(threat)
    assert not [i for i in view.items if i.form == "masked" and i.sender != client(1)]
    rest = [i for i in sums(result, threat) if i.about == {0, 2, 3}]
    assert len(rest) == 1
    assert rest[0].k == 3
    assert torch.allclose(rest[0].vector, truth(result, 0, [0, 2, 3]), atol=2e-5)


def test_the_server_and_a_client_read_the_remainder(make_pipeline: Maker) -> None:
    result = run(make_pipeline(n_clients=4), MASK)
    threat = ThreatModel(name="server+client", corrupted=frozenset({SERVER, client(2)}))
    rest = [i for i in sums(result, threat) if i.about == {0, 1, 3}]
    assert rest
    assert all(i.k == 3 for i in rest)
    assert torch.allclose(rest[0].vector, truth(result, 0, [0, 1, 3]), atol=2e-5)


def test_the_server_and_all_but_one_client_read_the_last_update(make_pipeline: Maker) -> None:
    """All pair keys of the last client are held, so its vector opens exactly."""
    result = run(make_pipeline(n_clients=4), MASK)
    view = result.view(
        ThreatModel(name="server+3", corrupted=frozenset({SERVER, client(0), client(1), client(3)}))
    )
    last = [i for i in view.readable("update", round_index=0) if i.about == {2} and not i.derived]
    assert len(last) == 1
    assert last[0].k == 1
    assert torch.allclose(last[0].vector, truth(result, 0, [2]), atol=1e-6)
    assert last[0].weight == len(result.clients[2])


def item_of(index: int, value: Any, form: str = "masked", round_index: int = 0) -> Item:
    return Item(
        round=round_index,
        kind="update",
        form=form,
        value=value,
        weight=None,
        about=frozenset({index}),
        sender=client(index),
        receiver=client(9),
    )


def test_nothing_follows_from_some_of_the_vectors(federate: Callable[..., Any]) -> None:
    federation = federate(Masked(), 4)
    words = {i: federation.seal(i, torch.full((5,), float(i)))[0] for i in range(4)}
    facts = LaneFacts(
        counts=(1.0,) * 4,
        participants={0: frozenset(range(4))},
    )

    def derived(*items: Item) -> list[Item]:
        return list(Masked().derive(items, facts, frozenset(), frozenset()))

    every = [item_of(i, words[i]) for i in range(4)]
    (total,) = derived(*every)
    assert total.vector.tolist() == pytest.approx([1.5] * 5)
    assert derived(*every[:3]) == []
    assert derived(*every[:3], item_of(3, words[3], form="sealed")) == []
    assert derived(*every[:3], item_of(3, words[3], round_index=1)) == []
    assert derived(*every[:3], item_of(3, b"")) == []
    partial = np.sum([words[i] for i in range(3)], axis=0, dtype=np.uint64)
    assert np.abs(Masked().words.decode(partial)).max() > 1e6, "some of the vectors add up to noise"

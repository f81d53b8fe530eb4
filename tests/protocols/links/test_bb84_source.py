"""Links whose keys were distilled by BB84 within the run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from qflsec.base import ConfigError, IncompatibleStack, ProtocolAbort
from qflsec.federation import Pipeline, RunSpec, Stack, run_batch
from qflsec.protocols.links import OneTimePadLink
from qflsec.protocols.links.bb84_source import DistilledEnd, block_for
from qflsec.threat import wire_eavesdropper


def test_a_run_over_bb84_keys_equals_one_in_the_clear(make_pipeline: Callable[..., Pipeline]) -> None:
    pipeline = make_pipeline(n_clients=2, members=8)
    link = OneTimePadLink(source="bb84", budget_bits=20_000)
    plain, linked = (
        run_batch(pipeline, Stack(name="s", client=layers), [RunSpec(seed=4)])[0] for layers in ((), (link,))
    )
    assert linked.outcome == "completed"
    assert torch.equal(plain.params, linked.params)
    wire = linked.view(wire_eavesdropper())
    assert {item.form for item in wire.items if item.kind in {"model", "update"}} == {"sealed"}
    assert linked.costs["qkd_key_bits"] > 0
    rows = [row.statement + row.note for row in linked.ledger(wire_eavesdropper())]
    assert any("simulated" in row and "BB84" in row for row in rows)


def test_a_run_that_takes_more_than_the_budget_is_refused(make_pipeline: Callable[..., Pipeline]) -> None:
    pipeline = make_pipeline(n_clients=2, members=8, rounds=40)
    _, plan = block_for(1000, eps_sec=1e-10, eps_cor=1e-15)
    assert plan.config.length >= 2000
    link = OneTimePadLink(source="bb84", budget_bits=1000)
    with pytest.raises(IncompatibleStack, match="takes up to"):
        run_batch(pipeline, Stack(name="s", client=(link,)), [RunSpec(seed=4)])


def test_ends_hold_only_their_own_keys_and_give_each_once() -> None:
    from qflsec.base import SeededSecrets
    from qflsec.federation import Setup
    from qflsec.protocols.links.bb84_source import _bb84
    from qflsec.protocols.links.sources import KeySource
    from qflsec.threat import SERVER, client

    setup = Setup(
        session=b"s", clients=(client(0), client(1)), server=SERVER, n_params=4, rounds=1, max_count=4
    )
    source = KeySource(
        name="bb84",
        directory="",
        key_bits=256,
        budget_bits=2000,
        eps_sec=1e-10,
        eps_cor=1e-15,
        eps_auth=1e-30,
    )
    ends = _bb84(source, setup, SeededSecrets(1, "test"))
    sent = ends[client(0)].draw(SERVER, 512)
    received = ends[SERVER].fetch(client(0), [key.key_id for key in sent])
    assert [key.material for key in sent] == [key.material for key in received]
    assert all(key.simulated_channel and key.seeded for key in sent)
    with pytest.raises(ProtocolAbort, match="used before"):
        ends[SERVER].fetch(client(0), [sent[0].key_id])
    with pytest.raises(ProtocolAbort, match="unknown"):
        ends[client(1)].fetch(SERVER, [sent[0].key_id])
    with pytest.raises(ProtocolAbort, match="too little key"):
        ends[client(0)].draw(client(1), 8)
    assert isinstance(ends[client(0)], DistilledEnd)


def test_more_key_than_any_block_gives_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot distil so much key"):
        block_for(10**9, eps_sec=1e-10, eps_cor=1e-15)


def test_keys_keep_the_epsilons_that_the_ledger_states(make_pipeline: Callable[..., Pipeline]) -> None:
    loose = block_for(1000, eps_sec=1e-6, eps_cor=1e-9)[1]
    strict = block_for(1000, eps_sec=1e-14, eps_cor=1e-18)[1]
    assert (strict.config.eps_sec, strict.config.eps_cor) == (1e-14, 1e-18)
    assert strict.config.length < loose.config.length
    link = OneTimePadLink(source="bb84", budget_bits=2000, eps_auth=1e-37)
    with pytest.raises(ConfigError, match="cannot authenticate as well"):
        run_batch(make_pipeline(n_clients=2, members=8), Stack(name="s", client=(link,)), [RunSpec(seed=4)])

"""The account of one observer, and the statement of a row."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from qflsec.accounting import (
    LedgerContext,
    LedgerRow,
    Observer,
    Training,
    dp_statement,
    observer_account,
    render_ledger,
    run_rows,
)
from qflsec.accounting.account import ledger
from qflsec.accounting.exposure import exposure
from qflsec.defenses.privacy import DpFedAvg, DpSgd
from qflsec.federation import Pipeline, RunSpec, Stack, run_batch
from qflsec.federation.topology import Ring
from qflsec.protocols.links import AesGcmLink
from qflsec.protocols.secagg import Masked
from qflsec.threat import (
    NOBODY,
    coalition,
    corrupted_clients,
    honest_but_curious_server,
    public_final_model,
    recorded_transcript,
    run_anonymity,
    wire_eavesdropper,
)

Maker = Callable[..., Pipeline]

ROW = LedgerRow(
    observer="server",
    layer="dp-sgd",
    guarantee="differential privacy",
    statement="short",
    assumption="information-theoretic",
    trusted="nobody but the client itself",
    released="single updates",
    bound="upper bound",
    epsilon=2.101376,
    delta=1e-5,
    epsilon_unsampled=340.25,
    unit="example",
    adjacency="add/remove",
    mechanism="Gaussian noise, sensitivity 1",
    sampling="Poisson, rate 0.01",
    steps=1000,
    accountant="RDP (opacus 1.6.0)",
    note="simulated guarantee: seeded noise",
)
CONTEXT = LedgerContext(
    observer=Observer(threat=coalition(server=True), smallest_k=1, reads_model=True, reads_clients=True),
    training=Training(counts=(4, 4, 4), rounds=2, n_params=5),
)


def test_a_statement_has_every_condition_of_its_figure() -> None:
    text = dp_statement(ROW)
    assert text.startswith(
        "Example-level DP with add-or-remove-one adjacency at delta = 1e-05: epsilon = 2.101 (proved upper bound, "
        "RDP (opacus 1.6.0), 1000 compositions)."
    )
    assert "Poisson sampling that the observer cannot see; without that assumption epsilon = 340.2." in text
    for part in (ROW.mechanism, ROW.released, ROW.trusted, ROW.note):
        assert part in text


@pytest.mark.parametrize(
    ("changes", "says", "never"),
    [
        (
            {"adjacency": "replace-one", "unit": "client"},
            "Client-level DP with replace-one adj",
            "add-or-remove",
        ),
        ({"adjacency": "zero-out"}, "zero-out adjacency", "add-or-remove"),
        ({"bound": "approximation"}, "(approximation, ", "proved"),
        ({"epsilon": math.inf}, "infinite, which guarantees nothing", "nan"),
        ({"epsilon_unsampled": None, "sampling": "none"}, "Sampling: none.", "without that assumption"),
        (
            {"unit": "state", "adjacency": "trace distance 0.1"},
            "adjacency 'trace distance 0.1'",
            "add-or-remove",
        ),
    ],
)
def test_a_statement_never_says_more(changes: dict[str, Any], says: str, never: str) -> None:
    text = dp_statement(replace(ROW, **changes))
    assert says in text
    assert never not in text


def test_other_rows_are_stated_as_they_are() -> None:
    other = replace(ROW, guarantee="secrecy", epsilon=None)
    assert dp_statement(other) == "short"


@pytest.mark.parametrize("epsilon", [2.0, math.inf, None])
def test_rows_read_and_write_json(epsilon: float | None) -> None:
    row = replace(ROW, epsilon=epsilon, epsilon_unsampled=epsilon)
    stored = json.loads(json.dumps(row.to_dict(), allow_nan=False))
    assert LedgerRow.from_dict(stored) == row
    assert stored["sentence"] == dp_statement(row)


def test_text_holds_the_statements_by_observer() -> None:
    text = render_ledger([ROW, replace(ROW, observer="wire", guarantee="secrecy", note="why")])
    assert text.count("Against ") == 2
    assert dp_statement(ROW) in text
    assert "short (why)" in text


def test_what_no_epsilon_bounds_goes_by_unit() -> None:
    client = replace(ROW, unit="client")
    endless = replace(ROW, epsilon=math.inf)
    secret = replace(ROW, guarantee="secrecy")
    for rows, records, clients in (
        ([], True, True),
        ([ROW], False, True),
        ([client], False, False),
        ([endless], True, True),
        ([secret], True, True),
    ):
        statements = " ".join(row.statement for row in ledger(CONTEXT, rows) if row not in rows)
        assert ("of a single record" in statements) == records
        assert ("of a client as a whole" in statements) == clients
    nothing = Observer(threat=CONTEXT.observer.threat)
    assert ledger(replace(CONTEXT, observer=nothing), []) == ()


# -- of runs ----------------------------------------------------------------------------------------


def test_the_account_of_a_layered_stack_for_each_observer(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_clients=4, rounds=2, members=40)
    layers = [DpSgd(noise_multiplier=4.0, delta=1e-4), Masked(), AesGcmLink()]
    result = run_batch(pipeline, Stack.from_layers("s", layers), [RunSpec(seed=0)])[0]

    server = result.account(honest_but_curious_server())
    assert any("sums of updates with at least 4 honest clients" in seen for seen in server.sees)
    assert not any("updates of single" in seen for seen in server.sees)
    assert {row.layer for row in server.bounds} == {"dp-sgd", "masked", "view"}
    assert {row.guarantee for row in server.bounds} == {"differential privacy", "secrecy", "anonymity"}
    assert any("of a client as a whole" in text for text in server.unbounded)
    assert not any("single record" in text for text in server.unbounded)

    wire = result.account(wire_eavesdropper())
    assert any("cannot read (sealed)" in seen for seen in wire.sees)
    assert "the final model" in wire.sees
    assert "aes-gcm-link" in {row.layer for row in wire.bounds}

    three = result.account(coalition(server=True, n=3))
    assert any(seen.startswith("updates of single honest clients (1 of them)") for seen in three.sees)
    assert "the records of its own clients (client:0, client:1, client:2)" in three.sees

    public = result.account(public_final_model())
    assert public.sees == ("the final model",)

    nobody = result.account(NOBODY)
    assert (nobody.sees, nobody.bounds) == ((), ())
    assert "nothing of this run" in str(nobody)


def test_an_account_reads_as_text_and_as_json(make_pipeline: Maker) -> None:
    result = run_batch(make_pipeline(), Stack.from_layers("s", [DpFedAvg()]), [RunSpec(seed=0)])[0]
    for threat in (honest_but_curious_server(), corrupted_clients(n=2)):
        account = result.account(threat)
        text = str(account)
        assert text.startswith(f"What does '{threat.name}' learn?")
        for row in account.bounds:
            assert dp_statement(row) in text
        for sentence in (*account.sees, *account.unbounded):
            assert sentence in text
        document = json.loads(json.dumps(account.to_dict(), allow_nan=False))
        assert set(document) == {"observer", "sees", "bounds", "unbounded"}
        stored = [json.loads(json.dumps(row.to_dict())) for row in result.ledger(threat)]
        assert observer_account(threat.name, stored) == account, "stored rows give the same account"
    against_server = result.account(honest_but_curious_server())
    assert against_server.bounds == ()
    assert "Bounded by:\n  - nothing" in str(against_server)
    assert any("before the noise" in sentence for sentence in against_server.unbounded)


def test_over_the_run_changing_participants_single_clients_out(make_pipeline: Maker) -> None:
    """The same masks, three of five in each of six rounds: every round mixes three, all six together nobody."""
    for participation, singled in ((1.0, 0), (0.6, 5)):
        pipeline = make_pipeline(n_clients=5, rounds=6, participation=participation)
        result = run_batch(pipeline, Stack(name="masked", client=(Masked(),)), [RunSpec(seed=0)])[0]
        rows = result.ledger(honest_but_curious_server())
        (row,) = [row for row in rows if "over the run" in row.statement]
        (mixed,) = [other for other in rows if "a round's sum mixes" in other.statement]
        assert mixed.assumption == "computational"
        if singled:
            assert row.guarantee == "not covered"
            assert (
                f"over the run, derives the updates of {singled} of 5 honest clients (0, 1, 2, 3, 4)"
                in row.statement
            )
            assert "(6, of rank 5)" in row.statement
        else:
            assert (row.guarantee, row.assumption) == ("anonymity", "heuristic")
            assert "(6, of rank 1) mixes fewer than 5 honest clients" in row.statement


@pytest.mark.parametrize(
    ("sums", "said", "noted"),
    [
        ([{0, 1, 2}, {0, 1, 2, 3}], "derives the updates of 1 of 4 honest clients (3)", ""),
        ([{0, 1}, {2, 3}], "(2, of rank 2) mixes fewer than 2 honest clients", "best case"),
        ([{n, *range(20, 45)} for n in range(20)], "mixes fewer than 2 honest clients", ""),
        ([set(range(s, s + 30)) for s in range(0, 60, 11)], "mixes fewer than 3", "more than 2 clients"),
    ],
)
def test_the_row_over_the_run(
    ledger_context: Callable[..., LedgerContext], sums: list[set[int]], said: str, noted: str
) -> None:
    found = run_anonymity([frozenset(clients) for clients in sums])
    (row,) = run_rows(ledger_context(counts=(8,) * 100, smallest_k=2, over_run=found))
    assert said in row.statement
    assert noted in row.note


def test_what_is_read_and_what_is_derived_stand_apart(ledger_context: Callable[..., LedgerContext]) -> None:
    sums = [frozenset(clients) for clients in ({0}, {0, 1}, {2, 3})]
    seen = {"over_run": run_anonymity(sums), "read": frozenset({0})}
    (row,) = run_rows(ledger_context(**seen))
    assert (
        "reads updates of 1 of 4 honest clients (0) one by one and derives the updates of 1 of 4"
        in row.statement
    )
    assert "(1) from the sums" in row.statement


def test_no_row_over_the_run_where_no_sum_is_read(ledger_context: Callable[..., LedgerContext]) -> None:
    assert run_rows(ledger_context()) == ()
    (counted,) = run_rows(ledger_context(over_run=run_anonymity([frozenset({0, 1})]), reads_paths=True))
    assert "several steps are not counted" in counted.note
    (uncounted,) = run_rows(ledger_context(reads_paths=True))
    assert uncounted.guarantee == "not covered"


def test_the_wire_of_a_ring_reads_single_updates(make_pipeline: Maker) -> None:
    """No update is sent on a ring, only models: each differs from the one before it by one client's update."""
    pipeline = replace(make_pipeline(n_clients=4, rounds=2), topology=Ring())
    result = run_batch(pipeline, Stack(name="none"), [RunSpec(seed=0)])[0]
    account = result.account(wire_eavesdropper())
    assert any(seen.startswith("updates of single honest clients (4 of them)") for seen in account.sees)
    assert account.bounds == ()
    neighbour = result.account(corrupted_clients(n=1))
    assert any("steps with at least 3 honest clients" in seen for seen in neighbour.sees)
    assert any("no anonymity was counted" in sentence for sentence in neighbour.unbounded)


def test_a_ledger_without_a_run() -> None:
    """Somebody's recorded training: models and no updates, since masks hid these from the server."""
    models = [[0.0, 0.0], [1.0, 2.0], [1.5, 2.5]]
    stated = {}
    for masked in (True, False):
        updates = [] if masked else [{i: [1.0, 0.0] for i in range(3)}] * 2
        view = recorded_transcript(models=models, updates=updates, counts=[10, 20, 30]).seen_by(
            honest_but_curious_server()
        )
        training = Training(counts=(10, 20, 30), rounds=2, n_params=2)
        context = LedgerContext(observer=Observer.of(view), training=training)
        rows = [*Masked().ledger(context), *run_rows(context)]
        account = observer_account(view.threat.name, ledger(context, rows, sees=exposure(view)))
        stated[masked] = [(row.layer, row.guarantee) for row in account.bounds]
        assert account.sees
        assert any("over the run" in sentence for sentence in account.unbounded) != masked
    assert stated == {
        True: [("masked", "secrecy"), ("masked", "anonymity"), ("view", "anonymity")],
        False: [],
    }


def test_granted_honest_updates_leave_nothing_hidden(make_pipeline: Maker) -> None:
    """An observer that is granted updates by assumption gets no row that says it does not read them."""
    pipeline = make_pipeline(n_clients=4, rounds=1)
    result = run_batch(
        pipeline, Stack(name="masked", client=(Masked(),)), [RunSpec(seed=0)], grant_honest_updates=True
    )[0]
    knows = {True: ("honest-updates",), False: ("architecture",)}
    for granted, found in knows.items():
        rows = result.ledger(coalition(server=True, knows=found))
        assert ("secrecy" in {row.guarantee for row in rows}) != granted

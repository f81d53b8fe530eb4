"""One round of each protocol by name: real parties, exact counts, and views that say who reads what."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from qflsec.base import ConfigError, IncompatibleStack
from qflsec.federation import Stack, layer_from_config, run_batch
from qflsec.federation.run_spec import RunSpec
from qflsec.protocols.secagg.catalogue import SECAGG_STAGES, protocol, protocol_names
from qflsec.protocols.secagg.one_round import RoundReport, run_round
from qflsec.protocols.secagg.plain import Plain
from qflsec.protocols.secagg.who_sees_what import Sight, sights


def one(
    name: str, *, n: int = 5, size: int = 20, drop: tuple[int, ...] = (), stage: str = "mask", **options: Any
) -> RoundReport:
    chosen = protocol(name)
    return run_round(
        chosen.layer(**options),
        n_clients=n,
        n_params=size,
        drop=drop,
        drop_at=chosen.message_at(stage),
        namer=chosen.namer,
    )


def seen(report: RoundReport, n: int = 5) -> dict[str, Sight]:
    return {sight.observer: sight for sight in sights(report, n)}


@pytest.mark.parametrize("name", ["plain", "masked", "secagg", "he-bfv"])
def test_sums_that_are_exact(name: str) -> None:
    report = one(name)
    assert (report.status, report.survivors) == ("sum", (0, 1, 2, 3, 4))
    assert report.encoding_error is not None
    assert report.encoding_error < 1e-12
    assert report.max_error is not None
    assert report.max_error < 1e-4


def test_a_proved_sum_is_exact_for_what_was_proved() -> None:
    report = one("validated", n=3, size=4)
    assert report.encoding_error is not None
    assert report.encoding_error < 1e-12
    assert report.max_error is not None
    assert report.max_error > 1e-6, "what was proved is shortened and rounded"


@pytest.mark.parametrize(("n", "thresholds"), [(9, (3,)), (10, (3,)), (11, (3,)), (14, (3, 4))])
def test_groups_have_thresholds_of_their_own(n: int, thresholds: tuple[int, ...]) -> None:
    report = one("validated-groups", n=n, size=4)
    assert (report.status, report.thresholds, report.threshold) == ("sum", thresholds, 3)
    assert one("secagg", n=9, size=4).thresholds == (7,)


@pytest.mark.parametrize("name", protocol_names())
def test_every_protocol_runs_or_says_why_not(name: str) -> None:
    """Also those that register later: a round ends with a sum of all, or with a reason."""
    report = one(name, n=6, size=8)
    assert report.status == "sum" or report.reason
    if report.status == "sum":
        assert report.survivors == tuple(range(6))
        assert report.server_ms > 0
        assert report.up_bytes > 0
    for sight in sights(report, 6):
        assert sight.sentence.startswith(sight.observer)
        assert "takes part" in sight.sentence


def test_what_each_observer_reads() -> None:
    """Without protection all; of secagg the sum; of homomorphic encryption nothing, unless a client colludes."""
    plain, aggregated, encrypted = (seen(one(name)) for name in ("plain", "secagg", "he-bfv"))
    assert plain["the server"].reads == plain["the network"].reads == (0, 1, 2, 3, 4)
    assert plain["one client"].reads == ()
    for observer in ("the server", "the network"):
        assert aggregated[observer].reads == ()
        assert aggregated[observer].sums == ((5, 5),)
        assert aggregated[observer].closed == {"masked": 5}
        assert (encrypted[observer].reads, encrypted[observer].sums) == ((), ())
    assert aggregated["the server and one client"].sums[0][1] == 4
    assert aggregated["the server and 3 clients"].reads == ()
    assert aggregated["the server and 4 clients"].reads == (4,), "the threshold of shares opens the rest"
    assert encrypted["the server and one client"].reads == (1, 2, 3, 4), "each client holds the key"


@pytest.mark.parametrize("stage", list(SECAGG_STAGES))
def test_dropouts_at_each_stage(stage: str) -> None:
    report = one("secagg", n=7, drop=(5, 6), stage=stage)
    there = tuple(range(7)) if stage in {"agree", "reveal"} else (0, 1, 2, 3, 4)
    assert (report.status, report.survivors) == ("sum", there)
    sent = {part.name: part.messages for part in report.sent if part.up}
    names = list(SECAGG_STAGES.values())
    assert [sent[name] for name in names] == [
        7 if names.index(name) < names.index(SECAGG_STAGES[stage]) else 5 for name in names
    ]


def test_too_many_dropouts_abort_and_open_nothing() -> None:
    report = one("secagg", n=7, drop=(4, 5, 6), stage="reveal")
    assert report.status == "aborted"
    assert "too few clients" in report.reason
    assert all(
        (sight.reads, sight.sums) == ((), ())
        for name, sight in seen(report, 7).items()
        if "clients" not in name
    )


@pytest.mark.parametrize("stage", list(SECAGG_STAGES))
def test_groups_that_lose_their_clients_leave_views_that_can_be_read(stage: str) -> None:
    """What a group opened for other survivors than were heard is no sum, and no error of whoever listens."""
    report = one("validated-groups", n=12, size=4, drop=(8, 9, 10, 11), stage=stage)
    assert report.status == "sum" or "too few groups" in report.reason
    assert all(sight.sentence for sight in sights(report, 12))


def test_a_dropout_ends_a_masked_round() -> None:
    assert "incomplete" in one("masked", drop=(4,)).reason


def test_bytes_are_exact() -> None:
    """A vector of 20 and a weight, 4 bytes each; under secagg a head of 5 and a signature of 64 bytes around them."""
    for name, extra in (("plain", 0), ("masked", 0), ("secagg", 69)):
        (update,) = [part for part in one(name).sent if part.name == "update"]
        assert update.total_bytes == 5 * (84 + extra)
        assert update.largest_bytes == 84 + extra


def test_quantum_keys_are_counted() -> None:
    assert one("secagg", agreement="bb84").costs == {"qkd_key_bits": 5 * 4 * 256}


def test_the_seed_fixes_the_vectors_and_not_the_keys() -> None:
    reports = [one("secagg") for _ in range(2)]
    first, second = (next(m for m in report.transcript.messages if m.kind == "update") for report in reports)
    one_step = 1.01 * 2.0**-16
    assert torch.allclose(first.layers[0].value[0][0], second.layers[0].value[0][0], rtol=0, atol=one_step)  # type: ignore[arg-type]
    assert first.layers[1].value[0][0] != second.layers[1].value[0][0]


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("nonsense", {}, "unknown protocol"),
        ("masked", {"threshold": 3}, "has no such option"),
        ("secagg", {"bits": 16}, "'bits'"),
    ],
)
def test_what_is_refused(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        one(name, **options)


def test_stages_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ConfigError, match="no stage 'agree'"):
        protocol("masked").message_at("agree")


def test_the_plain_layer_changes_no_bit_and_says_that_it_hides_nothing(make_pipeline: Any) -> None:
    from qflsec.threat import honest_but_curious_server

    pipeline = make_pipeline(n_clients=3, rounds=2)
    layered, bare = (
        run_batch(pipeline, Stack(name="s", client=layers), [RunSpec(seed=1)])[0]
        for layers in ((Plain(),), ())
    )
    assert torch.equal(layered.params, bare.params)
    (row,) = [row for row in layered.ledger(honest_but_curious_server()) if row.layer == "plain"]
    assert row.guarantee == "not covered"


@pytest.mark.parametrize(
    "name", [name for name in protocol_names() if name not in {"plain", "validated-groups"}]
)
@pytest.mark.parametrize("rule", ["median", "norm-bound"])
def test_a_rule_that_needs_single_updates_is_refused_on_top(name: str, rule: str) -> None:
    with pytest.raises(IncompatibleStack, match=f"'{rule}' needs individual updates"):
        Stack.from_layers("x", [protocol(name).layer(), layer_from_config({"name": rule})])

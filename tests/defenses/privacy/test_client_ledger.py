"""Client-level rows: who is trusted, which adjacency, and when sampling counts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from scipy import optimize, stats

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.accounting.accountants import epsilon_bound
from qflsec.defenses.privacy import DpFedAvg, DpSgd, LocalDp
from qflsec.federation import Pipeline, RunSpec, Stack, run_batch
from qflsec.protocols.links import AesGcmLink
from qflsec.threat import (
    ThreatModel,
    coalition,
    corrupted_clients,
    honest_but_curious_server,
    public_final_model,
    wire_eavesdropper,
)

Context = Callable[..., LedgerContext]
PUBLIC = {
    "server": False,
    "smallest_k": 10,
    "reads_clients": False,
}


def dp(rows: Sequence[LedgerRow], accountant: str = "RDP", **fields: Any) -> list[LedgerRow]:
    return [
        row
        for row in rows
        if row.guarantee == "differential privacy"
        and row.accountant.startswith(accountant)
        and all(getattr(row, name) == value for name, value in fields.items())
    ]


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The exact epsilon of composed Gaussian mechanisms (Balle and Wang 2018, theorem 8)."""

    def excess(epsilon: float) -> float:
        left = stats.norm.cdf(-epsilon / mu + mu / 2)
        return float(left - math.exp(epsilon) * stats.norm.cdf(-epsilon / mu - mu / 2) - delta)

    return float(optimize.brentq(excess, 0, 200))


# -- central ----------------------------------------------------------------------------------------


def test_against_the_server_central_noise_earns_nothing(context: Context) -> None:
    for seen in ({"server": True}, {**PUBLIC, "reads_clients": True}):
        (row,) = DpFedAvg().ledger(context(**seen))
        assert row.guarantee == "not covered"
        assert row.epsilon is None
        assert "before the noise" in row.statement


def test_without_sampling_it_is_the_exact_gaussian(context: Context) -> None:
    (row,) = dp(DpFedAvg(noise_multiplier=4.0).ledger(context(**PUBLIC, client_sampling="all")), "PRV")
    exact = gaussian_epsilon(math.sqrt(15) / 4, 1e-5)
    assert exact <= row.epsilon <= exact + 0.03
    assert (row.unit, row.adjacency, row.steps, row.bound) == ("client", "zero-out", 15, "upper bound")
    assert row.epsilon_unsampled is None
    assert row.trusted.startswith("the server")
    assert "sensitivity" in row.mechanism


def test_steps_are_rounds_and_not_local_steps(context: Context) -> None:
    rows = [
        dp(DpFedAvg().ledger(context(**PUBLIC, client_sampling="all", local_steps=steps)))[0]
        for steps in (1, 7)
    ]
    assert rows[0].epsilon == rows[1].epsilon
    assert rows[1].steps == 15


def test_sampling_counts_only_where_it_is_poisson_and_hidden(context: Context) -> None:
    seen = {**PUBLIC, "participation": 0.3}
    layer = DpFedAvg(noise_multiplier=1.5)
    rows = {
        name: dp(layer.ledger(context(**{**seen, **changes})))[0]
        for name, changes in {
            "hidden": {"client_sampling": "poisson", "knows_rosters": False},
            "seen": {"client_sampling": "poisson", "knows_rosters": True},
            "fixed": {"client_sampling": "fixed"},
            "all": {"client_sampling": "all", "participation": 1.0},
        }.items()
    }
    hidden = rows["hidden"]
    expected = epsilon_bound("rdp", noise_multiplier=1.5, sample_rate=0.3, steps=15, delta=1e-5)
    assert hidden.epsilon == expected.epsilon
    assert "Poisson, rate 0.3" in hidden.sampling
    assert hidden.epsilon_unsampled == rows["all"].epsilon > hidden.epsilon
    for name in ("seen", "fixed"):
        assert rows[name].epsilon == rows["all"].epsilon, "no amplification"
        assert "no credit" in rows[name].sampling
        assert rows[name].epsilon_unsampled is None
    # everybody knows the clients and how many records they have
    assert {row.adjacency for row in rows.values()} == {"zero-out"}


def test_adaptive_clipping_costs_no_epsilon_and_says_what_it_releases(context: Context) -> None:
    fixed = DpFedAvg(noise_multiplier=2.0)
    adaptive = DpFedAvg(noise_multiplier=2.0, quantile=0.5, count_noise=3.0)
    seen = {**PUBLIC, "client_sampling": "all"}
    (a,), (b,) = dp(fixed.ledger(context(**seen))), dp(adaptive.ledger(context(**seen)))
    assert a.epsilon == b.epsilon
    assert "quantile" in b.mechanism
    assert "2.1213 S" in b.mechanism or "2.121 S" in b.mechanism


# -- local ------------------------------------------------------------------------------------------


def test_local_noise_holds_against_everybody(context: Context) -> None:
    layer = LocalDp(noise_multiplier=8.0)
    server = dp(layer.ledger(context()))
    public = dp(layer.ledger(context(**PUBLIC)))
    assert [row.epsilon for row in server] == [row.epsilon for row in public]
    assert {row.trusted for row in server} == {"nobody but the client itself"}
    assert {row.unit for row in server} == {"client"}


def test_replace_one_is_twice_the_sensitivity_and_never_called_add_remove(context: Context) -> None:
    rows = LocalDp(noise_multiplier=8.0).ledger(context())
    (replaced,) = dp(rows, "PRV", adjacency="replace-one")
    (zeroed,) = dp(rows, "PRV", adjacency="zero-out")
    assert dp(rows, "", adjacency="add/remove") == []
    for row, sensitivity in ((replaced, 2), (zeroed, 1)):
        exact = gaussian_epsilon(sensitivity * math.sqrt(15) / 8, 1e-5)
        assert exact <= row.epsilon <= exact + 0.03
        assert row.adjacency in row.statement
    assert "numbers of records are public" in replaced.note


@pytest.mark.parametrize("noise", [1.0, 4.0, 8.0])
def test_replace_one_rows_agree_with_both_accountants_of_dp_accounting(
    context: Context, noise: float
) -> None:
    """Its PLD accountant takes the layer's multiplier, its RDP accountant half of it; 15 rounds, delta 1e-5."""
    accounting = pytest.importorskip("dp_accounting")
    from dp_accounting import pld, rdp

    relation = accounting.NeighboringRelation.REPLACE_ONE
    tight, renyi = pld.PLDAccountant(relation), rdp.RdpAccountant(neighboring_relation=relation)
    tight.compose(accounting.GaussianDpEvent(noise), 15)
    renyi.compose(accounting.GaussianDpEvent(noise / 2), 15)
    rows = LocalDp(noise_multiplier=noise).ledger(context())
    (by_rdp,) = dp(rows, "RDP", adjacency="replace-one")
    (by_prv,) = dp(rows, "PRV", adjacency="replace-one")
    assert by_prv.epsilon == pytest.approx(tight.get_epsilon(1e-5), rel=3e-3, abs=0.02)
    assert by_rdp.epsilon == pytest.approx(renyi.get_epsilon(1e-5), rel=0.01)
    assert by_rdp.epsilon > tight.get_epsilon(1e-5)


def test_sampling_of_clients_earns_local_noise_nothing(context: Context) -> None:
    layer = LocalDp(noise_multiplier=8.0)
    plain = dp(layer.ledger(context()))
    drawn = dp(layer.ledger(context(**PUBLIC, participation=0.1, client_sampling="poisson")))
    assert [row.epsilon for row in plain] == [row.epsilon for row in drawn]
    assert all(row.epsilon_unsampled is None for row in drawn)


def test_a_row_states_one_message_and_the_run(context: Context) -> None:
    (row,) = dp(LocalDp(noise_multiplier=8.0).ledger(context()), adjacency="replace-one")
    one = epsilon_bound("rdp", noise_multiplier=4.0, sample_rate=1.0, steps=1, delta=1e-5).epsilon
    assert f"{one:.4g} for one message alone" in row.statement
    assert row.epsilon > one
    assert row.steps == 15


# -- what both say ----------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [DpFedAvg(), LocalDp()])
def test_no_noise_large_delta_and_seeded_noise_are_told(context: Context, layer: Any) -> None:
    seen = context(**PUBLIC, noise=True)
    silent = dp(replace(layer, noise_multiplier=0.0).ledger(seen), "")
    assert all(math.isinf(row.epsilon) for row in silent)
    assert all("nothing is guaranteed" in row.statement for row in silent)
    assert json.loads(json.dumps(silent[0].to_dict()))["epsilon"] == "infinity"
    (row, *_) = dp(replace(layer, delta=0.2).ledger(seen))
    assert "not below 1/10" in row.note
    assert row.note.startswith("simulated guarantee")


@pytest.mark.parametrize("layer", [DpFedAvg(), LocalDp()])
def test_who_sees_nothing_or_corrupts_all_has_no_row(context: Context, layer: Any) -> None:
    nothing = {"smallest_k": 0, "reads_model": False}
    assert layer.ledger(context(**nothing)) == ()
    assert layer.ledger(context(clients=tuple(range(10)))) == ()


# -- in runs ----------------------------------------------------------------------------------------


def ledger_of(pipeline: Pipeline, layers: list[Any], threat: ThreatModel) -> tuple[LedgerRow, ...]:
    keep = "honest-updates" in threat.knows
    stack = Stack.from_layers("s", layers)
    return run_batch(pipeline, stack, [RunSpec(seed=0)], grant_honest_updates=keep)[0].ledger(threat)


def test_the_observers_of_a_run(make_pipeline: Callable[..., Pipeline]) -> None:
    pipeline = make_pipeline(n_clients=4, participation=0.5, client_sampling="poisson", rounds=3)
    layers = [DpFedAvg(noise_multiplier=2.0)]
    everybody_else = coalition(n=3)
    for threat, earns in (
        (public_final_model(), True),
        (corrupted_clients(n=2), True),
        (everybody_else, True),
        (honest_but_curious_server(), False),
        (wire_eavesdropper(), False),
        (public_final_model(knows=("honest-updates",)), False),
    ):
        assert bool(dp(ledger_of(pipeline, layers, threat))) == earns, threat.name
    sealed = dp(ledger_of(pipeline, [AesGcmLink(), *layers], wire_eavesdropper()))
    assert [row.adjacency for row in sealed] == ["zero-out"], "it sees who sends"
    assert sealed[0].epsilon_unsampled is None


def test_mechanisms_stand_side_by_side_and_nothing_is_added(make_pipeline: Callable[..., Pipeline]) -> None:
    """A stack of three: each layer's rows are those that it has alone, and there are no others."""
    pipeline = make_pipeline(n_clients=4, rounds=2)
    link, example, client = AesGcmLink(), DpSgd(noise_multiplier=2.0), DpFedAvg(noise_multiplier=3.0)
    threat = public_final_model()

    def rows(layers: list[Any]) -> dict[str, list[LedgerRow]]:
        found: dict[str, list[LedgerRow]] = {}
        for row in ledger_of(pipeline, layers, threat):
            if row.guarantee == "differential privacy":
                found.setdefault(row.layer, []).append(row)
        return found

    together = rows([example, link, client])
    assert set(together) == {"dp-sgd", "dp-fedavg"}
    assert together["dp-fedavg"] == rows([client])["dp-fedavg"]
    # Behind another rule than the weighted mean there is no credit for others' noise.
    own = [row for row in rows([example])["dp-sgd"] if row.trusted == "nobody but the client itself"]
    assert together["dp-sgd"] == own
    assert {(row.unit, row.layer) for part in together.values() for row in part} == {
        ("example", "dp-sgd"),
        ("client", "dp-fedavg"),
    }

"""CKKS sums released to the server: the guards, how often, and what the ledger says of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from qflsec.base import ConfigError, IncompatibleStack, OsSecrets, ProtocolAbort, SeededSecrets
from qflsec.federation import RunSpec, Stack, layer_from_config, run_batch
from qflsec.protocols.secagg import HeCkks
from qflsec.protocols.secagg.he.envelope import open_envelope
from qflsec.protocols.secagg.he.guard import Flooding, apply_guard, noise_bound
from qflsec.threat import SERVER, ThreatModel, client, coalition

Maker = Callable[..., Any]
FLOODED = HeCkks(mode="released", precision=1e-2, largest=128.0)
BARE = HeCkks(mode="released", guard="none", unsafe=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"guard": "none"},
        {"guard": "hope"},
        {"estimate": "wishful"},
        {"releases": 0},
        {"statistical_bits": 5},
        {"guard": "rounding", "step": 0.0},
        {"guard": "flooding"},  # the default precision does not allow it with the default range
        {"guard": "flooding", "precision": 1e-2, "largest": 64.0, "estimate": "worst-case"},
        {"guard": "flooding", "precision": 1e-2, "largest": 64.0, "statistical_bits": 60},
        {"guard": "flooding", "precision": 1e-2, "largest": 64.0, "releases": 1_000_000},
    ],
)
def test_guards_that_are_refused(wrong: dict[str, Any]) -> None:
    """Without a guard only when it is said to be unsafe; flooding only where the precision allows it."""
    with pytest.raises(ConfigError):
        layer_from_config({"name": "he-ckks", "mode": "released", **wrong})


def test_precision_is_a_boundary() -> None:
    """Of the error that the message names as the best, a little more passes and a little less raises."""
    with pytest.raises(ConfigError) as refused:
        replace(FLOODED, precision=1e-12)
    best = float(str(refused.value.expected).split()[3])
    assert replace(FLOODED, precision=best)
    with pytest.raises(ConfigError, match="that precise"):
        replace(FLOODED, precision=0.9 * best)


def test_the_calibration_is_the_stated_bound() -> None:
    """The divergence of all releases is 2^-s / 48 whatever the bound, the slots and the releases."""
    for bound, n, q, s in ((1e-9, 37, 10, 30), (3e-5, 2048, 1, 20), (0.7, 1, 1000, 40)):
        flooding = Flooding(bound=bound, n_values=n, releases=q, bits=s)
        assert flooding.divergence == pytest.approx(2.0**-s / 48)
        assert bound / 16 <= flooding.grid <= bound / 8
        twice = replace(flooding, releases=4 * q)
        assert twice.sigma == pytest.approx(2 * flooding.sigma)
        assert replace(flooding, bits=s + 2).sigma == pytest.approx(2 * flooding.sigma)


def test_the_divergence_of_two_floodings_is_below_the_bound() -> None:
    """An independent sum over the two discrete Gaussians, at the largest shift of a small case."""
    flooding = Flooding(bound=1.0, n_values=1, releases=1, bits=4)
    sigma, shift = flooding.sigma / flooding.grid, math.ceil((flooding.bound + flooding.grid) / flooding.grid)
    k = np.arange(-60_000, 60_001, dtype=np.float64)
    p = np.exp(-(k**2) / (2 * sigma**2))
    q = np.exp(-((k - shift) ** 2) / (2 * sigma**2))
    p, q = p / p.sum(), q / q.sum()
    keep = (p > 1e-280) & (q > 1e-280)
    divergence = float(np.sum(p[keep] * np.log(p[keep] / q[keep])))
    assert divergence == pytest.approx(shift**2 / (2 * sigma**2), rel=1e-6)
    assert divergence <= flooding.divergence * 1.0001


def test_worst_case_is_above_the_heuristic_and_both_above_what_is_measured() -> None:
    layer = HeCkks(largest=64.0)
    chosen = layer.parameters(10)
    heuristic, worst = (noise_bound(chosen, 10, 64.0, e) for e in ("heuristic", "worst-case"))  # type: ignore[arg-type]
    assert worst > 100 * heuristic
    context = layer.new_context(10)
    values = torch.rand(2047, generator=torch.Generator().manual_seed(1)).double()
    total = None
    for _ in range(10):
        vector = layer.load(context, layer.encrypt(context, values, 1.0, 10, secrets=OsSecrets())[0][0])
        total = vector if total is None else total + vector
    assert total is not None
    assert np.abs(np.asarray(total.decrypt())[:2047] - 10 * values.numpy()).max() < heuristic


def test_flooding_has_the_stated_size_and_lies_on_the_grid() -> None:
    """Chi-square of 4,000 draws; false alarm 1e-6."""
    flooding = Flooding(bound=1e-9, n_values=37, releases=10, bits=30)
    values = np.linspace(-5.0, 5.0, 4000)
    released = flooding.apply(values, SeededSecrets(3, "flooding"))
    assert np.array_equal(np.rint(released / flooding.grid) * flooding.grid, released)
    error = (released - values) / flooding.sigma
    from scipy import stats

    low, high = stats.chi2.ppf([5e-7, 1 - 5e-7], 4000)
    assert low < float(np.sum(error**2)) < high
    assert stats.kstest(error, "norm").pvalue > 1e-6


def test_heuristic_guards_do_what_they_say() -> None:
    values = np.array([0.123456789, -2.5])
    assert np.array_equal(
        apply_guard("none", values, SeededSecrets(1, "x"), flooding=None, step=1e-3), values
    )
    rounded = apply_guard("rounding", values, SeededSecrets(1, "x"), flooding=None, step=1e-3)
    assert np.allclose(rounded, [0.123, -2.5], atol=1e-12)
    noisy = apply_guard("tiny-noise", np.zeros(2000), SeededSecrets(1, "x"), flooding=None, step=1e-3)
    assert 0.9e-3 < noisy.std() < 1.1e-3
    with pytest.raises(ConfigError):
        apply_guard("flooding", values, SeededSecrets(1, "x"), flooding=None, step=1e-3)


@pytest.mark.parametrize("layer", [FLOODED, BARE], ids=["flooding", "none"])
def test_the_server_reads_the_sum_within_the_precision(
    parties_of: Maker, updates_of: Maker, layer: Any
) -> None:
    run = parties_of(layer, 3)
    updates, weights = updates_of(3), [3.0, 1.0, 7.0]
    sealed = {client(i): run.seal(i, updates[i], weights[i])[0] for i in range(3)}
    run.conclude(sealed)
    mean, weight = run.reveal(SERVER, run.combine(sealed))
    exact = sum(updates[i].double() * weights[i] for i in range(3))
    assert abs(weight - 11.0) <= layer.precision
    assert float((mean * weight - exact).abs().max()) <= layer.precision
    with pytest.raises(ProtocolAbort, match="was released"):
        run.combine(sealed)


def test_no_more_releases_than_agreed(parties_of: Maker, updates_of: Maker) -> None:
    run = parties_of(replace(FLOODED, releases=2), 3)
    update = updates_of(1)[0]

    def one_round(r: int) -> None:
        sealed = {client(i): run.seal(i, update, 1.0, r)[0] for i in range(3)}
        run.conclude(sealed, r)

    one_round(0)
    with pytest.raises(ProtocolAbort, match="twice"):
        run.states[client(0)].open_sum(b"", 0)
    one_round(1)
    with pytest.raises(ProtocolAbort, match="agreed number"):
        one_round(2)


def test_only_the_first_client_releases(parties_of: Maker) -> None:
    run = parties_of(FLOODED, 3)
    with pytest.raises(ProtocolAbort, match="releases nothing"):
        run.states[client(1)].open_sum(b"", 0)


def test_more_rounds_than_releases_do_not_start(make_pipeline: Maker) -> None:
    stack = Stack(name="s", client=(replace(FLOODED, releases=1),))
    with pytest.raises(IncompatibleStack, match="more rounds"):
        run_batch(make_pipeline(), stack, [RunSpec(seed=3)])


def test_in_the_loop_the_server_reads_sums_and_no_update(make_pipeline: Maker) -> None:
    pipeline = make_pipeline()
    plain = run_batch(pipeline, Stack(name="n"), [RunSpec(seed=3)])[0]
    result = run_batch(pipeline, Stack(name="s", client=(FLOODED,)), [RunSpec(seed=3)])[0]
    assert result.outcome == "completed"
    assert torch.allclose(plain.params, result.params, atol=1e-3)
    for threat in (coalition(server=True), coalition(wire=True)):
        view = result.view(threat)
        assert {item.k for item in view.readable("aggregate")} == {3}
        assert view.readable("update") == ()
        rows = [r for r in result.ledger(threat) if r.layer == "he-ckks"]
        assert [r.guarantee for r in rows] == ["secrecy", "anonymity"]
        assert "heuristic bound" in rows[0].mechanism
        assert "statistical distance of at most 3.1e-06" in rows[0].mechanism
        assert "one that colludes with this observer opens all updates" in rows[0].trusted
        assert "who takes part" in rows[0].note
    both = result.ledger(ThreatModel(name="b", corrupted=frozenset({SERVER, client(1)})))
    assert [r.guarantee for r in both if r.layer == "he-ckks"] == ["not covered"]


@pytest.mark.parametrize("guard", ["rounding", "tiny-noise", "none"])
def test_the_ledger_claims_nothing_of_what_is_not_proved(make_pipeline: Maker, guard: str) -> None:
    layer = HeCkks(mode="released", guard=guard, unsafe=True)  # type: ignore[arg-type]
    result = run_batch(make_pipeline(), Stack(name="s", client=(layer,)), [RunSpec(seed=3)])[0]
    rows = [r for r in result.ledger(coalition(server=True)) if r.layer == "he-ckks"]
    assert [r.guarantee for r in rows] == ["not covered"]
    assert rows[0].epsilon is None
    said = "secret key follows" if guard == "none" else "heuristic: it blocks the known attack"
    assert said in rows[0].statement
    assert rows[0].assumption == ("none" if guard == "none" else "heuristic")


def test_every_bit_of_a_released_sum_counts(parties_of: Maker, updates_of: Maker) -> None:
    """The answer of the client that decrypts, bit by bit, another round's, and another message in its place."""
    run = parties_of(FLOODED, 3)
    sealed = {client(i): run.seal(i, updates_of(1)[0], 1.0)[0] for i in range(3)}
    control = run.control(0)
    said: list[bytes] = []
    original = control.to_server

    def to_server(messages: Any) -> Any:
        said.extend(messages.values())
        return original(messages)

    control.to_server = to_server  # type: ignore[method-assign]
    run.layer.conclude(control, sealed)
    server = run.states[SERVER]

    def check(blob: bytes, round_index: int = 0, what: str = "released") -> None:
        open_envelope(
            server.identity,
            client(0),
            blob,
            context=server.bound(what),
            key_id=server.key_id,
            round_index=round_index,
        )

    check(said[0])
    for bit in range(8 * len(said[0])):
        altered = bytearray(said[0])
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProtocolAbort):
            check(bytes(altered))
    with pytest.raises(ProtocolAbort, match="another round"):
        check(said[0], 1)
    with pytest.raises(ProtocolAbort, match="wrong signature"):
        check(sealed[client(0)])

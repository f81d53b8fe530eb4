"""Validated aggregation in the loop: who is left out, what ends a round, what every party sees."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.attacks.poisoning import ScaledSignFlip
from qflsec.base import ConfigError, IncompatibleStack, OsSecrets, UpdateError
from qflsec.defenses.robust import Median
from qflsec.federation import Adversary, RunResult, RunSpec, Stack, layer_from_config, run_batch
from qflsec.protocols.links import AesGcmLink
from qflsec.protocols.validated import Opening, Proof, Statement, Validated, commit
from qflsec.protocols.validated.encoding import LIMBS, Quantiser, from_words, to_words
from qflsec.protocols.validated.group import ORDER
from qflsec.protocols.validated.prover import Prover
from qflsec.protocols.validated.states import Parcel, ProvingClient
from qflsec.threat import Payload, Tapped, ThreatModel, client, coalition, corrupted_clients

Maker = Callable[..., Any]
LAYER = Validated(max_norm=1.0, resolution_bits=8)
SERVER_ONLY = coalition(server=True)
WIRE = coalition(wire=True, active=True)


@pytest.fixture
def pipeline(make_pipeline: Maker) -> Callable[..., Any]:
    """Two qubits, one layer: few parameters, so that proofs are quick."""

    def make(**options: Any) -> Any:
        return make_pipeline(**{"n_qubits": 2, "n_clients": 5, **options})

    return make


def one(pipeline: Any, *layers: Any, **spec: Any) -> RunResult:
    stack = Stack.from_layers("s", layers)
    return run_batch(pipeline, stack, [RunSpec(seed=4, **spec)], grant_honest_updates=True)[0]


def mean_of(result: RunResult, round_index: int, among: Any) -> torch.Tensor:
    updates = result.transcript.honest_updates[0]
    return torch.stack([updates[round_index, i] for i in among]).mean(dim=0)


def aggregate(result: RunResult, round_index: int) -> Any:
    (item,) = result.view(SERVER_ONLY).readable("aggregate", round_index=round_index)
    return item


# -- honest -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer", [LAYER, Validated(resolution_bits=8, agreement="hybrid", signature="ml-dsa-65")]
)
@pytest.mark.parametrize("link", [(), (AesGcmLink(),)])
def test_the_server_reads_the_mean_of_equal_clients_to_a_unit(
    pipeline: Maker, layer: Validated, link: Any
) -> None:
    result = one(pipeline(), layer, *link)
    assert result.outcome == "completed"
    for round_index in range(2):
        item = aggregate(result, round_index)
        error = (item.vector - mean_of(result, round_index, range(5))).abs().max()
        assert error < layer.quantiser.step + 1e-7
        assert (item.k, item.weight, item.derived) == (5, 5.0, True)
    assert result.costs["proof_bytes"] == 10 * Proof.size(
        Statement(
            dimension=pipeline().model.n_params,
            resolution_bits=8,
            max_norm=1.0,
            session=b"",
            round=0,
            client=0,
        )
    )


@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.floats(-3, 3, allow_nan=False), min_size=1, max_size=64), r=st.integers(5, 12))
def test_rounding_never_leaves_the_bound(values: list[float], r: int) -> None:
    quantiser = Quantiser(max_norm=0.7, bound=2**r - 1)
    claim = Statement(dimension=len(values), resolution_bits=r, max_norm=0.7, session=b"", round=0, client=0)
    given_up = torch.tensor(values, dtype=torch.float64)
    for secrets in (Coins(OsSecrets().draw), Coins(bytes), Coins(lambda n: b"\xff" * n)):
        integers = quantiser.integers(given_up, secrets=secrets)
        assert claim.holds(integers)
        if math.hypot(*values) < 0.7 * (1 - math.sqrt(len(values)) / (2**r - 1)):
            worst = max(abs(i * quantiser.step - v) for i, v in zip(integers, values, strict=True))
            assert worst < quantiser.step * (1 + 1e-9)


class Coins:
    """Secrets from a function: zero bytes round up whatever is not whole, bytes of 255 round down."""

    seeded = True

    def __init__(self, draw: Callable[[int], bytes]) -> None:
        self.draw = draw


@pytest.mark.parametrize("d", [1, 7, 64])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_an_update_at_the_bound_has_a_proof_whichever_way_it_is_rounded(d: int, sign: float) -> None:
    """At the bound, and far above it, all coordinates rounded away from zero at once: still short enough."""
    claim = Statement(dimension=d, resolution_bits=8, max_norm=1.0, session=b"", round=0, client=0)
    away = Coins(bytes if sign > 0 else (lambda n: b"\xff" * n))
    for norm in (1.0, 1.0 + 1e-9, 1e6):
        update = torch.full((d,), sign * norm / math.sqrt(d), dtype=torch.float64)
        integers = LAYER.quantiser.integers(update, secrets=away)
        assert claim.holds(integers)
        kept = math.hypot(*integers) * LAYER.quantiser.step
        assert kept >= 1 - 2 * math.sqrt(d) / LAYER.quantiser.bound, "and no shorter than rounding needs"


def test_an_updates_small_coordinates_are_read_without_bias() -> None:
    """64 coordinates of .3 units, 2,000 roundings: the mean within 5 standard errors (false alarm 6e-7)."""
    quantiser, fraction = LAYER.quantiser, 0.3
    update = torch.full((64,), fraction * quantiser.step, dtype=torch.float64)
    drawn = np.array([quantiser.integers(update, secrets=OsSecrets()) for _ in range(2000)])
    assert abs(drawn.mean() - fraction) <= 5 * math.sqrt(fraction * (1 - fraction) / drawn.size)
    assert set(np.unique(drawn)) == {0, 1}


def test_updates_that_are_not_finite() -> None:
    with pytest.raises(UpdateError, match="finite"):
        LAYER.quantiser.integers(torch.tensor([math.inf]), secrets=OsSecrets())


@settings(max_examples=20, deadline=None)
@given(data=st.data(), n=st.integers(1, 6), d=st.integers(1, 4))
def test_words_add_up_to_values_and_blinding_factors(data: st.DataObject, n: int, d: int) -> None:
    openings = [
        Opening(
            values=tuple(data.draw(st.integers(-(2**24), 2**24)) for _ in range(d)),
            blindings=tuple(data.draw(st.integers(0, ORDER - 1)) for _ in range(d)),
        )
        for _ in range(n)
    ]
    words = [to_words(opening) for opening in openings]
    assert len(words[0]) == (LIMBS + 1) * d
    values, blindings = from_words(np.sum(words, axis=0, dtype=np.uint64))
    assert values.tolist() == [sum(o.values[j] for o in openings) for j in range(d)]
    assert list(blindings) == [sum(o.blindings[j] for o in openings) % ORDER for j in range(d)]


# -- manipulation -------------------------------------------------------------------------------------


def test_a_scaled_update_moves_the_mean_by_no_more_than_its_share(pipeline: Maker) -> None:
    attack = {"adversary": ScaledSignFlip(scale=1e6), "threat": corrupted_clients(n=1)}
    result = one(pipeline(), LAYER, **attack)
    assert result.outcome == "completed"
    shift = aggregate(result, 0).vector * 5 - mean_of(result, 0, range(1, 5)) * 4
    assert 0.9 < float(shift.norm()) <= 1.0 + 1e-3


class Liar:
    """One client's proving, replaced."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lies: dict[int, Callable[..., Any]]) -> None:
        honest = ProvingClient.prove

        def prove(state: ProvingClient, statement: Statement, values: tuple[int, ...]) -> Any:
            if state.party.index in lies:
                return lies[state.party.index](state, statement, values)
            return honest(state, statement, values)

        monkeypatch.setattr(ProvingClient, "prove", prove)
        self.honest = honest


def shifted(by: tuple[int, ...]) -> Callable[..., Any]:
    """Prove the honest vector, and mask another."""

    def lie(_state: Any, statement: Statement, values: tuple[int, ...]) -> Any:
        secrets = OsSecrets()
        opening = commit(values, secrets)
        proof = Prover(statement, opening, secrets).run()
        other = tuple(v + (by[j] if j < len(by) else 0) for j, v in enumerate(values))
        return proof, to_words(Opening(values=other, blindings=opening.blindings))

    return lie


def too_long(_state: Any, statement: Statement, _values: tuple[int, ...]) -> Any:
    """Mask a vector one above the bound, with the best proof that the prover's code makes of it."""
    one_above = (statement.bound, 1, *([0] * (statement.dimension - 2)))
    assert sum(v * v for v in one_above) == statement.bound**2 + 1
    secrets = OsSecrets()
    opening = commit(one_above, secrets)
    return Prover(statement, opening, secrets).run(), to_words(opening)


@pytest.mark.parametrize("by", [(1,), (10**6,), (0, -1), (2**40, 0, 1)])
def test_a_client_that_proves_one_vector_and_masks_another_loses_the_round(
    pipeline: Maker, monkeypatch: pytest.MonkeyPatch, by: tuple[int, ...]
) -> None:
    Liar(monkeypatch, {2: shifted(by)})
    result = one(pipeline(), LAYER)
    assert [(fault.round, fault.lost, fault.caused_by) for fault in result.faults] == [
        (0, True, None),
        (1, True, None),
    ]
    assert result.outcome.startswith(
        "aborted: the sum of round 1 is not that of the vectors that were proved short"
    )
    assert "which one cannot be told" in result.outcome


def test_another_blinding_factor_under_the_mask_loses_the_round_too(
    pipeline: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lie(_state: Any, statement: Statement, values: tuple[int, ...]) -> Any:
        secrets = OsSecrets()
        opening = commit(values, secrets)
        other = ((opening.blindings[0] + 1) % ORDER, *opening.blindings[1:])
        return Prover(statement, opening, secrets).run(), to_words(
            Opening(values=opening.values, blindings=other)
        )

    Liar(monkeypatch, {0: lie})
    assert "not that of the vectors" in one(pipeline(), LAYER).outcome


def test_liars_that_make_up_for_each_other_only_submit_what_they_proved_together(
    pipeline: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = one(pipeline(), LAYER)
    Liar(monkeypatch, {1: shifted((500, 3)), 2: shifted((-500, -3))})
    result = one(pipeline(), LAYER)
    assert result.outcome == "completed"
    # 100 steps of the mean are made up for; each run rounds at random, by less than a step in each of two rounds
    assert float((result.params - honest.params).abs().max()) < 4 * LAYER.quantiser.step


def test_a_client_with_a_long_vector_is_left_out_by_name(
    pipeline: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    Liar(monkeypatch, {2: too_long})
    result = one(pipeline(), LAYER)
    assert result.outcome == "completed"
    assert result.transcript.facts[0].participants == dict.fromkeys(range(2), frozenset({0, 1, 3, 4}))
    item = aggregate(result, 0)
    assert item.weight == 4.0
    # each client rounds at random by less than a step, and so does their mean
    assert (item.vector - mean_of(result, 0, (0, 1, 3, 4))).abs().max() < LAYER.quantiser.step + 1e-7
    Liar(monkeypatch, {2: too_long, 3: too_long})
    outcome = one(pipeline(), LAYER).outcome
    assert "too few clients" in outcome
    assert "client:2 did not prove that its update is short" in outcome
    assert "client:3 did not" in outcome


@dataclass(frozen=True)
class Wire(Adversary):
    """A network that replays one client's parcel of round 0 in round 1, or alters it, or puts in another's."""

    how: str
    victim: int = 3

    def identity(self) -> Any:
        return {"how": self.how, "victim": self.victim}

    def corrupts(self, threat: ThreatModel) -> None:
        pass

    def start(self, n_params: int) -> dict[str, bytes]:
        return {}

    def tamper(self, tapped: Tapped) -> Payload | tuple[Payload | None, object] | None:
        if tapped.kind != "update" or not isinstance(tapped.payload, bytes):
            return tapped.payload
        if tapped.sender != client(self.victim) or tapped.round == 0:
            return tapped.payload, {f"{tapped.round} {tapped.sender}": tapped.payload, **tapped.state}
        parcel, old = Parcel.from_bytes(tapped.payload), tapped.state[f"0 {tapped.sender}"]
        other = tapped.state[f"1 {client(0)}"]
        changed = {
            "replay": old,
            "old proof": Parcel(masked=parcel.masked, signed=Parcel.from_bytes(old).signed).to_bytes(),
            "another's": other,
            "another's proof": Parcel(
                masked=parcel.masked, signed=Parcel.from_bytes(other).signed
            ).to_bytes(),
            "no proof": Parcel(masked=parcel.masked, signed=b"").to_bytes(),
            "cut": tapped.payload[:100],
            "empty": b"",
        }
        if self.how.startswith("bit"):
            place = int(self.how[3:]) * len(tapped.payload) // 8
            altered = bytearray(tapped.payload)
            altered[place] ^= 1
            return bytes(altered)
        return changed[self.how]


@pytest.mark.parametrize(
    "how",
    [
        "replay",
        "old proof",
        "another's",
        "another's proof",
        "no proof",
        "cut",
        "empty",
        *[f"bit{k}" for k in range(8)],
    ],
)
def test_altered_parcels_are_left_out(pipeline: Maker, how: str) -> None:
    result = one(pipeline(), LAYER, adversary=Wire(how), threat=WIRE)
    assert result.outcome == "completed"
    assert result.transcript.facts[0].participants == {
        0: frozenset(range(5)),
        1: frozenset({0, 1, 2, 4}),
    }


# -- views --------------------------------------------------------------------------------------------


def test_what_each_coalition_reads(pipeline: Maker) -> None:
    result = one(pipeline(), LAYER)
    truth = mean_of(result, 0, [4])
    for server in (False, True):
        for n in range(5):
            view = result.view(coalition(server=server, n=n))
            singles = [i for i in view.readable("update", round_index=0) if i.about == {4}]
            assert bool(singles) == (n == 4), (server, n)
            assert bool(view.readable("aggregate", round_index=0)) == (server or n > 0)
            for item in singles:
                assert torch.allclose(item.vector, truth, atol=5 * LAYER.quantiser.step)
                assert item.weight == 1.0


def test_no_secret_is_in_any_view(pipeline: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    openings: list[Opening] = []
    honest = ProvingClient.prove

    def noted(state: ProvingClient, statement: Statement, values: tuple[int, ...]) -> Any:
        proof, words = honest(state, statement, values)
        if state.party.index > 1:
            openings.append(Opening(values=values, blindings=tuple(from_words(words)[1])))
            assert list(from_words(words)[0]) == list(values)
        return proof, words

    monkeypatch.setattr(ProvingClient, "prove", noted)
    result = one(pipeline(), LAYER)
    everything = coalition(server=True, wire=True, n=2)
    memory = b"\0".join(i.value for i in result.view(everything).items if isinstance(i.value, bytes))
    secrets = [r.to_bytes(32, "little") for o in openings for r in o.blindings]
    words = [to_words(o).tobytes() for o in openings]
    assert len(secrets) == 2 * 3 * pipeline().model.n_params
    assert not any(secret in memory or secret[:16] in memory for secret in secrets)
    assert not any(word in memory or word[-48:] in memory for word in words)


def test_the_ledger_states_the_bound_and_its_assumptions(pipeline: Maker) -> None:
    result = one(pipeline(), LAYER)
    for threat in (corrupted_clients(n=2), WIRE):
        rows = [row for row in result.ledger(threat) if row.layer == "validated"]
        (bound,) = [row for row in rows if "L2 norm of at most 1" in row.statement]
        assert (bound.guarantee, bound.assumption) == ("integrity", "computational")
        assert "quantum computer" in bound.note
    for threat in (SERVER_ONLY, coalition(server=True, n=1)):
        rows = [row for row in result.ledger(threat) if row.layer == "validated"]
        assert not any("L2 norm" in row.statement for row in rows if row.guarantee != "not covered")
        assert any("nothing bounds the norm" in row.statement for row in rows), "the server is the verifier"
    server = {row.guarantee: row for row in result.ledger(SERVER_ONLY) if row.layer == "validated"}
    assert "mixes 5 or more" in server["anonymity"].statement


def test_batched_equals_single(pipeline: Maker) -> None:
    made, stack = pipeline(), Stack.from_layers("s", [LAYER])
    both = run_batch(made, stack, [RunSpec(seed=1), RunSpec(seed=2)], secrets="seeded")
    for result, seed in zip(both, (1, 2), strict=True):
        alone = run_batch(made, stack, [RunSpec(seed=seed)], secrets="seeded")[0]
        assert torch.equal(result.params, alone.params)


def test_what_is_refused(make_pipeline: Maker) -> None:
    with pytest.raises(IncompatibleStack, match="leaves only their sum"):
        Stack.from_layers("s", [LAYER, Median()])
    with pytest.raises(IncompatibleStack, match="at most 64"):
        LAYER.check(make_pipeline(n_qubits=4, layers=20, n_clients=5))
    with pytest.raises(IncompatibleStack, match="a quarter of the bound"):
        Validated(resolution_bits=2).check(make_pipeline(n_clients=5))
    with pytest.raises(IncompatibleStack):
        LAYER.check(make_pipeline(n_clients=2))
    for wrong in ({"max_norm": 0.0}, {"resolution_bits": 1}, {"resolution_bits": 25}, {"min_clients": 2}):
        with pytest.raises(ConfigError):
            layer_from_config({"name": "validated", **wrong})

"""Key recovery from released CKKS sums: it succeeds without a guard, and a scorer with the key says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tenseal
import torch

from qflsec.attacks.challenges import Blocked
from qflsec.attacks.server.li_micciancio import (
    KeyClaim,
    LiMicciancio,
    ReleasedSum,
    open_with_key,
    score_key,
)
from qflsec.base import SeededSecrets
from qflsec.federation import RunSpec, Stack, run_batch
from qflsec.federation.round.session import Session
from qflsec.models import build_model
from qflsec.protocols.secagg import HeCkks
from qflsec.protocols.secagg.he.envelope import read_envelope
from qflsec.protocols.secagg.he.guard import Flooding, apply_guard, noise_bound
from qflsec.protocols.secagg.he.parameters import CkksParameters
from qflsec.protocols.secagg.he.state import public_part
from qflsec.threat import SERVER, ThreatModel, client, coalition

Maker = Callable[..., Any]
N_CLIENTS = 5


def context_of(degree: int, sizes: list[int], scale_bits: int) -> Any:
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, poly_modulus_degree=degree, coeff_mod_bit_sizes=sizes)
    context.global_scale = 2.0**scale_bits
    return context


def sums_of(context: Any, n_values: int, rounds: int = 2, seed: int = 0) -> tuple[list[Any], bytes, Any]:
    """Ciphertext sums with their exact decryptions, and the first single ciphertext with its numbers."""
    generator = torch.Generator().manual_seed(seed)
    found, single = [], None
    for _ in range(rounds):
        values = torch.randn(N_CLIENTS, n_values, generator=generator, dtype=torch.float64).numpy()
        vectors = [tenseal.ckks_vector(context, row.tolist()) for row in values]
        single = single or (vectors[0].serialize(), values[0])
        total = vectors[0]
        for vector in vectors[1:]:
            total = total + vector
        found.append((total.serialize(), np.array(total.decrypt())))
    assert single is not None
    return found, single[0], single[1]


def attack(context: Any, sums: list[Any], guard: Callable[[Any], Any] = lambda v: v) -> Any:
    released = [ReleasedSum(ciphertext=c, numbers=guard(v)) for c, v in sums]
    return LiMicciancio().solve(public_part(context), released)


@pytest.fixture(scope="module")
def exact() -> tuple[Any, list[Any], bytes, Any]:
    context = context_of(4096, [50, 51], 34)
    return (context, *sums_of(context, 2048))


@pytest.mark.parametrize(("degree", "sizes", "bits"), [(4096, [60, 49], 40), (8192, [60, 60], 40)])
def test_two_exact_releases_give_the_whole_key(degree: int, sizes: list[int], bits: int) -> None:
    """Li and Micciancio, EUROCRYPT 2021, section 4.1: all values of the key, at the sizes that are in use."""
    context = context_of(degree, sizes, bits)
    claim = attack(context, sums_of(context, degree // 2)[0])
    assert isinstance(claim, KeyClaim)
    assert claim.convincing
    assert score_key(claim, context).value == 1.0


def test_the_key_opens_every_single_update(exact: tuple[Any, list[Any], bytes, Any]) -> None:
    context, sums, single, values = exact
    claim = attack(context, sums)
    assert score_key(claim, context).value == 1.0
    opened = open_with_key(claim, public_part(context), single, 64)
    assert np.abs(opened - values[:64]).max() < 1e-5


def test_one_release_is_not_enough_and_two_keys_do_not_mix(exact: tuple[Any, list[Any], bytes, Any]) -> None:
    context, sums, _, _ = exact
    assert isinstance(attack(context, sums[:1]), Blocked)
    other = context_of(4096, [50, 51], 34)
    mixed = attack(context, [sums[0], sums_of(other, 2048, 1)[0][0]])
    assert not mixed.convincing
    assert score_key(mixed, context).value < 0.01


def flooded(values: Any) -> Any:
    chosen = CkksParameters(degree=4096, sizes=(50, 51), scale_bits=34)
    bound = noise_bound(chosen, N_CLIENTS, 16.0, "heuristic")
    guard = Flooding(bound=bound, n_values=len(values), releases=2, bits=30)
    return guard.apply(values, SeededSecrets(1, "flooding"))


@pytest.mark.parametrize(
    "guard",
    [
        flooded,
        lambda v: apply_guard("rounding", v, SeededSecrets(1, "x"), flooding=None, step=1e-6),
        lambda v: apply_guard("tiny-noise", v, SeededSecrets(1, "x"), flooding=None, step=1e-7),
        lambda v: v.astype(np.float32).astype(np.float64),
    ],
    ids=["flooding", "rounding", "tiny-noise", "single precision"],
)
def test_what_blocks_this_attack(exact: tuple[Any, list[Any], bytes, Any], guard: Any) -> None:
    """Flooding with a proof; the others are only seen to defeat this attack."""
    context, sums, single, values = exact
    claim = attack(context, sums, guard)
    assert isinstance(claim, KeyClaim)
    assert not claim.convincing
    assert score_key(claim, context).value < 0.01
    assert np.abs(open_with_key(claim, public_part(context), single, 8) - values[:8]).max() > 1.0


def test_the_guard_and_not_the_attack_makes_the_difference(exact: tuple[Any, list[Any], bytes, Any]) -> None:
    """Rounding to a grid finer than the noise is no guard: the attack still succeeds."""
    context, sums, _, _ = exact
    claim = attack(
        context,
        sums,
        lambda v: apply_guard("rounding", v, SeededSecrets(1, "x"), flooding=None, step=1e-13),
    )
    assert score_key(claim, context).value == 1.0


def test_partly_filled_ciphertexts_give_no_linear_system() -> None:
    """37 released numbers of 2,048 slots: nothing to solve; with the padding handed over, everything."""
    context = context_of(4096, [50, 51], 34)
    few, _, _ = sums_of(context, 37, rounds=8)
    assert isinstance(attack(context, few), Blocked)
    generator = torch.Generator().manual_seed(5)
    padded = []
    for _ in range(2):
        values = torch.zeros(2048, dtype=torch.float64)
        values[:37] = torch.randn(37, generator=generator, dtype=torch.float64)
        vector = tenseal.ckks_vector(context, values.tolist())
        padded.append((vector.serialize(), np.array(vector.decrypt())))
    claim = attack(context, padded)
    assert score_key(claim, context).value == 1.0


def contexts_of_runs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The clients' contexts, for the scorer alone."""
    kept: list[Any] = []
    original = Session.costs

    def costs(session: Session, lane: int) -> dict[str, float]:
        kept.append(session._states[lane][0][client(1)].context)
        return original(session, lane)

    monkeypatch.setattr(Session, "costs", costs)
    return kept


def test_in_the_loop_from_the_servers_view(make_pipeline: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a model that fills a ciphertext, the server's view of one run is enough; flooding stops it."""
    kept = contexts_of_runs(monkeypatch)
    model = build_model({"name": "hybrid", "n_qubits": 2, "layers": 1, "n_features": 4, "hidden": [350]})
    assert 2047 < model.n_params < 4095
    pipeline = replace(make_pipeline(), model=model)
    server = coalition(server=True)
    outcomes = {}
    for layer in (
        HeCkks(mode="released", guard="none", unsafe=True),
        HeCkks(mode="released", guard="rounding", step=1e-6),
        HeCkks(mode="released", precision=5.0, largest=64.0, releases=2),
    ):
        result = run_batch(pipeline, Stack(name="s", client=(layer,)), [RunSpec(seed=3)])[0]
        assert result.outcome == "completed"
        view = result.view(server)
        claim = LiMicciancio()(view)
        assert isinstance(claim, KeyClaim)
        outcomes[layer.guard] = score_key(claim, kept[-1]).value
        if layer.guard == "none":
            update = next(i for i in view.items if i.kind == "update" and i.about == {2})
            assert update.form == "ciphertext"
            context = next(
                read_envelope(i.value)[0]
                for i in view.readable("control")
                if i.receiver == SERVER and len(read_envelope(i.value)) > 1
            )
            assert isinstance(update.value, bytes)
            opened = open_with_key(claim, context, read_envelope(update.value)[0], 16)
            honest = list(
                result.view(ThreatModel(name="c", corrupted=frozenset({client(2)}))).readable(
                    "update", round_index=0
                )
            )
            truth = next(i for i in honest if i.about == {2})
            assert truth.weight is not None
            expected = truth.vector[:16].double() * truth.weight
            assert np.abs(opened - expected.numpy()).max() < 1e-3
    assert outcomes["none"] == 1.0
    assert outcomes["rounding"] < 0.01
    assert outcomes["flooding"] < 0.01


def test_blocked_where_nothing_is_released(make_pipeline: Maker) -> None:
    result = run_batch(make_pipeline(), Stack(name="s", client=(HeCkks(),)), [RunSpec(seed=3)])[0]
    assert isinstance(LiMicciancio()(result.view(coalition(server=True))), Blocked)
    small = HeCkks(mode="released", guard="none", unsafe=True)
    result = run_batch(make_pipeline(), Stack(name="s", client=(small,)), [RunSpec(seed=3)])[0]
    claim = LiMicciancio()(result.view(coalition(server=True)))
    assert isinstance(claim, Blocked)
    assert "all their slots" in claim.reason

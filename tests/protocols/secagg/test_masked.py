"""Masked aggregation: exact, uniform to outsiders, fresh in every round, and strict about who takes part."""

from __future__ import annotations

import hashlib
import itertools
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from qflsec.accounting import LedgerContext
from qflsec.base import ConfigError, IncompatibleStack, OsSecrets, ProtocolAbort, UpdateError
from qflsec.federation import layer_from_config
from qflsec.protocols.links import expand_key
from qflsec.protocols.secagg import Masked, mask_name
from qflsec.protocols.secagg.masks.expansion import expand
from qflsec.threat import SERVER, client

Federate = Callable[..., Any]
LAYERS = [Masked(), Masked(bits=32, fractional_bits=14)]


def some_updates(n: int, n_params: int = 5, seed: int = 0) -> dict[int, torch.Tensor]:
    draws = torch.randn(n, n_params, generator=torch.Generator().manual_seed(seed))
    return dict(enumerate(draws))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_sum_is_exact(federate: Federate, layer: Masked, n: int, integers_in: Federate) -> None:
    """Bit-equal to the sum of the unmasked integers, and within the rounding bound of the float mean."""
    updates = {i: update.double() for i, update in some_updates(n).items()}
    weights = {i: float(3 * i + 1) for i in range(n)}
    mean, weight, payloads, reads = federate(layer, n).aggregate(updates, weights)
    clear = np.sum([integers_in(reads[i], layer.words.scale) for i in range(n)], axis=0)
    exact, total = layer.words.read(clear.astype(layer.words.dtype))
    assert torch.equal(mean, exact)
    assert weight == total == sum(weights.values())
    plain = sum(updates[i].double() * weights[i] for i in range(n)) / weight
    assert float((mean - plain).abs().max()) < n / layer.words.scale / weight + 1e-12
    for i in range(n):
        assert float((reads[i][:-1] - updates[i]).abs().max()) < 1 / layer.words.scale / weights[i]
        assert float(reads[i][-1]) == weights[i]
        assert reads[i].dtype == updates[i].dtype
        payload = payloads[client(i)]
        assert isinstance(payload, np.ndarray)
        assert payload.nbytes == layer.bits // 8 * (5 + 1)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    present=st.sets(st.integers(0, 5), min_size=2),
    seed=st.integers(0, 1000),
    layer=st.sampled_from(LAYERS),
)
def test_any_set_of_participants(federate: Federate, present: set[int], seed: int, layer: Masked) -> None:
    updates = {i: u for i, u in some_updates(6, seed=seed).items() if i in present}
    weights = {i: float(i) for i in present}
    mean, weight, *_ = federate(layer, 6, seed=seed).aggregate(updates, weights)
    assert weight == sum(present)
    plain = sum(updates[i].double() * i for i in present) / weight
    assert float((mean - plain).abs().max()) < len(present) / layer.words.scale / weight + 1e-12


def test_a_client_without_weight_does_not_move_the_mean(federate: Federate) -> None:
    updates = some_updates(3)
    mean, weight, _, reads = federate(Masked(), 3).aggregate(updates, {0: 0.0, 1: 1.0, 2: 1.0})
    assert weight == 2.0
    assert torch.allclose(mean.float(), (updates[1] + updates[2]) / 2, atol=1e-5)
    assert torch.equal(reads[0], torch.zeros(6))


@pytest.mark.parametrize("layer", LAYERS)
def test_masked_words_are_uniform(federate: Federate, layer: Masked) -> None:
    """Bytes of a masked zero update: chi-square over 256 values, false-alarm rate 1e-6, fresh OS keys."""
    payload, _ = federate(layer, 2, n_params=40_000).seal(0, torch.zeros(40_000), 1.0)
    words = payload[:-1]
    for byte in range(layer.bits // 8):
        counts = np.bincount(((words >> (8 * byte)) & 0xFF).astype(int), minlength=256)
        assert stats.chisquare(counts).pvalue > 1e-6
    unmasked = layer.words.encode(torch.zeros(40_000), 1.0, n=2, secrets=OsSecrets())
    assert stats.chisquare(np.bincount((unmasked[:-1] & 0xFF).astype(int), minlength=256)).pvalue < 1e-6


def test_one_missing_key_hides_and_all_keys_open(federate: Federate) -> None:
    """A vector less all but one of its masks is still 64-bit noise; less all of them it is the update."""
    federation = federate(Masked(), 4)
    update = torch.tensor([0.5, -0.25, 0.0, 2.0, 1.0])
    payload, _ = federation.seal(1, update, 1.0, round_index=3)
    state = federation.states[client(1)]
    digest = hashlib.sha256("|".join(sorted(map(str, federation.clients))).encode()).digest()
    left = payload.copy()
    for peer in (0, 2, 3):
        low, high = sorted((1, peer))
        use = (
            "qflsec/masked/2",
            federation.setup.session,
            3,
            digest,
            f"client:{low}",
            f"client:{high}",
            "pair",
        )
        pair = expand(expand_key(state._secrets[client(peer)], *use), left.size, np.dtype(np.uint64))
        before = left
        left = left - pair if low == 1 else left + pair
        # a false alarm of the next line has probability below 6 * 2^-30
        assert np.abs(before.view(np.int64)).max() > 2**34
    assert torch.equal(torch.from_numpy(Masked().words.decode(left)[:-1]), update.double())


def test_masks_differ_by_round_pair_session_and_participants(federate: Federate) -> None:
    zero = torch.zeros(5)

    def masks(session: bytes, seed: int, participants: tuple[int, ...] | None, round_index: int) -> bytes:
        federation = federate(Masked(), 4, seed=seed, session=session)
        words, _ = federation.seal(0, zero, 0.0, participants, round_index)
        return bytes(words.tobytes())

    seen = {
        masks(*case)
        for case in [
            (b"one", 1, None, 0),
            (b"one", 1, None, 1),
            (b"two", 1, None, 0),
            (b"one", 2, None, 0),
            (b"one", 1, (0, 1, 2), 0),
            (b"one", 1, (0, 1), 0),
            (b"one", 1, (0, 2), 0),
        ]
    }
    assert len(seen) == 7
    assert masks(b"one", 1, None, 0) in seen, "seeded secrets are reproducible"


def test_both_ends_of_a_pair_make_the_same_mask(federate: Federate) -> None:
    federation = federate(Masked(), 2)
    low, _ = federation.seal(0, torch.zeros(5), 0.0)
    high, _ = federation.seal(1, torch.zeros(5), 0.0)
    assert np.array_equal(low + high, np.zeros(6, dtype=np.uint64))
    assert np.abs(low.view(np.int64)).min() > 2**20


def test_sums_of_other_secrets_differ_by_what_is_rounded_alone(federate: Federate) -> None:
    """Of numbers that need no rounding the sum is the same bit for bit; others are rounded by the client's secrets."""
    updates, weights = some_updates(4), dict.fromkeys(range(4), 2.0)
    whole = {i: (update * 1024).round() / 1024 for i, update in updates.items()}
    first = federate(Masked(), 4).aggregate(whole, weights)
    second = federate(Masked(), 4).aggregate(whole, weights)
    seeded = federate(Masked(), 4, seed=3).aggregate(whole, weights)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[0], seeded[0])
    again = [federate(Masked(), 4, seed=3).aggregate(updates, weights)[0] for _ in range(2)]
    other = federate(Masked(), 4, seed=4).aggregate(updates, weights)[0]
    assert torch.equal(*again)
    assert not torch.equal(again[0], other)
    assert float((again[0] - other).abs().max()) < 4 / Masked().words.scale / 8
    assert not np.array_equal(first[2][client(0)], second[2][client(0)])


def test_the_keystream_is_chacha20() -> None:
    """RFC 8439, appendix A.1, test vector 1: key, nonce and counter zero."""
    assert expand(bytes(32), 4, np.dtype(np.uint32)).tobytes().hex() == "76b8e0ada0f13d90405d6ae55386bd28"


# -- who takes part ---------------------------------------------------------------------------------


def test_a_missing_participant_aborts(federate: Federate) -> None:
    federation = federate(Masked(), 3)
    payloads = {client(i): federation.seal(i, torch.zeros(5))[0] for i in (0, 2)}
    with pytest.raises(ProtocolAbort, match="incomplete; got nothing from client:1"):
        federation.layer.combine(federation.states[SERVER], payloads, federation.header(SERVER))


def test_a_stranger_aborts(federate: Federate) -> None:
    federation = federate(Masked(), 4)
    payloads = {client(i): federation.seal(i, torch.zeros(5), 1.0, (0, 1, 2))[0] for i in (0, 1, 2)}
    payloads[client(3)] = payloads[client(0)]
    with pytest.raises(ProtocolAbort, match="strangers"):
        federation.layer.combine(federation.states[SERVER], payloads, federation.header(SERVER, (0, 1, 2)))


def test_a_stranger_in_place_of_a_participant_aborts(federate: Federate) -> None:
    federation = federate(Masked(), 4)
    payloads = {client(i): federation.seal(i, torch.zeros(5))[0] for i in (0, 1, 3)}
    with pytest.raises(ProtocolAbort, match="nothing from client:2"):
        federation.layer.combine(federation.states[SERVER], payloads, federation.header(SERVER, (0, 1, 2)))


def test_different_lists_of_participants_do_not_cancel(federate: Federate) -> None:
    """A server that tells clients of different participants gets noise and not somebody's update."""
    federation = federate(Masked(), 3)
    zero = torch.zeros(5)
    first = federation.seal(0, zero, 1.0, (0, 1))[0]
    second = federation.seal(1, zero, 1.0, (0, 1, 2))[0]
    third = federation.seal(2, zero, 1.0, (0, 1, 2))[0]
    for parts in itertools.chain([(first, second)], [(first, second, third)]):
        total = np.sum(parts, axis=0, dtype=np.uint64)
        assert np.abs(Masked().words.decode(total)).max() > 1e6


def test_a_client_seals_once_in_a_round(federate: Federate) -> None:
    """Two vectors of one round for different participants would differ by a mask alone."""
    federation = federate(Masked(), 3)
    federation.seal(0, torch.zeros(5), round_index=1)
    for round_index, words in ((1, "twice"), (0, "after that of 1")):
        with pytest.raises(ProtocolAbort, match=words):
            federation.seal(0, torch.zeros(5), 1.0, (0, 1), round_index)
    federation.seal(0, torch.zeros(5), round_index=2)


@pytest.mark.parametrize("participants", [(0,), (1, 2), (0, 0, 1), (0, 9), ()])
def test_bad_lists_of_participants_abort(federate: Federate, participants: tuple[int, ...]) -> None:
    with pytest.raises(ProtocolAbort):
        federate(Masked(), 3).seal(0, torch.zeros(5), 1.0, participants)


def test_a_foreign_header_aborts(federate: Federate) -> None:
    federation = federate(Masked(), 3)
    with pytest.raises(ProtocolAbort, match="participants"):
        federation.layer.seal(federation.states[client(0)], torch.zeros(5), 1.0, federation.header(client(1)))


@pytest.mark.parametrize(
    "payload",
    [b"bytes", np.zeros(6, dtype=np.uint32), np.zeros(5, dtype=np.uint64), torch.zeros(6), np.zeros(6)],
)
def test_malformed_payloads_abort(federate: Federate, payload: Any) -> None:
    federation = federate(Masked(), 2)
    payloads = {client(0): payload, client(1): federation.seal(1, torch.zeros(5))[0]}
    with pytest.raises(ProtocolAbort, match="client:0 is malformed"):
        federation.layer.combine(federation.states[SERVER], payloads, federation.header(SERVER))


def test_an_altered_payload_can_be_noticed_only_in_the_weight(federate: Federate) -> None:
    federation = federate(Masked(), 2)
    header = federation.header(SERVER)
    payloads = {client(i): federation.seal(i, torch.zeros(5))[0] for i in range(2)}
    broken = payloads[client(0)].copy()
    broken[-1] ^= np.uint64(1 << 60)
    combined = federation.layer.combine(federation.states[SERVER], {**payloads, client(0): broken}, header)
    with pytest.raises(ProtocolAbort, match="impossible weight"):
        federation.layer.reveal(federation.states[SERVER], combined, header)
    silent = payloads[client(0)].copy()
    silent[0] += np.uint64(1 << 20)
    combined = federation.layer.combine(federation.states[SERVER], {**payloads, client(0): silent}, header)
    mean, _ = federation.layer.reveal(federation.states[SERVER], combined, header)
    assert mean[0] == 0.5, "masks do not authenticate: the card says so"
    assert any("detect altered payloads" in sentence for sentence in Masked.card.does_not)


# -- keys -------------------------------------------------------------------------------------------


def test_names_of_keys(federate: Federate) -> None:
    federation = federate(Masked(), 4)
    assert federation.states[client(2)].key_names() == {"mask:0-2", "mask:1-2", "mask:2-3"}
    assert federation.states[SERVER].key_names() == frozenset()
    participants = (client(0), client(2), client(3))
    assert Masked().keys(client(2), participants) == {"mask:0-2", "mask:2-3"}
    assert mask_name(client(11), client(2)) == "mask:2-11"


def test_a_party_holds_its_own_private_key_and_its_pairs_only(federate: Federate) -> None:
    federation = federate(Masked(), 4)
    by_pair: dict[frozenset[int], set[bytes]] = {}
    for index in range(4):
        secrets = federation.states[client(index)]._secrets
        assert set(secrets) == {client(i) for i in range(4) if i != index}
        for peer, secret in secrets.items():
            by_pair.setdefault(frozenset({index, peer.index}), set()).add(secret)
    assert all(len(found) == 1 for found in by_pair.values()), "both ends agree"
    assert len({next(iter(found)) for found in by_pair.values()}) == 6, "pairs differ"
    assert not any(isinstance(value, (bytes, dict)) for value in vars(federation.states[SERVER]).values())


def test_a_substituted_key_is_noticed(federate: Federate) -> None:
    """The server swaps a client's announcement for one of its own making."""
    honest, forger = federate(Masked(), 3), federate(Masked(), 3)
    victims = [honest.layer.open(honest.setup, honest.identities[client(0)], _Source()) for _ in range(3)]
    with pytest.raises(ProtocolAbort, match="client:1 has a wrong signature"):
        victims[0].learn(client(1), forger.announced[client(1)])
    with pytest.raises(ProtocolAbort, match="signature"):
        victims[1].learn(client(1), honest.announced[client(2)])
    victims[2].learn(client(1), honest.announced[client(1)])
    with pytest.raises(ProtocolAbort, match="twice"):
        victims[2].learn(client(1), honest.announced[client(1)])


class _Source:
    seeded = True

    def draw(self, n_bytes: int) -> bytes:
        return bytes(range(1, n_bytes + 1))


# -- limits and configuration -----------------------------------------------------------------------


def test_overflow_is_refused_before_it_can_wrap(federate: Federate) -> None:
    layer = Masked(bits=32, fractional_bits=20)
    federation = federate(layer, 4, max_count=400)
    largest = layer.words.largest(4)
    federation.seal(0, torch.full((5,), largest / 400 * 0.999), 400.0)
    with pytest.raises(UpdateError, match=r"32-bit ring with 4 clients.*at most 512"):
        federation.seal(0, torch.full((5,), largest / 400 * 1.001), 400.0, None, 1)
    assert Masked().words.largest(10) > 8e11


def test_a_ring_too_small_for_the_examples_is_refused(federate: Federate) -> None:
    with pytest.raises(ConfigError, match=r"too small for 4 clients with up to 600 examples.*at most 512"):
        federate(Masked(bits=32, fractional_bits=20), 4, max_count=600)


@pytest.mark.parametrize(
    "values",
    [{"bits": 16}, {"bits": 64, "fractional_bits": 60}, {"bits": 32, "fractional_bits": 0}],
)
def test_impossible_parameters_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="out of range"):
        Masked(**values)


def test_one_participant_is_refused(make_pipeline: Callable[..., Any]) -> None:
    with pytest.raises(IncompatibleStack, match="two clients"):
        Masked().check(make_pipeline(participation=0.1))
    Masked().check(make_pipeline(participation=0.5))


@pytest.mark.parametrize("layer", LAYERS)
def test_it_is_a_public_value(layer: Masked) -> None:
    assert pickle.loads(pickle.dumps(layer)) == layer
    assert hash(layer) == hash(layer_from_config(layer.to_config()))


# -- ledger -----------------------------------------------------------------------------------------


@pytest.fixture
def context_of(ledger_context: Callable[..., LedgerContext]) -> Callable[..., LedgerContext]:
    """The server reads sums over five clients."""
    return partial(ledger_context, counts=(8,) * 5, rounds=2, smallest_k=5)


def test_ledger_against_the_server_alone(context_of: Callable[..., LedgerContext]) -> None:
    secrecy, anonymity = Masked().ledger(context_of())
    assert (secrecy.guarantee, anonymity.guarantee) == ("secrecy", "anonymity")
    assert secrecy.assumption == "computational"
    assert "5 or more honest clients" in anonymity.statement
    assert "with 4 more" in anonymity.note
    assert "no differential privacy" in secrecy.note
    assert all(row.epsilon is None for row in (secrecy, anonymity))


def test_ledger_against_colluders(context_of: Callable[..., LedgerContext]) -> None:
    (row,) = Masked().ledger(context_of(smallest_k=1, clients=(0, 1, 2, 3)))
    assert row.guarantee == "not covered"
    assert row.assumption == "none"
    clients_only = Masked().ledger(context_of(server=False, clients=(0,), smallest_k=4))
    assert [r.guarantee for r in clients_only] == ["anonymity"]
    # steps of a rule over groups, or differences of models over rounds: k clients, but not in one sum
    (other,) = Masked().ledger(context_of(server=False, clients=(0,), smallest_k=4, reads_clients=False))
    assert other.guarantee == "not covered"
    assert "not counted" in other.statement
    blind = Masked().ledger(context_of(server=False, smallest_k=0))
    assert blind == ()


def test_seeded_keys_protect_nothing(context_of: Callable[..., LedgerContext]) -> None:
    for row in Masked().ledger(context_of(secrets=True)):
        assert row.assumption == "none"
        assert "seeded keys protect nothing" in row.note

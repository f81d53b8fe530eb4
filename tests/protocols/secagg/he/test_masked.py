"""Masks inside the plaintext: exact sums, and what the server learns together with a client that has the key."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from qflsec.base import IncompatibleStack, ProtocolAbort
from qflsec.federation import RunSpec, Stack, run_batch
from qflsec.protocols.secagg import HeBfv, HeMasked
from qflsec.protocols.secagg.he.envelope import read_envelope
from qflsec.protocols.secagg.he.masked import MaskingClient, masks_below
from qflsec.threat import PUBLIC, SERVER, WIRE, Party, ThreatModel, client

Maker = Callable[..., Any]


def opened_by_a_coalition(run: Any, envelope: bytes) -> np.ndarray[Any, Any]:
    """What the server and client 0, who has the key, read in another client's envelope."""
    context = run.states[client(0)].context
    return np.concatenate([run.layer.load(context, blob).decrypt() for blob in read_envelope(envelope)])


def test_the_sum_is_exact(parties_of: Maker, updates_of: Maker, integers_in: Maker) -> None:
    """Bit-equal to the sum of the integers, for three to five clients and over two ciphertexts."""
    for n, size in ((3, 5), (4, 5), (5, 4096)):
        run = parties_of(HeMasked(), n, n_params=size)
        updates = [update.double() for update in updates_of(n, size)]
        words = run.layer.words(n)
        done = {client(i): run.seal(i, updates[i], 1.0 + i) for i in range(n)}
        sealed = {party: envelope for party, (envelope, _) in done.items()}
        mean, weight = run.reveal(client(0), run.combine(sealed))
        clear = np.sum([integers_in(read, words.scale) for _, read in done.values()], axis=0)
        assert torch.equal(mean, words.read(clear.view(np.uint64))[0])
        exact = sum(updates[i] * (1.0 + i) for i in range(n))
        assert float((mean * weight - exact).abs().max()) < n / words.scale
        assert weight == n * (n + 1) / 2


def test_values_at_the_edge(parties_of: Maker) -> None:
    run = parties_of(HeMasked(), 3, n_params=4)
    words = run.layer.words(3)
    edge = words.share(3)
    values = torch.tensor([edge, -edge, 1, 0], dtype=torch.float64) / words.scale
    sealed = {client(i): run.seal(i, values, 1.0)[0] for i in range(3)}
    mean, weight = run.reveal(client(1), run.combine(sealed))
    assert (mean * weight * words.scale).round().tolist() == [3 * edge, -3 * edge, 3, 0]


def uniform(integers: Any, modulus: int) -> float:
    """The p-value of a chi-square test against the uniform distribution modulo the modulus, in 32 cells."""
    cells = np.floor(np.mod(integers, modulus) / modulus * 32).astype(int)
    return float(stats.chisquare(np.bincount(cells, minlength=32)).pvalue)


def test_with_the_key_and_one_clients_secrets_the_others_are_uniform(parties_of: Maker) -> None:
    """4,095 equal coordinates, opened by the server with client 0: chi-square, false alarm 2e-6 together."""
    run = parties_of(HeMasked(), 3, n_params=4095)
    modulus = run.layer.words(3).modulus
    update = torch.full((4095,), 0.5)
    sealed = [run.seal(i, update, 1.0)[0] for i in range(3)]
    for i in (1, 2):
        opened = opened_by_a_coalition(run, sealed[i])
        assert uniform(opened, modulus) > 1e-6
        # the coalition takes off the mask that it shares with client 0: still uniform
        pairs = dict(run.states[client(0)]._pairs)
        assert client(i) in pairs
        state = run.states[client(i)]
        masks = partial(MaskingClient.mask.__wrapped__, state)  # type: ignore[attr-defined]  # as often as asked
        full = masks(run.header(client(i)), 4096, modulus)
        other = client(3 - i)
        kept = state._pairs[other]
        state._pairs[other] = bytes(32)  # a wrong guess for the pair that the coalition lacks
        guessed = masks(run.header(client(i)), 4096, modulus)
        state._pairs[other] = kept
        assert uniform(opened - guessed, modulus) > 1e-6
        assert np.all(np.mod(opened - full, modulus)[:-1] == 2048), "the control: all pairs open it"


def test_without_masks_the_coalition_reads_everything(parties_of: Maker) -> None:
    """The control: under 'he-bfv' the same coalition reads the others' updates."""
    run = parties_of(HeBfv(), 3, n_params=4095)
    sealed = run.seal(1, torch.full((4095,), 0.5), 1.0)[0]
    opened = opened_by_a_coalition(run, sealed)
    assert np.all(opened[:4095] == 2048)
    assert uniform(opened, run.layer.words(3).modulus) < 1e-6


def test_masks_are_uniform_below_the_modulus() -> None:
    modulus = 12289  # far from a power of two, so that a careless reduction shows
    masks = masks_below(bytes(range(32)), 200_000, modulus)
    assert masks.min() >= 0
    assert masks.max() < modulus
    assert uniform(masks, modulus) > 1e-6
    careless = np.frombuffer(np.random.Generator(np.random.PCG64(1)).bytes(400_000), dtype="<u2") % modulus
    assert uniform(careless, modulus) < 1e-6


def test_a_round_is_fresh_and_needs_everybody(parties_of: Maker, updates_of: Maker) -> None:
    run = parties_of(HeMasked(), 3)
    update = updates_of(1)[0]
    sealed = {r: {client(i): run.seal(i, update, 1.0, r)[0] for i in range(3)} for r in (0, 1)}
    one, two = (opened_by_a_coalition(run, sealed[r][client(1)]) for r in (0, 1))
    assert not np.any(one == two), "no mask is used twice"
    with pytest.raises(ProtocolAbort, match="nothing from client:2"):
        run.combine({client(i): sealed[0][client(i)] for i in (0, 1)})
    with pytest.raises(ProtocolAbort, match="twice"):
        run.seal(0, update, 1.0, 1)


@pytest.mark.parametrize(
    "participants",
    [(0, 1), (0, 1, 1), (0, 0, 1), (1, 2, 0, 7), (1, 2)],
)
def test_participants_that_are_refused(parties_of: Maker, participants: tuple[int, ...]) -> None:
    """Two clients, a name twice, a stranger, or a list without the client itself."""
    run = parties_of(HeMasked(), 3)
    with pytest.raises(ProtocolAbort):
        run.seal(0, torch.ones(5), 1.0, 0, participants=tuple(client(i) for i in participants))


def test_different_lists_of_participants_do_not_cancel(parties_of: Maker, updates_of: Maker) -> None:
    run = parties_of(HeMasked(), 4)
    updates = updates_of(4)
    three = run.clients[:3]
    sealed = {client(i): run.seal(i, updates[i], 1.0, participants=three)[0] for i in range(2)}
    sealed[client(2)] = run.seal(2, updates[2], 1.0)[0]
    header = run.header(SERVER, participants=three)
    combined = run.layer.combine(run.states[SERVER], sealed, header)
    with pytest.raises(ProtocolAbort, match="impossible weight"):
        run.reveal(client(0), combined)


def test_mask_keys_are_authentic(parties_of: Maker) -> None:
    """A server that swaps, drops, repeats or alters an offer is found out by its receiver."""
    from qflsec.base.framing import pack_entries, unpack_entries

    def offers() -> tuple[Any, dict[int, bytes]]:
        run = parties_of(HeMasked(), 3)
        for state in run.states.values():
            if state.party != SERVER:
                state._pairs = {}
                for stage in ("offer", "accept"):
                    del state._record.life.begun[stage], state._record.life.passed[stage]
        routed: dict[int, bytes] = {}
        for i in (0, 1):
            routed[i] = unpack_entries(run.states[client(i)].offer())[2]
        run.states[client(2)].offer()
        return run, routed

    run, routed = offers()
    run.states[client(2)].accept(pack_entries(routed))
    with pytest.raises(ProtocolAbort, match="twice"):
        run.states[client(2)].accept(pack_entries(routed))
    run, routed = offers()
    with pytest.raises(ProtocolAbort):
        run.states[client(2)].accept(pack_entries({0: routed[1], 1: routed[0]}))
    run, routed = offers()
    with pytest.raises(ProtocolAbort, match="one mask key"):
        run.states[client(2)].accept(pack_entries({0: routed[0]}))
    run, routed = offers()
    altered = bytearray(routed[0])
    altered[-100] ^= 1
    with pytest.raises(ProtocolAbort, match="wrong signature"):
        run.states[client(2)].accept(pack_entries({**routed, 0: bytes(altered)}))


def test_coalitions_in_the_loop(make_pipeline: Maker) -> None:
    """Every coalition of a three-client run: the key alone opens 'he-bfv' and not 'he-masked'."""
    pipeline = make_pipeline(members=9)
    results = {
        layer.card.name: run_batch(pipeline, Stack(name="s", client=(layer,)), [RunSpec(seed=3)])[0]
        for layer in (HeBfv(), HeMasked())
    }
    parties = (SERVER, WIRE, *map(client, range(3)))
    for corrupted in itertools.chain.from_iterable(itertools.combinations(parties, n) for n in range(6)):
        threat = ThreatModel(name="x", corrupted=frozenset({PUBLIC, *corrupted}))
        for name, result in results.items():
            view = result.view(threat)
            read = {next(iter(i.about)) for i in view.readable("update", round_index=0) if len(i.about) == 1}
            honest = set(range(3)) - set(threat.clients)
            opens_all = bool(threat.clients) and (threat.server or threat.wire) and name == "he-bfv"
            last = len(threat.clients) == 2
            expected = set(threat.clients) | (honest if opens_all or last else set())
            assert read == expected, (name, threat)


def test_ledger(make_pipeline: Maker) -> None:
    result = run_batch(make_pipeline(), Stack(name="s", client=(HeMasked(),)), [RunSpec(seed=3)])[0]

    def rows(*corrupted: Party) -> list[Any]:
        found = result.ledger(ThreatModel(name="x", corrupted=frozenset(corrupted)))
        return [row for row in found if row.layer == "he-masked"]

    assert [r.guarantee for r in rows(SERVER)] == ["secrecy"]
    assert [r.guarantee for r in rows(SERVER, client(1))] == ["secrecy", "anonymity"]
    assert "mixes 2 or more" in rows(SERVER, client(1))[1].statement
    assert [r.guarantee for r in rows(SERVER, client(1), client(2))] == ["not covered"]
    assert [r.guarantee for r in rows(client(1))] == ["anonymity"]
    assert rows(PUBLIC) == []


def test_two_clients_are_refused(make_pipeline: Maker) -> None:
    with pytest.raises(IncompatibleStack, match="3 clients"):
        run_batch(make_pipeline(n_clients=2), Stack(name="s", client=(HeMasked(),)), [RunSpec(seed=1)])

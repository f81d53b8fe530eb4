"""Threshold sums: exact with every share, noise with one less, and the same contract for both schemes."""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from qflsec.base import (
    ConfigError,
    IncompatibleStack,
    LostRound,
    MissingExtra,
    OsSecrets,
    ProtocolAbort,
    SeededSecrets,
)
from qflsec.federation import RunSpec, Stack, layer_from_config, run_batch
from qflsec.protocols.secagg import HeThreshold
from qflsec.protocols.secagg.he.openfhe_scheme import OpenFheScheme, load_openfhe
from qflsec.protocols.secagg.he.ring import negacyclic
from qflsec.protocols.secagg.he.rlwe import RlweScheme, error_bound
from qflsec.protocols.secagg.he.threshold_scheme import ThresholdScheme
from qflsec.threat import SERVER, ThreatModel, client, coalition

Maker = Callable[..., Any]
PLAIN_BITS = 32


def _openfhe_loads() -> bool:
    if importlib.util.find_spec("openfhe") is None:
        return False
    try:
        load_openfhe()
    except MissingExtra:
        return False
    return True


OPENFHE = _openfhe_loads()
SCHEMES = [
    "rlwe",
    pytest.param("openfhe", marks=pytest.mark.skipif(not OPENFHE, reason="OpenFHE cannot be imported")),
]


def scheme_of(name: str, n: int) -> ThresholdScheme:
    if name == "openfhe":
        return OpenFheScheme(plain_bits=PLAIN_BITS, n_parties=n, security="quantum-128")
    return RlweScheme(
        session=b"s", n_parties=n, plain_bits=PLAIN_BITS, smudging_bits=40, security="quantum-128"
    )


def keys_of(scheme: ThresholdScheme, n: int) -> tuple[list[Any], bytes]:
    shares, public = [], b""
    for _ in range(n):
        share, public = scheme.new_share(OsSecrets(), public)
        shares.append(share)
    return shares, public


def total_of(scheme: ThresholdScheme, public: bytes, vectors: list[Any]) -> bytes:
    ciphertexts = [scheme.encrypt(public, v, OsSecrets())[0] for v in vectors]
    total = ciphertexts[0]
    for other in ciphertexts[1:]:
        total = scheme.add(total, other)
    return total


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("n", [2, 3, 10])
def test_contract(name: str, n: int) -> None:
    """All shares give the exact sum, at the edges too; any n - 1 of them give noise; shares of others as well."""
    scheme = scheme_of(name, n)
    shares, public = keys_of(scheme, n)
    edge = ((scheme.modulus - 1) // 2) // n
    rng = np.random.Generator(np.random.PCG64(n))
    vectors = [rng.integers(-edge, edge + 1, size=64) for _ in range(n)]
    for vector in vectors:
        vector[:3] = edge, -edge, 0
    total = total_of(scheme, public, vectors)
    parts = [scheme.partial(s, total, OsSecrets(), lead=i == 0) for i, s in enumerate(shares)]
    exact = np.sum(vectors, axis=0)
    assert np.array_equal(scheme.fuse(total, parts)[:64], exact)
    for missing in range(1, n):
        rest = [part for i, part in enumerate(parts) if i != missing]
        try:
            found = scheme.fuse(total, rest)[:64]
        except ProtocolAbort:
            continue
        assert np.count_nonzero(found == exact) <= 1
        assert np.abs(found - exact).mean() > scheme.modulus / 16
    strangers, _ = keys_of(scheme, n)
    foreign = [scheme.partial(s, total, OsSecrets(), lead=i == 0) for i, s in enumerate(strangers)]
    assert np.count_nonzero(scheme.fuse(total, foreign)[:64] == exact) <= 1


@pytest.mark.parametrize("name", SCHEMES)
def test_contract_of_bytes(name: str) -> None:
    """Garbage is refused, two encryptions differ, and vectors longer than a ciphertext take several."""
    scheme = scheme_of(name, 2)
    _, public = keys_of(scheme, 2)
    with pytest.raises(ProtocolAbort):
        scheme.add(b"garbage", b"garbage")
    one, two = (scheme.encrypt(public, np.ones(4, dtype=np.int64), OsSecrets()) for _ in range(2))
    assert one != two
    assert len(scheme.encrypt(public, np.ones(scheme.slots + 1, dtype=np.int64), OsSecrets())) == 2


def test_openfhe_is_optional() -> None:
    if OPENFHE:
        pytest.skip("OpenFHE can be imported here")
    with pytest.raises(MissingExtra, match="cannot be imported"):
        load_openfhe()
    layer = HeThreshold(scheme="openfhe")
    with pytest.raises(MissingExtra, match="rlwe"):
        layer.new_scheme(b"s", 3)


def test_openfhe_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The adapter extends the first party's key, and uses the lead decryption for the first party alone."""
    from unittest.mock import MagicMock

    from qflsec.protocols.secagg.he import openfhe_scheme

    fhe = MagicMock()
    fhe.Serialize.return_value = b"bytes"
    context = fhe.GenCryptoContext.return_value
    context.GetRingDimension.return_value = 8192
    monkeypatch.setattr(openfhe_scheme, "load_openfhe", lambda: fhe)
    scheme = OpenFheScheme(plain_bits=32, n_parties=3, security="quantum-128")
    fhe.CCParamsBFVRNS.return_value.SetSecurityLevel.assert_called_once_with(
        fhe.SecurityLevel.HEStd_128_quantum
    )
    scheme.new_share(OsSecrets(), b"")
    assert (context.KeyGen.call_count, context.MultipartyKeyGen.call_count) == (1, 0)
    scheme.new_share(OsSecrets(), b"previous")
    assert (context.KeyGen.call_count, context.MultipartyKeyGen.call_count) == (1, 1)
    scheme.partial("share", b"c", OsSecrets(), lead=True)
    scheme.partial("share", b"c", OsSecrets(), lead=False)
    assert (context.MultipartyDecryptLead.call_count, context.MultipartyDecryptMain.call_count) == (1, 1)
    context.MultipartyDecryptFusion.side_effect = RuntimeError("decryption failed")
    with pytest.raises(ProtocolAbort, match="decryption failed"):
        scheme.fuse(b"c", [b"p"])


def test_parameters_of_the_own_scheme() -> None:
    """Four primes of 25 bits, within the quantum-128 row; errors stay below the bound; what does not fit raises."""
    scheme = RlweScheme(session=b"s", n_parties=10, plain_bits=32, smudging_bits=40, security="quantum-128")
    assert scheme.ciphertext_modulus.bit_length() <= 101
    assert len(set(scheme.primes)) == 4
    assert all((p - 1) % 8192 == 0 for p in scheme.primes)
    with pytest.raises(ConfigError, match="do not fit"):
        RlweScheme(session=b"s", n_parties=10, plain_bits=40, smudging_bits=60, security="quantum-128")


def test_the_error_is_below_its_bound_and_far_below_the_noise() -> None:
    """The error of a sum of five, read with the sum of the shares: below the bound, above a hundredth of it."""
    n = 5
    scheme = RlweScheme(session=b"s", n_parties=n, plain_bits=32, smudging_bits=40, security="quantum-128")
    shares, public = keys_of(scheme, n)
    total = total_of(scheme, public, [np.zeros(4096, dtype=np.int64) for _ in range(n)])
    c0, c1 = scheme._read(total, 2)
    key = sum(share.values for share in shares) % scheme._column
    raw = (c0 + c1 * key) % scheme._column
    ring = scheme._rings[0]
    error = ring.centred(ring.coefficients(raw[0]))
    assert error_bound(n) / 100 < np.abs(error).max() < error_bound(n)
    assert 2.0 ** (scheme.smudging - 40) >= error_bound(n)


def test_public_keys_hold_errors() -> None:
    """What a public key lacks of ``-a s`` is centred binomial of variance 21/2; chi-square, false alarm 1e-6."""
    scheme = RlweScheme(session=b"s", n_parties=2, plain_bits=32, smudging_bits=40, security="quantum-128")
    share, public = scheme.new_share(SeededSecrets(1, "x"), b"")
    rest = (scheme._read(public, 1)[0] + scheme._common * share.values) % scheme._column
    errors = np.stack(
        [ring.centred(ring.coefficients(values)) for ring, values in zip(scheme._rings, rest, strict=True)]
    )
    assert np.all(errors == errors[0]), "one polynomial of integers, modulo every prime"
    low, high = stats.chi2.ppf([5e-7, 1 - 5e-7], 4096)
    assert low < float(np.sum(errors[0].astype(float) ** 2)) / 10.5 < high
    secret = scheme._rings[0].centred(scheme._rings[0].coefficients(share.values[0]))
    assert set(secret.tolist()) == {-1, 0, 1}


def test_parts_are_drowned() -> None:
    """A part less the true product is uniform noise of the stated width; false alarm 1e-6."""
    scheme = RlweScheme(session=b"s", n_parties=2, plain_bits=32, smudging_bits=20, security="quantum-128")
    shares, public = keys_of(scheme, 2)
    total = total_of(scheme, public, [np.ones(4, dtype=np.int64)] * 2)
    part = scheme._read(scheme.partial(shares[1], total, SeededSecrets(1, "x"), lead=False), 1)[0]
    noise = (part - scheme._read(total, 2)[1] * shares[1].values) % scheme._column
    whole = np.zeros(4096, dtype=object)
    q = scheme.ciphertext_modulus
    for ring, residues in zip(scheme._rings, noise, strict=True):
        rest = q // ring.prime
        whole += ring.coefficients(residues).astype(object) * (rest * pow(rest, -1, ring.prime))
    centred = np.array([float(x % q if x % q < q // 2 else x % q - q) for x in whole])
    half = 2.0 ** (scheme.smudging - 1)
    assert np.abs(centred).max() <= half
    assert stats.kstest(centred / half, stats.uniform(-1, 2).cdf).pvalue > 1e-6


def test_the_transform_multiplies_polynomials() -> None:
    """Against schoolbook multiplication modulo X^n + 1, for a small and a large prime."""
    rng = np.random.Generator(np.random.PCG64(1))
    for degree, prime in ((16, 97), (64, 1152921504606748673)):
        ring = negacyclic(degree, prime)
        a, b = (rng.integers(0, min(prime, 1 << 40), degree) for _ in range(2))
        expected = [0] * degree
        for i, j in itertools.product(range(degree), repeat=2):
            sign = 1 if i + j < degree else -1
            expected[(i + j) % degree] += sign * int(a[i]) * int(b[j])
        product = ring.coefficients(ring.values(a) * ring.values(b) % prime)
        assert [int(x) for x in product] == [x % prime for x in expected]
    with pytest.raises(ConfigError, match="split"):
        negacyclic(16, 101)


def test_the_layer_is_exact_and_opens_once(parties_of: Maker, updates_of: Maker, integers_in: Maker) -> None:
    run = parties_of(HeThreshold(), 3)
    updates, weights = [update.double() for update in updates_of(3)], [3.0, 1.0, 7.0]
    words = run.layer.words(run.states[SERVER].scheme)
    for r in range(3):
        done = {client(i): run.seal(i, updates[i], weights[i], r) for i in range(3)}
        sealed = {party: envelope for party, (envelope, _) in done.items()}
        if (
            r == 1
        ):  # a sum of fewer is a sum of a server's choice: nobody opens it, and the next round goes on
            with pytest.raises(LostRound, match=r"every client's update; got none of client:1"):
                run.conclude({p: blob for p, blob in sealed.items() if p != client(1)}, r)
            continue
        run.conclude(sealed, r)
        mean, weight = run.reveal(SERVER, run.combine(sealed, r), r)
        clear = np.sum([integers_in(read, words.scale) for _, read in done.values()], axis=0)
        assert torch.equal(mean, words.read(clear.view(np.uint64))[0])
        exact = sum(updates[i] * weights[i] for i in range(3))
        assert float((mean * weight - exact).abs().max()) < 3 / words.scale
        assert weight == sum(weights)
    with pytest.raises(ProtocolAbort, match="not concluded"):
        run.combine({}, 2)
    with pytest.raises(ProtocolAbort, match="twice"):
        run.states[client(0)].open_part(b"", 2)
    with pytest.raises(ProtocolAbort, match="twice"):
        run.seal(1, updates[0], 1.0, 2)


def test_a_client_that_stays_away_stops_the_round(parties_of: Maker, updates_of: Maker) -> None:
    run = parties_of(HeThreshold(), 3)
    sealed = {client(i): run.seal(i, updates_of(1)[0], 1.0)[0] for i in range(3)}
    control = run.control(0)
    original = control.to_server
    control.to_server = lambda messages: {  # type: ignore[method-assign]
        p: m for p, m in original(messages).items() if p != client(1)
    }
    with pytest.raises(
        LostRound, match=r"every client's part of the decryption; got none of client:1"
    ) as lost:
        run.layer.conclude(control, sealed)
    assert lost.value.caused_by is None


def crafted(scheme: RlweScheme, second: int) -> bytes:
    """A ciphertext whose second component is a constant."""
    pair = np.zeros((2, len(scheme.primes), 4096), dtype=np.int64)
    pair[1] = np.array([second % prime for prime in scheme.primes])[:, None]
    return pair.astype("<u4").tobytes()


def read_share(scheme: RlweScheme, part: bytes, factor: int) -> np.ndarray[Any, Any]:
    """What a part of the decryption of a crafted ciphertext says: ``factor * share`` and noise far below ``factor``."""
    (residues,) = scheme._read(part, 1)
    q, whole = scheme.ciphertext_modulus, np.zeros(4096, dtype=object)
    for ring, values in zip(scheme._rings, residues, strict=True):
        rest = q // ring.prime
        whole += ring.coefficients(values).astype(object) * (rest * pow(rest, -1, ring.prime))
    return np.array([round(int(((x + q // 2) % q) - q // 2) / factor) for x in whole])


FACTOR = 1 << 80


def test_a_part_of_a_crafted_ciphertext_is_the_share() -> None:
    """Why parties decrypt only what they added up: one request, and every coefficient of the share is read."""
    scheme = RlweScheme(session=b"s", n_parties=3, plain_bits=32, smudging_bits=40, security="quantum-128")
    shares, _ = keys_of(scheme, 3)
    for share in shares:
        part = scheme.partial(share, crafted(scheme, FACTOR), OsSecrets(), lead=False)
        ring = scheme._rings[0]
        truth = ring.centred(ring.coefficients(share.values[0]))
        assert np.array_equal(read_share(scheme, part, FACTOR), truth)


def test_a_client_opens_what_all_clients_signed_and_nothing_else(
    parties_of: Maker, updates_of: Maker
) -> None:
    """A server that asks for a ciphertext of its own, for one client's, or for a set of its choice is refused by name."""
    updates = updates_of(3)

    def asked(ask: Callable[[SimpleNamespace], list[bytes]]) -> ProtocolAbort:
        run, other = parties_of(HeThreshold(), 3), parties_of(HeThreshold(), 3, session=b"another")
        sealed = {client(i): run.seal(i, updates[i], 1.0)[0] for i in range(3)}
        message = run.states[SERVER].seal(
            "sum", 0, [b"\x06\0\0\0", *ask(SimpleNamespace(run=run, sent=sealed, other=other))]
        )
        with pytest.raises(ProtocolAbort) as abort:
            run.states[client(0)].open_part(message, 0)
        return abort.value

    zero, one, two = (client(i) for i in range(3))
    raw = asked(lambda s: [crafted(s.run.states[SERVER].scheme, FACTOR)])
    assert (raw.caused_by, "all clients and no other" in str(raw)) == ("server", True)
    own = asked(lambda s: [crafted(s.run.states[SERVER].scheme, FACTOR), s.sent[one], s.sent[two]])
    assert (own.caused_by, "without its own update" in str(own)) == ("server", True)
    thrice = asked(lambda s: [s.sent[zero]] * 3)
    assert "wrong signature" in str(thrice)
    subset = asked(lambda s: [s.sent[zero], s.sent[one]])
    assert "all clients and no other" in str(subset)
    foreign = asked(lambda s: [s.sent[zero], s.sent[one], s.other.seal(2, updates[2], 1.0)[0]])
    assert "another key" in str(foreign)
    bare = asked(lambda s: [s.sent[zero], s.sent[one], crafted(s.run.states[SERVER].scheme, FACTOR)])
    assert bare.caused_by is None, "without a right signature nobody is named"


def test_a_colluding_client_still_breaks_it_as_the_row_says(parties_of: Maker, updates_of: Maker) -> None:
    """The limit: a client signs a ciphertext that brings the sum's second component to the server's choice."""
    run = parties_of(HeThreshold(), 3)
    sealed = {client(i): run.seal(i, updates_of(3)[i], 1.0)[0] for i in range(3)}
    server, liar = run.states[SERVER], run.states[client(2)]
    scheme = server.scheme
    honest = server.added({client(i): sealed[client(i)] for i in range(2)}, 0)[0]
    wished = (scheme._read(crafted(scheme, FACTOR), 2) - scheme._read(honest, 2)) % scheme._column
    sealed[client(2)] = liar.seal("update", 0, [wished.astype("<u4").tobytes()])
    message = server.seal("sum", 0, [b"\x06\0\0\0", *sealed.values()])
    part = server.unseal("partial", client(0), 0, run.states[client(0)].open_part(message, 0), n=1)[0]
    ring, share = scheme._rings[0], run.states[client(0)]._share
    assert np.array_equal(read_share(scheme, part, FACTOR), ring.centred(ring.coefficients(share.values[0])))


@pytest.mark.parametrize("liar", [0, 1, 2])
@pytest.mark.parametrize("what", ["garbage", "too many", "numbers out of range"])
def test_a_client_that_signs_what_does_not_fit_is_named_and_costs_a_round(
    parties_of: Maker, updates_of: Maker, what: str, liar: int
) -> None:
    """Also the first one, whose ciphertexts are what the others' are added to."""
    run = parties_of(HeThreshold(), 3)
    sealed = {client(i): run.seal(i, updates_of(3)[i], 1.0)[0] for i in range(3)}
    state = run.states[client(liar)]
    (good,) = state.unseal("update", client(liar), 0, sealed[client(liar)], n=1)
    sent = {
        "garbage": [b"garbage"],
        "too many": [good, good],
        "numbers out of range": [b"\xff" * len(good)],
    }
    sealed[client(liar)] = state.seal("update", 0, sent[what])
    with pytest.raises(LostRound) as lost:
        run.conclude(sealed)
    assert lost.value.caused_by == f"client:{liar}"
    again = {client(i): run.seal(i, updates_of(3)[i], 1.0, 1)[0] for i in range(3)}
    run.conclude(again, 1)
    assert run.reveal(SERVER, run.combine(again, 1), 1)[1] == 3.0


def test_envelopes_are_bound(parties_of: Maker) -> None:
    """Replay, another's name, another session, a second key, and every bit of head and signature with a sample."""
    run, update = parties_of(HeThreshold(), 2), torch.ones(5)
    good = {client(i): run.seal(i, update, 1.0)[0] for i in range(2)}
    with pytest.raises(ProtocolAbort, match="another round"):
        run.conclude(good, 1)
    with pytest.raises(ProtocolAbort, match="wrong signature"):
        run.conclude({**good, client(1): good[client(0)]})
    other = parties_of(HeThreshold(), 2, session=b"two sessions")
    with pytest.raises(ProtocolAbort, match="another key"):
        run.conclude({**good, client(1): other.seal(1, update, 1.0)[0]})
    with pytest.raises(ProtocolAbort, match="'extend' twice"):
        run.states[client(0)].extend(b"")
    with pytest.raises(ProtocolAbort, match="'finish' twice"):
        run.states[client(0)].finish(b"")
    blob = good[client(0)]
    n_bits, head, tail = 8 * len(blob), 8 * 30, 8 * 64
    sample = np.random.Generator(np.random.PCG64(7)).choice(n_bits - head - tail, 200, replace=False)
    for bit in [*range(head), *range(n_bits - tail, n_bits), *(int(b) + head for b in sample)]:
        altered = bytearray(blob)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProtocolAbort):
            run.states[SERVER].unseal("update", client(0), 0, bytes(altered))


@pytest.mark.parametrize(
    "wrong",
    [
        {"scheme": "magic"},
        {"security": "none"},
        {"plain_bits": 50},
        {"fractional_bits": 30},
        {"smudging_bits": 5},
    ],
)
def test_parameters_that_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        layer_from_config({"name": "he-threshold", **wrong})


def test_overflow_is_refused_before_it_wraps(parties_of: Maker) -> None:
    """One below passes, one above raises."""
    run = parties_of(HeThreshold(), 3, n_params=1)
    words = run.layer.words(run.states[SERVER].scheme)
    assert 3 * words.share(3) <= (words.modulus - 1) // 2 < 3 * (words.share(3) + 1)
    good = torch.tensor([words.share(3)], dtype=torch.float64) / words.scale
    assert run.seal(0, good, 1.0)[0]
    from qflsec.base import UpdateError

    with pytest.raises(UpdateError, match="does not fit"):
        run.seal(0, good + 1 / words.scale, 1.0, 1)
    with pytest.raises(ConfigError, match="too small"):
        parties_of(HeThreshold(plain_bits=24, fractional_bits=16), 3)


def test_in_the_loop(make_pipeline: Maker) -> None:
    pipeline = make_pipeline()
    plain = run_batch(pipeline, Stack(name="n"), [RunSpec(seed=3)])[0]
    result = run_batch(pipeline, Stack(name="s", client=(HeThreshold(),)), [RunSpec(seed=3)])[0]
    assert result.outcome == "completed"
    assert torch.allclose(plain.params, result.params, atol=1e-5)
    for threat, k in (
        (coalition(server=True), 3),
        (coalition(wire=True), 3),
        (ThreatModel(name="b", corrupted=frozenset({SERVER, client(1)})), 2),
    ):
        view = result.view(threat)
        assert min(i.k for i in view.readable("aggregate")) == k
        assert all(i.about <= set(threat.clients) for i in view.readable("update"))
        rows = [r for r in result.ledger(threat) if r.layer == "he-threshold"]
        assert [r.guarantee for r in rows] == ["secrecy", "anonymity"]
        assert "teaching" in rows[0].note
        assert "every key share of the session" in rows[0].trusted
        # 4,096 coefficients of three parties' parts in each round, at 2^-40 each
        rounds = pipeline.federation.rounds
        assert f"all {4096 * 3 * rounds:,} of the run together" in rows[0].mechanism
        assert f"within 2^{math.log2(4096 * 3 * rounds) - 40:.1f} for all" in rows[0].mechanism
    last = ThreatModel(name="l", corrupted=frozenset({SERVER, client(1), client(2)}))
    assert [r.guarantee for r in result.ledger(last) if r.layer == "he-threshold"] == ["not covered"]


def test_every_client_must_take_part(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_clients=4, participation=0.5)
    with pytest.raises(IncompatibleStack, match="every client"):
        run_batch(pipeline, Stack(name="s", client=(HeThreshold(),)), [RunSpec(seed=1)])

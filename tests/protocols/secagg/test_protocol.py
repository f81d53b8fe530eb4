"""Secure aggregation by messages: exact under dropouts at every stage, and what each party refuses."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from qflsec.base import ConfigError, OsSecrets, ProtocolAbort
from qflsec.base.framing import pack_entries, pack_indices, unpack_entries
from qflsec.protocols.key_agreement import key_exchange
from qflsec.protocols.secagg import Client, Policy, SecAgg, Terms, default_threshold, model_digest, scheme
from qflsec.protocols.secagg.masks.expansion import add_expanded, pair_key, self_key
from qflsec.protocols.secagg.messages import EVERYBODY, Kind, Mail, body_of
from qflsec.protocols.secagg.rounds.pairing import PRIVATE_KEY, pair_seed
from qflsec.protocols.secagg.rounds.records import indices_digest, unpack_reveal
from qflsec.protocols.secagg.rounds.shamir import combine_shares, weights_at_zero
from qflsec.protocols.secagg.rounds.terms import session_digest
from qflsec.threat import SERVER, client

Make = Callable[..., Any]
STAGES = ("advertise", "share", "mask", "agree", "reveal")
AGREEMENTS = ("x25519", "ml-kem-768", "hybrid", "bb84")


def total(vectors: Mapping[int, np.ndarray[Any, Any]], who: Any) -> list[int]:
    chosen = [vectors[i] for i in who]
    result: list[int] = np.sum(chosen, axis=0, dtype=chosen[0].dtype).tolist()
    return result


def server_mail(run: Any) -> Mail:
    return Mail(session=b"s" * 16, signer=run.identities[SERVER], signature_bytes=64)


def relays(run: Any, kind: Kind, body: bytes, round_index: int = 0) -> bytes:
    """A message that the server hands on as it likes."""
    return server_mail(run).relay(kind, round_index, body)


def says(run: Any, kind: Kind, receiver: int, body: bytes, round_index: int = 0) -> bytes:
    """A message that the server signs itself."""
    return server_mail(run).pack(kind, round_index, client(receiver), body)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), n=st.integers(3, 7), bits=st.sampled_from([32, 64]))
def test_exact_or_abort_whoever_drops_out_when(aggregation: Make, data: Any, n: int, bits: int) -> None:
    t = data.draw(st.integers(n // 2 + 1, n))
    stages = data.draw(st.lists(st.sampled_from((*STAGES, None, None, None)), min_size=n, max_size=n))
    drops = {i: stage for i, stage in enumerate(stages) if stage}
    run = aggregation(n, bits=bits)
    vectors = run.vectors()
    left = {
        stage: [i for i in range(n) if i not in drops or STAGES.index(drops[i]) > STAGES.index(stage)]
        for stage in STAGES
    }
    if len(left["reveal"]) < t:
        with pytest.raises(ProtocolAbort, match="too few"):
            run.run(vectors=vectors, drops=drops, threshold=t)
        opened = [i for (name, i) in run.heard if name == "reveal"]
        assert len(opened) < t
        return
    assert run.run(vectors=vectors, drops=drops, threshold=t).tolist() == total(vectors, left["mask"])
    assert list(run.server.survivors) == left["mask"]


@pytest.mark.parametrize("agreement", AGREEMENTS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_dropout_at_each_stage_under_each_agreement(aggregation: Make, agreement: str, stage: str) -> None:
    run = aggregation(4, agreement=agreement)
    vectors = run.vectors()
    for dropped in range(4):
        found = run.run(round_index=dropped, vectors=vectors, drops={dropped: stage}, threshold=3)
        there = range(4) if stage in {"agree", "reveal"} else [i for i in range(4) if i != dropped]
        assert found.tolist() == total(vectors, there)


@pytest.mark.parametrize("agreement", ["x25519", "ml-kem-768"])
def test_two_dropouts_of_one_pair(aggregation: Make, agreement: str) -> None:
    run = aggregation(7, agreement=agreement)
    vectors = run.vectors()
    for place, pair in enumerate(itertools.combinations(range(3), 2)):
        found = run.run(round_index=place, vectors=vectors, drops=dict.fromkeys(pair, "mask"))
        assert found.tolist() == total(vectors, sorted(set(range(7)) - set(pair)))


def test_post_quantum_signatures(aggregation: Make) -> None:
    run = aggregation(3, signature="ml-dsa-65", agreement="hybrid")
    vectors = run.vectors()
    assert run.run(vectors=vectors, threshold=2, drops={1: "mask"}).tolist() == total(vectors, [0, 2])
    heard = run.heard["mask", 0]
    altered = heard[:20] + bytes([heard[20] ^ 1]) + heard[21:]
    run.run(round_index=1, threshold=2, tamper=lambda name, i, m: altered if (name, i) == ("mask", 0) else m)
    assert set(run.server.rejected) == {0}


def test_partial_participation_and_any_number_of_rounds(aggregation: Make) -> None:
    run = aggregation(5)
    for round_index, who in enumerate([(0, 1, 2), (2, 3, 4), (0, 1, 2, 3, 4), (0, 2, 4)]):
        vectors = run.vectors(round_index)
        found = run.run(round_index=round_index, vectors=vectors, participants=who)
        assert found.tolist() == total(vectors, who)


def test_a_masked_vector_is_uniform(aggregation: Make) -> None:
    """Bytes of a masked zero vector and of a sum under the dropped client's masks; false-alarm rate 1e-6 each."""
    run = aggregation(3, size=20_000)
    run.run(vectors={i: np.zeros(20_000, dtype=np.uint32) for i in range(3)}, threshold=2)
    for i in range(3):
        raw = np.frombuffer(body_of(run.heard["mask", i], 64), dtype=np.uint8)
        assert stats.chisquare(np.bincount(raw, minlength=256)).pvalue > 1e-6
    words = [np.frombuffer(body_of(run.heard["mask", i], 64), dtype="<u4") for i in range(3)]
    partial = (words[0] + words[1] + words[2]).view(np.uint8)  # the self masks are still on
    assert stats.chisquare(np.bincount(partial, minlength=256)).pvalue > 1e-6


@pytest.mark.parametrize("agreement", AGREEMENTS)
def test_either_secret_of_a_client_is_opened_and_never_both(aggregation: Make, agreement: str) -> None:
    """Own masks of survivors; of the dropped client what its masks with survivors take, and nothing more."""
    run = aggregation(5, agreement=agreement)
    run.run(drops={3: "mask"})
    seeds = {(0, 3), (1, 3), (2, 3), (3, 4)}
    for i in (0, 1, 2, 4):
        opened = unpack_reveal(body_of(run.heard["reveal", i], 64))
        dropped = {(3, PRIVATE_KEY)} if agreement == "x25519" else seeds
        assert set(opened) == {(j, j) for j in (0, 1, 2, 4)} | dropped


@pytest.mark.parametrize("agreement", AGREEMENTS)
def test_what_is_asked_for_never_opens_a_vector(agreement: str) -> None:
    """For every set of survivors: of no client both its own mask and all masks with a survivor or its own key."""
    agreed = scheme(agreement)
    for n in range(3, 7):
        for size in range(n + 1):
            for alive in itertools.combinations(range(n), size):
                wanted = agreed.wanted(range(n), alive)
                assert len(set(wanted)) == len(wanted)
                for i in range(n):
                    own = (i, i) in wanted
                    key = (i, PRIVATE_KEY) in wanted
                    assert own == (i in alive)
                    assert not (own and key)
                    if agreement == "x25519":
                        assert key == (i not in alive)
                        continue
                    pairs = {j for j in range(n) if j != i and (min(i, j), max(i, j)) in wanted}
                    assert pairs == {j for j in range(n) if (j in alive) != (i in alive)}
                    if own and size > 1:
                        assert len(pairs) < n - 1, "a mask with another survivor stays on"


@pytest.mark.parametrize("agreement", AGREEMENTS)
def test_what_a_dropout_opens_serves_one_round(
    aggregation: Make, monkeypatch: pytest.MonkeyPatch, agreement: str
) -> None:
    """All keys of a round are fresh: nothing that was drawn, agreed or expanded in one is used in the next."""
    from qflsec.protocols.secagg.rounds import client as module

    used: list[bytes] = []

    def noted(secret: bytes, *use: Any) -> bytes:
        used.append(secret)
        return original(secret, *use)

    original = module.pair_key
    monkeypatch.setattr(module, "pair_key", noted)
    run = aggregation(4, agreement=agreement)
    rounds = []
    for round_index in range(2):
        used.clear()
        run.run(round_index=round_index, drops={2: "agree"}, threshold=3)
        rounds.append(set(used))
        assert len(rounds[-1]) == 6, "one secret for each pair"
    assert not rounds[0] & rounds[1]
    assert all(party._round is None for i, party in run.clients.items() if i != 2), "nothing is kept"


class Trusting(Client):
    """A client that does not look whether the others got the same model: the control of the second line."""

    def _compare(self, what: str, author: int, mine: bytes, theirs: bytes) -> None:
        if what != "model":
            super()._compare(what, author, mine, theirs)


def test_different_models_are_noticed_by_name(aggregation: Make) -> None:
    run = aggregation(4)
    with pytest.raises(ProtocolAbort, match=r"client:0 and client:2 .* hash of the model"):
        run.run(models={2: b"x" * 32})
    assert {name for name, _ in run.heard} == {"to advertise", "advertise", "to share"}, "no share was sent"


def test_slices_hash_the_common_part_and_who_gets_which(aggregation: Make) -> None:
    """Heads that stay with their clients do not enter; another slicing, or another common part, is named."""
    common, heads = torch.linspace(0, 1, 8), [torch.full((2,), float(i)) for i in range(4)]
    received = {i: torch.cat([common, heads[i]]) for i in range(4)}
    slicing = b"client i of 4: coordinates 2 i and 2 i + 1"
    agreed = {i: model_digest(model[:8], about=slicing) for i, model in received.items()}
    assert len({model_digest(model) for model in received.values()}) == 4, "whole models differ"
    run = aggregation(4)
    vectors = run.vectors()
    assert run.run(vectors=vectors, models=agreed).tolist() == total(vectors, range(4))
    for place, wrong in enumerate(
        (model_digest(common, about=b"another"), model_digest(common + 1, about=slicing))
    ):
        with pytest.raises(ProtocolAbort, match=r"client:0 and client:2 .* hash of the model"):
            run.run(round_index=place + 1, models={**agreed, 2: wrong})


@pytest.mark.parametrize("agreement", AGREEMENTS)
def test_without_the_check_a_sum_under_different_models_is_uniform(aggregation: Make, agreement: str) -> None:
    """The second line: the model's hash is in the keys of the pairs, so their masks do not cancel; alarm 1e-6."""
    zeros = {i: np.zeros(20_000, dtype=np.uint32) for i in range(4)}
    run = aggregation(4, size=20_000, client_class=Trusting, agreement=agreement)
    found = run.run(vectors=zeros, models={2: b"x" * 32})
    assert stats.chisquare(np.bincount(found.view(np.uint8), minlength=256)).pvalue > 1e-6
    assert not run.run(round_index=1, vectors=zeros).any(), "the control: one model, and the sum is 0"


@pytest.mark.parametrize("which", ["one of four", "two of four"])
def test_two_views_of_the_survivors_are_noticed_by_name(aggregation: Make, which: str) -> None:
    run = aggregation(5)
    other = pack_indices([0, 1, 2, 3]) + pack_indices([4])
    liars = [0] if which == "one of four" else [0, 1]

    def lie(name: str, i: int, message: bytes) -> bytes | None:
        if (name, i) == ("agree", 4):
            return None
        return says(run, Kind.SURVIVORS, i, other) if name == "to agree" and i in liars else message

    with pytest.raises(ProtocolAbort, match=r"client:0 and client:[1-4] .* hash of the survivors"):
        run.run(tamper=lie)
    assert not [name for name, _ in run.heard if name == "reveal"], "no share was opened"


@pytest.mark.parametrize(
    ("alive", "dropped", "says_what"),
    [
        ([0, 1, 2, 3], [3], "both secrets"),
        ([0, 1, 2, 3], [0], "both secrets"),
        ([0, 1, 2, 2], [3], "twice"),
        ([0, 1, 2, 3], [4, 4], "twice"),
        ([0, 1, 2, 3], [], "not those of the round"),
        ([1, 2, 3, 4], [0], "not those of the round"),
        ([0, 1, 2, 3, 4, 9], [], "not those of the round"),
        ([0, 1], [2, 3, 4], "too few survivors"),
        ([0, 1, 2], [3, 4], "too few survivors"),
    ],
)
def test_a_client_refuses_these_survivors(
    aggregation: Make, alive: list[int], dropped: list[int], says_what: str
) -> None:
    run = aggregation(5)
    run.run(until="agree")
    with pytest.raises(ProtocolAbort, match=says_what):
        run.clients[0].agree(says(run, Kind.SURVIVORS, 0, pack_indices(alive) + pack_indices(dropped)))
    with pytest.raises(ProtocolAbort, match="twice"):  # and the round is over for it
        run.clients[0].agree(says(run, Kind.SURVIVORS, 0, pack_indices(range(5)) + pack_indices([])))


def test_a_client_opens_shares_once(aggregation: Make) -> None:
    run = aggregation(3)
    run.run()
    for stage in STAGES[1:]:
        with pytest.raises(ProtocolAbort, match="twice"):
            run.client_turn(
                stage, 0, run.heard[f"to {stage}", 0], round_index=0, vectors=run.vectors(), models={}
            )
    with pytest.raises(ProtocolAbort, match="twice"):
        run.client_turn("advertise", 0, run.heard["to advertise", 0], round_index=0, vectors={}, models={})


def test_a_second_request_within_a_round_is_refused(aggregation: Make) -> None:
    run = aggregation(4)
    run.run(until="reveal")
    second = says(run, Kind.SURVIVORS, 0, pack_indices([0, 1, 2]) + pack_indices([3]))
    with pytest.raises(ProtocolAbort, match="twice"):
        run.clients[0].agree(second)
    assert run.clients[0].reveal(run.heard["to reveal", 0]), "the round itself goes on"


@pytest.mark.parametrize("authors", [[1], []])
def test_too_few_statements_open_nothing(aggregation: Make, authors: list[int]) -> None:
    run = aggregation(4)
    shown = unpack_entries(body_of(run.run(until="reveal")[0]))
    kept = pack_entries({i: shown[i] for i in authors})
    with pytest.raises(ProtocolAbort, match="too few statements"):
        run.clients[0].reveal(relays(run, Kind.STATEMENTS, kept))


def test_a_statement_for_another_client_proves_nothing(aggregation: Make) -> None:
    """Tags are of pairs and of directions: neither another's tag nor one's own sent back is taken."""
    run = aggregation(4)
    messages = run.run(until="reveal")
    to_zero, to_one, to_two = (unpack_entries(body_of(messages[i])) for i in range(3))
    for forged in (to_one[2], to_one[0], to_two[0]):
        with pytest.raises(ProtocolAbort, match="statement of client:2 has a wrong tag"):
            copy.deepcopy(run.clients[0]).reveal(
                relays(run, Kind.STATEMENTS, pack_entries({**to_zero, 2: forged}))
            )
    assert run.clients[0].reveal(messages[0])


def two_views(
    run: Any, threshold: int, told: tuple[set[int], set[int]] = ({0}, {1})
) -> dict[tuple[int, int], Mapping[tuple[int, int], bytes]]:
    """What clients open in two views if all who are told nothing lie with the server: 0 survived in the first alone.

    The key is a client and the view's number.
    """
    messages = run.run(until="agree", threshold=threshold)
    everybody = set(messages)
    opened: dict[tuple[int, int], Mapping[tuple[int, int], bytes]] = {}
    for view, alive in enumerate((everybody, everybody - {0})):
        body = pack_indices(sorted(alive)) + pack_indices(sorted(everybody - alive))
        liars = {i: copy.deepcopy(run.clients[i]) for i in everybody - told[0] - told[1]}
        parties = {**liars, **{i: run.clients[i] for i in told[view]}}
        said = {i: party.agree(says(run, Kind.SURVIVORS, i, body)) for i, party in parties.items()}
        server = copy.copy(run.server)
        server.__dict__ |= copy.deepcopy({name: vars(server)[name] for name in ("_round", "_stage_record")})
        server._round.masked = {i: server._round.masked[i] for i in alive}
        shown = server.collect_statements(said)
        for i, party in parties.items():
            opened[i, view] = unpack_reveal(body_of(party.reveal(shown[i]), 64))
    return opened


def test_the_bound_on_colluders_of_a_server_that_deviates_is_tight(aggregation: Make) -> None:
    """Six clients, threshold 5: with 2t - n = 4 colluders two lists of survivors open one vector, with 3 they do not."""
    run = aggregation(6)
    vectors = run.vectors()
    opened = two_views(run, 5)
    weights = weights_at_zero(i + 1 for i in (0, 2, 3, 4, 5))
    own = combine_shares({i + 1: opened[i, 0][0, 0] for i in (0, 2, 3, 4, 5)}, weights)
    weights = weights_at_zero(range(2, 7))
    root = combine_shares({i + 1: opened[i, 1][0, PRIVATE_KEY] for i in range(1, 6)}, weights)
    masks, masked = scheme("x25519").rebuilt(root), run.server._round.masked[0]
    place = (session_digest(b"s" * 16), 0, b"m" * 32, indices_digest(range(6)))
    left = [(-1, self_key(own, 0, place))]
    for i in range(1, 6):
        seed = pair_seed(masks, run.server._round.advertised[i].mask)
        left.append((-1, pair_key(seed, 0, i, place)))
    assert list(add_expanded(masked, left)) == list(vectors[0]), "the single vector is read"
    with pytest.raises(ProtocolAbort, match="threshold of 5"):
        two_views(aggregation(6, policy=Policy(colluders=4)), 5)
    assert SecAgg().deviators_for(6) == 3
    with pytest.raises(ProtocolAbort, match="too few clients are left after the STATEMENT"):
        two_views(aggregation(6), 5, told=({0, 2}, {1}))  # three colluders: five statements, and four


@pytest.mark.parametrize(
    ("participants", "threshold", "policy", "says_what"),
    [
        ((0, 1, 2, 3), 1, Policy(), "threshold of 1"),
        ((0, 1, 2, 3), 2, Policy(), "threshold of 2"),
        ((0, 1, 2, 3), 5, Policy(), "threshold of 5"),
        ((0, 1, 2, 3), 3, Policy(min_threshold=4), "threshold of 3"),
        ((0, 1, 2, 3), 3, Policy(colluders=2), "threshold of 3"),
        ((0, 1, 2), 2, SecAgg().policy, "threshold of 2"),
        ((0, 1), 2, Policy(), "too few clients"),
        ((0, 1, 2), 3, Policy(min_clients=4), "too few clients"),
    ],
)
def test_terms_below_the_floors_are_refused(
    aggregation: Make, participants: tuple[int, ...], threshold: int, policy: Policy, says_what: str
) -> None:
    run = aggregation(4, policy=policy)
    with pytest.raises(ProtocolAbort, match=says_what):
        run.run(participants=participants, threshold=threshold)
    assert run.run(round_index=1, threshold=4).shape == (6,), "terms on the right side are accepted"


@pytest.mark.parametrize("floor", [{"min_clients": 1}, {"min_threshold": 1}, {"colluders": -1}])
def test_floors_that_mean_nothing_are_refused(floor: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Policy(**floor)


@pytest.mark.parametrize(("field", "value"), [("size", 7), ("bits", 64), ("session", bytes(32))])
def test_terms_for_another_vector_or_session_are_refused(aggregation: Make, field: str, value: Any) -> None:
    run = aggregation(3)
    run.run(until="advertise")
    terms = Terms.from_bytes(body_of(run.heard["to advertise", 0], 64))
    wrong = Terms(**{**vars(terms), field: value})
    with pytest.raises(ProtocolAbort, match=r"another (vector|session)"):
        run.client_turn(
            "advertise",
            0,
            says(run, Kind.START, 0, wrong.to_bytes()),
            round_index=0,
            vectors={},
            models={},
        )


@pytest.mark.parametrize("n", range(3, 40))
def test_the_default_threshold_leaves_no_room_for_a_third(n: int) -> None:
    t = default_threshold(n)
    assert n >= t
    assert 2 * t > n + (n - 1) // 3


# replay, wrong round, swapped keys, doubled clients


@pytest.mark.parametrize("stage", STAGES)
def test_messages_of_an_earlier_round_are_refused_by_clients(aggregation: Make, stage: str) -> None:
    run = aggregation(3)
    run.run(threshold=2)
    old = dict(run.heard)
    run.run(round_index=1, threshold=2, until=stage)
    with pytest.raises(ProtocolAbort, match="another round"):
        run.client_turn(stage, 1, old[f"to {stage}", 1], round_index=1, vectors=run.vectors(), models={})


@pytest.mark.parametrize("stage", STAGES)
def test_messages_of_an_earlier_round_are_refused_by_the_server(aggregation: Make, stage: str) -> None:
    run = aggregation(3)
    run.run(threshold=2)
    old = run.heard[stage, 1]
    run.run(round_index=1, threshold=2, tamper=lambda name, i, m: old if (name, i) == (stage, 1) else m)
    assert "another round" in str(run.server.rejected[1])


@pytest.mark.parametrize("stage", STAGES)
def test_messages_under_another_name_or_session_are_refused(aggregation: Make, stage: str) -> None:
    run, other = aggregation(3), aggregation(3, session=b"t" * 16)
    other.identities = run.identities
    run.run(threshold=2, tamper=lambda name, i, m: run.heard[name, 0] if (name, i) == (stage, 1) else m)
    assert "wrong signature" in str(run.server.rejected[1])
    foreign = Mail(session=b"t" * 16, signer=run.identities[client(1)], signature_bytes=64)

    def moved(name: str, i: int, message: bytes) -> bytes:
        if (name, i) != (stage, 1):
            return message
        kind = Kind(message[0])
        receiver = EVERYBODY if stage == "advertise" else SERVER
        return foreign.pack(kind, 1, receiver, body_of(message, 64))

    run.run(round_index=1, threshold=2, tamper=moved)
    assert "wrong signature" in str(run.server.rejected[1])


def test_a_swapped_key_is_noticed(aggregation: Make) -> None:
    """The server puts a key of its own in the place of a client's: under its signature, or another's."""
    for forger in (SERVER, client(2)):
        run = aggregation(3)
        messages = run.run(until="share")
        entries = unpack_entries(body_of(messages[0]))
        body = body_of(entries[1], 64)
        forged = body[:64] + b"\x09" + bytes(31) + body[96:]
        mail = Mail(session=b"s" * 16, signer=run.identities[forger], signature_bytes=64)
        entries[1] = mail.pack(Kind.ADVERTISE, 0, EVERYBODY, forged)
        with pytest.raises(ProtocolAbort, match="wrong signature"):
            run.clients[0].share(relays(run, Kind.ROSTER, pack_entries(entries)))


def test_a_reflected_key_is_noticed(aggregation: Make) -> None:
    """Two clients with one public key would share masks with everybody alike: a lying client copies another's."""
    run = aggregation(3)
    messages = run.run(until="share")
    entries = unpack_entries(body_of(messages[0]))
    mail = Mail(session=b"s" * 16, signer=run.identities[client(2)], signature_bytes=64)
    entries[2] = mail.pack(Kind.ADVERTISE, 0, EVERYBODY, body_of(entries[1], 64))
    with pytest.raises(ProtocolAbort, match="repeated key"):
        run.clients[0].share(relays(run, Kind.ROSTER, pack_entries(entries)))


@pytest.mark.parametrize("agreement", ["x25519", "hybrid"])
def test_a_repeated_key_is_noticed_however_it_is_written(aggregation: Make, agreement: str) -> None:
    """X25519 ignores the highest bit of a key: the same secrets, in other bytes."""
    run = aggregation(3, agreement=agreement)
    messages = run.run(until="share")
    entries = unpack_entries(body_of(messages[0]))
    body = bytearray(body_of(entries[1], 64))
    body[64 + 31] ^= 0x80
    mail = Mail(session=b"s" * 16, signer=run.identities[client(2)], signature_bytes=64)
    entries[2] = mail.pack(Kind.ADVERTISE, 0, EVERYBODY, bytes(body))
    with pytest.raises(ProtocolAbort, match="repeated key"):
        run.clients[0].share(relays(run, Kind.ROSTER, pack_entries(entries)))


def test_the_forms_of_a_key_are_those_that_the_curve_takes_for_one() -> None:
    """RFC 7748: the highest bit is masked and the coordinate is reduced; all forms give one product."""
    exchange, prime = key_exchange("x25519"), 2**255 - 19
    own = X25519PrivateKey.generate()
    for u in (9, 2, 5, *(int.from_bytes(OsSecrets().draw(32), "little") % prime for _ in range(3))):
        written = {(u + k * prime + top) for k in (0, 1) for top in (0, 2**255) if u + k * prime < 2**255}
        keys = [number.to_bytes(32, "little") for number in written]
        assert len({own.exchange(X25519PublicKey.from_public_bytes(key)) for key in keys}) == 1
        assert {exchange.canonical(key) for key in keys} == {(u.to_bytes(32, "little"),)}
    one, two = (exchange.pair(OsSecrets().draw(32)).public for _ in range(2))
    assert exchange.canonical(one) != exchange.canonical(two)


def test_a_client_in_a_list_twice_is_noticed(aggregation: Make) -> None:
    run = aggregation(3)
    messages = run.run(until="share")
    body = body_of(messages[0])
    entries = unpack_entries(body)
    again = (4).to_bytes(2, "little") + body[2:] + pack_entries({1: entries[1]})[2:]
    with pytest.raises(ProtocolAbort, match="names client:1 twice"):
        run.clients[0].share(relays(run, Kind.ROSTER, again))


@pytest.mark.parametrize("stage", ["share", "mask", "reveal"])
def test_lists_with_strangers_are_refused(aggregation: Make, stage: str) -> None:
    """A set must be a part of the earlier one."""
    run = aggregation(5)
    who = (0, 1, 2, 3)
    whole = aggregation(5)
    whole.identities = run.identities
    messages = run.run(
        participants=who,
        threshold=3,
        until=stage,
        drops={3: {"share": "none", "mask": "share", "reveal": "mask"}[stage]},
    )
    kind = Kind(messages[0][0])
    entries = unpack_entries(body_of(messages[0]))
    extra = {"share": 4, "mask": 4, "reveal": 3}[stage]
    entries[extra] = next(iter(entries.values()))
    with pytest.raises(ProtocolAbort, match=r"not in the round|advertised no key|did not survive"):
        run.client_turn(
            stage,
            0,
            relays(run, kind, pack_entries(entries)),
            round_index=0,
            vectors=run.vectors(),
            models={},
        )


def test_a_late_vector_stays_hidden(aggregation: Make) -> None:
    """The server gets the vector of a client that it called dropped, and its pair secrets: the self mask is left."""
    run = aggregation(4, size=20_000)
    zeros = {i: np.zeros(20_000, dtype=np.uint32) for i in range(4)}
    late: list[bytes] = []

    def delay(name: str, i: int, message: bytes) -> bytes | None:
        if (name, i) == ("mask", 2):
            late.append(message)
            return None
        return message

    assert not run.run(vectors=zeros, threshold=3, tamper=delay).any()
    from qflsec.protocols.secagg.masks.expansion import expand, pair_key
    from qflsec.protocols.secagg.rounds.records import indices_digest
    from qflsec.protocols.secagg.rounds.shamir import combine_shares, weights_at_zero
    from qflsec.protocols.secagg.rounds.unmask import Advertisement

    opened = {i: unpack_reveal(body_of(run.heard["reveal", i], 64))[2, PRIVATE_KEY] for i in (0, 1, 3)}
    root = combine_shares({i + 1: s for i, s in opened.items()}, weights_at_zero([1, 2, 4]))
    agreed = scheme("x25519")
    words = np.frombuffer(body_of(late[0], 64), dtype="<u4").copy()
    place = (run.server._session, 0, b"m" * 32, indices_digest(range(4)))
    for i in (0, 1, 3):
        theirs = Advertisement.from_bytes(body_of(run.heard["advertise", i], 64), agreed)
        mask = expand(
            pair_key(pair_seed(agreed.rebuilt(root), theirs.mask), 2, i, place), 20_000, words.dtype
        )
        words = words - mask if i > 2 else words + mask
    assert stats.chisquare(np.bincount(words.view(np.uint8), minlength=256)).pvalue > 1e-6

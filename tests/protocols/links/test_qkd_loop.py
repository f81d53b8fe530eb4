"""QKD links inside the loop: ciphertext both ways, tampering, starvation, stores, and the ledger."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.base import Secrets, SeededSecrets, StoreError
from qflsec.federation import (
    Adversary,
    Pipeline,
    RunResult,
    RunSpec,
    Setup,
    Stack,
    layer_from_config,
    run_batch,
)
from qflsec.protocols.keystore import (
    Epsilons,
    IdealLinks,
    KeyLink,
    KeyStore,
    SeededKeysRefused,
    cut,
    sae_name,
    store_path,
)
from qflsec.protocols.links import (
    HybridLink,
    KeySource,
    OneTimePadLink,
    QkdAesLink,
    QkdEnd,
    QkdLink,
    QkdPolicyLink,
    register_source,
)
from qflsec.protocols.secagg import Masked
from qflsec.threat import (
    SERVER,
    Party,
    Payload,
    Tapped,
    Traffic,
    client,
    corrupted_clients,
    honest_but_curious_server,
    wire_eavesdropper,
)

Maker = Callable[..., Pipeline]
NONE = Stack(name="none")
WIRE = wire_eavesdropper()
LINKS: list[QkdLink] = [
    OneTimePadLink(),
    QkdAesLink(rekey_messages=2),
    HybridLink(rekey_messages=2),
    QkdPolicyLink(),
    QkdPolicyLink(budget_bits=1024),
]
NAMES = [f"{link.card.name}-{link.budget_bits}" for link in LINKS]


def stack(*layers: Any) -> Stack:
    return Stack.from_layers("linked", list(layers))


def one(pipeline: Pipeline, *layers: Any, seed: int = 0, **options: Any) -> RunResult:
    return run_batch(pipeline, stack(*layers), [RunSpec(seed=seed)], **options)[0]


@pytest.mark.parametrize("layer", LINKS, ids=NAMES)
def test_training_is_the_same_and_every_message_is_ciphertext(make_pipeline: Maker, layer: QkdLink) -> None:
    pipeline = make_pipeline(rounds=3)
    results = run_batch(pipeline, stack(layer), [RunSpec(seed=0), RunSpec(seed=1)])
    plain = run_batch(pipeline, NONE, [RunSpec(seed=0), RunSpec(seed=1)])
    assert [result.outcome for result in results] == ["completed"] * 2
    for with_link, without in zip(results, plain, strict=True):
        assert torch.equal(with_link.params, without.params)
        secret = [
            item.vector.numpy().tobytes()[:16] for item in without.view(WIRE).readable("model", "update")
        ]
        seen = with_link.view(WIRE).items
        crossed = [item for item in seen if item.kind in {"model", "update"}]
        assert len(crossed) == 2 * 3 * 3
        assert all(item.form == "sealed" and isinstance(item.value, bytes) for item in crossed)
        blob = b"".join(item.value for item in crossed if isinstance(item.value, bytes))
        assert not any(head in blob for head in secret)
        server = with_link.view(honest_but_curious_server())
        assert len(server.readable("update", about=0)) == 3  # QKD hides nothing from the server
        assert len(with_link.view(corrupted_clients(n=1)).readable("update", about=1)) == 0
        assert with_link.costs["qkd_key_bits"] > 0
        assert "qkd_key_bits" not in without.costs


def test_under_masks_as_well(make_pipeline: Maker) -> None:
    result = one(make_pipeline(), Masked(), QkdPolicyLink())
    assert result.outcome == "completed"
    assert not result.view(WIRE).readable("model", "update", "aggregate", about=0, round_index=0)
    assert result.view(honest_but_curious_server()).readable("aggregate")


def test_under_encryption_whose_model_nobody_can_send(make_pipeline: Maker, shared_key_stub: Any) -> None:
    result = one(make_pipeline(), shared_key_stub, OneTimePadLink())
    assert result.outcome == "completed"


def test_two_links_one_in_the_other(make_pipeline: Maker) -> None:
    result = one(make_pipeline(), QkdAesLink(), OneTimePadLink())
    assert result.outcome == "completed"
    assert torch.equal(result.params, one(make_pipeline()).params)


@dataclass(frozen=True, kw_only=True)
class Tamper(Adversary):
    """Alters, drops, repeats or exchanges one message of a run."""

    kind: str
    how: str
    round: int = 1

    def tamper(self, tapped: Tapped) -> Payload | None:
        payload = tapped.payload
        assert isinstance(payload, bytes)
        target = (tapped.kind, tapped.round) == (self.kind, self.round)
        before = KEPT.get("last")
        KEPT["last"] = payload
        if not target or KEPT.get("done"):
            return payload
        KEPT["done"] = b"yes"
        if self.how == "drop":
            return None
        if self.how == "exchange":
            return before
        place = {"first": 0, "middle": len(payload) // 2, "last": -1}[self.how]
        return payload[:place] + bytes([payload[place] ^ 1]) + (payload[place + 1 :] if place != -1 else b"")

    def identity(self) -> dict[str, object]:
        return dataclasses.asdict(self)


KEPT: dict[str, bytes] = {}


@pytest.mark.parametrize("layer", LINKS[:4], ids=NAMES[:4])
@pytest.mark.parametrize("kind", ["model", "update"])
@pytest.mark.parametrize("how", ["first", "middle", "last", "exchange", "drop"])
def test_tampering_up_or_down_stops_the_run(
    make_pipeline: Maker, layer: QkdLink, kind: str, how: str
) -> None:
    KEPT.clear()
    adversary = Tamper(kind=kind, how=how)
    spec = RunSpec(seed=0, adversary=adversary, threat=wire_eavesdropper(active=True))
    pipeline = make_pipeline(rounds=3)
    result = run_batch(pipeline, stack(layer), [spec])[0]
    assert KEPT.get("done")
    assert result.outcome.startswith("aborted: a message from")
    # what was learned before the tampering is kept: a drop is noticed one round later
    expected = one(make_pipeline(rounds=1)).params
    if how != "drop":
        assert torch.equal(result.params, expected)


def test_an_untouched_run_beside_a_tampered_one_goes_on(make_pipeline: Maker) -> None:
    KEPT.clear()
    spec = RunSpec(seed=0, adversary=Tamper(kind="update", how="last"), threat=wire_eavesdropper(active=True))
    tampered, honest = run_batch(make_pipeline(), stack(OneTimePadLink()), [spec, RunSpec(seed=1)])
    assert tampered.outcome.startswith("aborted")
    assert honest.outcome == "completed"
    assert torch.equal(honest.params, one(make_pipeline(), seed=1).params)


@register_source("scarce", says="a link that gives less than was said, for tests")
def _scarce(source: KeySource, setup: Setup, secrets: Secrets) -> Any:
    parties = (*setup.clients, setup.server)
    links = IdealLinks(parties, secrets, key_bits=source.key_bits, budget_bits=SCARCE["bits"])
    return {party: links.end(party) for party in parties}


SCARCE: dict[str, int] = {}


def scarce(bits: int) -> OneTimePadLink:
    SCARCE["bits"] = bits
    return OneTimePadLink(key_bits=64, source="scarce")


def test_a_run_that_a_link_has_too_little_key_for_does_not_begin(make_pipeline: Maker) -> None:
    """Up, 3 rounds take 3 x (5 + 52 + 16) + 16 bytes: 30 keys of 8. With one less nothing is spent, and nothing sent."""
    pipeline = make_pipeline(rounds=3)
    assert one(pipeline, scarce(30 * 64)).outcome == "completed"
    result = one(pipeline, scarce(29 * 64))
    assert result.outcome.startswith(
        "aborted: the QKD link from client:0 to server has too little key; got 1856 bits left; expected 1920 bits"
    )
    assert result.costs["qkd_key_bits"] == result.costs["network_messages"] == 0
    assert torch.equal(result.params, result.initial)


def test_starvation_stops_the_round_and_loses_nothing(
    make_pipeline: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Key for two rounds of five: the model of the second round stays.

    A model of 12 parameters takes 5 + 48 bytes and 16 for its tag, the first one 16 more: 154 bytes in two
    rounds, which is 20 keys of 8 bytes with 6 bytes left over, so that the third one lacks 63 bytes.
    """
    pipeline = make_pipeline(rounds=5)
    assert pipeline.model.n_params == 12
    monkeypatch.setattr(QkdEnd, "check_ready", lambda _: None)  # else it would not begin
    starving = one(pipeline, scarce(21 * 64))
    assert starving.outcome.startswith(
        "aborted: the QKD link from server to client:0 has too little key; got 64 bits left; expected 504 bits"
    )
    assert torch.equal(starving.params, one(make_pipeline(rounds=2)).params)
    assert starving.accuracy[1:] == (starving.accuracy[1],) * 4
    assert not starving.view(honest_but_curious_server()).readable("update", round_index=2)
    models = starving.view(corrupted_clients(n=3)).readable("model", round_index=2)
    assert all(item.derived for item in models), "all clients together compute it; nobody was sent it"


def test_what_was_not_sent_for_lack_of_key_is_in_no_view(
    make_pipeline: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The uploads starve one after the other; the transcript holds only what was sealed."""
    pipeline = make_pipeline(rounds=1)
    down = 5 + 4 * pipeline.model.n_params + 32  # 85 bytes; an upload takes 4 more
    monkeypatch.setattr(QkdEnd, "check_ready", lambda _: None)
    result = one(pipeline, scarce(8 * 88))
    assert down <= 88 < down + 4
    assert "from client:0 to server" in result.outcome
    assert not result.view(honest_but_curious_server()).readable("update")
    assert len(result.view(honest_but_curious_server()).readable("model", round_index=0)) == 3
    assert result.costs["network_messages"] == 3


@pytest.fixture
def directory() -> Iterator[Path]:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as made:
        yield Path(made)


GOOD = Epsilons(eps_sec=5e-11, eps_cor=5e-16, eps_auth=1e-33)
"""Half of what a link states for a round: each direction has a block of its own here."""


def fill(
    directory: Path,
    n_keys: int,
    *,
    block: int = 1,
    seeded: bool = False,
    epsilons: Epsilons | None = GOOD,
) -> None:
    """Equal keys for every direction of every client's link, each side's copy in its own store."""
    parties = [client(0), client(1), client(2), SERVER]
    stores = {party: KeyStore(store_path(directory, party), allow_seeded=seeded) for party in parties}
    for sender in parties:
        for receiver in parties:
            if SERVER in (sender, receiver) and sender != receiver:
                fill_link(stores, sender, receiver, n_keys, block, seeded=seeded, epsilons=epsilons)


def fill_link(
    stores: dict[Party, KeyStore],
    sender: Party,
    receiver: Party,
    n_keys: int,
    block: int,
    *,
    seeded: bool,
    epsilons: Epsilons | None = GOOD,
) -> None:
    name = f"{block} {sender} {receiver}"
    raw = SeededSecrets(block, name).draw(32 * n_keys)
    keys = cut(
        np.unpackbits(np.frombuffer(raw, dtype=np.uint8)), block=uuid.uuid5(uuid.UUID(int=block), name),
        epsilons=epsilons, key_bits=256, simulated_channel=True, seeded=seeded,
    )  # fmt: skip
    link = KeyLink(master=sae_name(sender), slave=sae_name(receiver))
    stores[sender].add(keys, link=link, role="master")
    stores[receiver].add(keys, link=link, role="slave")


def left(directory: Path) -> int:
    """Undelivered bits of the masters; the slaves must hold the same."""
    total = 0
    for index in range(3):
        for a, b in ((client(index), SERVER), (SERVER, client(index))):
            link = KeyLink(master=sae_name(a), slave=sae_name(b))
            masters = KeyStore(store_path(directory, a), allow_seeded=True).bits_left(link)
            slaves = KeyStore(store_path(directory, b), allow_seeded=True).bits_left(link, role="slave")
            assert masters == slaves
            total += masters
    return total


def test_keys_from_stores_last_over_runs_and_are_never_used_again(
    make_pipeline: Maker, directory: Path
) -> None:
    fill(directory, 20)
    layer = OneTimePadLink(source="stores", directory=str(directory))
    pipeline, before = make_pipeline(rounds=2), left(directory)
    first = one(pipeline, layer)
    second = one(pipeline, layer)
    assert [first.outcome, second.outcome] == ["completed", "completed"]
    assert before - left(directory) == first.costs["qkd_key_bits"] + second.costs["qkd_key_bits"]
    blobs = [
        item.value
        for run in (first, second)
        for item in run.view(WIRE).items
        if item.kind in {"model", "update"}
    ]
    assert len(blobs) == len(set(blobs)) == 2 * 12  # type: ignore[type-var]
    third, fourth = one(pipeline, layer), one(pipeline, layer)
    assert third.outcome == "completed"
    assert "has too little key" in fourth.outcome
    untouched = left(directory)
    assert "has too little key" in one(pipeline, layer).outcome
    assert left(directory) <= untouched
    fill(directory, 20, block=2)
    assert one(pipeline, layer).outcome == "completed"


def test_runs_side_by_side_share_the_stores(make_pipeline: Maker, directory: Path) -> None:
    fill(directory, 20)
    layer = QkdAesLink(source="stores", directory=str(directory))
    results = run_batch(make_pipeline(), stack(layer), [RunSpec(seed=s) for s in range(3)])
    assert [result.outcome for result in results] == ["completed"] * 3
    assert left(directory) == 6 * 20 * 256 - 3 * 6 * 256


def test_stores_that_cannot_be_used(make_pipeline: Maker, directory: Path) -> None:
    layer = OneTimePadLink(source="stores", directory=str(directory))
    with pytest.raises(StoreError, match="there is no key store for client:0"):
        one(make_pipeline(), layer)
    fill(directory, 20, seeded=True)
    with pytest.raises(SeededKeysRefused, match="outside the lab"):
        one(make_pipeline(), layer)
    assert one(make_pipeline(), layer, secrets="seeded").outcome == "completed"


WEAK = Epsilons(eps_sec=0.3, eps_cor=0.3, eps_auth=1e-33)


@pytest.mark.parametrize("epsilons", [WEAK, None], ids=["weak", "unknown"])
def test_keys_of_weak_or_unknown_blocks_are_refused_before_a_bit_is_used(
    make_pipeline: Maker, directory: Path, epsilons: Epsilons | None
) -> None:
    """A block of eps_sec = eps_cor = .3 under a link that states 1e-10 and 1e-15."""
    fill(directory, 20, epsilons=epsilons)
    before = left(directory)
    result = one(make_pipeline(), OneTimePadLink(source="stores", directory=str(directory)))
    assert (
        "has too little good key; got 0 bits left; 5120 more are of blocks with larger or unknown"
        in result.outcome
    )
    assert result.costs["qkd_key_bits"] == 0
    assert left(directory) == before


def test_good_keys_are_used_and_weak_ones_beside_them_are_not(make_pipeline: Maker, directory: Path) -> None:
    for block, epsilons in ((1, WEAK), (2, GOOD), (3, None)):
        fill(directory, 20, block=block, epsilons=epsilons)
    before = left(directory)
    layer = OneTimePadLink(source="stores", directory=str(directory))
    result = one(make_pipeline(), layer)
    assert result.outcome == "completed"
    assert before - left(directory) == result.costs["qkd_key_bits"] > 0
    again = [one(make_pipeline(), layer) for _ in range(4)]
    assert "too little good key" in again[-1].outcome
    assert left(directory) >= 2 * before // 3, "what is left is of no use to this link"


def test_blocks_that_add_up_to_more_than_the_ledger_states_stop_the_run(
    make_pipeline: Maker, directory: Path
) -> None:
    """One round may use 1e-10 of each link: two directions of 8e-11 each are too much."""
    fill(directory, 20, epsilons=dataclasses.replace(GOOD, eps_sec=8e-11))
    result = one(make_pipeline(rounds=1), OneTimePadLink(source="stores", directory=str(directory)))
    assert (
        "the epsilons of 2 blocks of key add up to too much; got 1.6e-10; expected at most 1.0e-10"
        in result.outcome
    )
    assert (
        one(make_pipeline(rounds=2), OneTimePadLink(source="stores", directory=str(directory))).outcome
        == "completed"
    )


def test_seeded_runs_repeat_bit_for_bit(make_pipeline: Maker) -> None:
    runs = [one(make_pipeline(), OneTimePadLink(), secrets="seeded") for _ in range(2)]
    beside = run_batch(
        make_pipeline(), stack(OneTimePadLink()), [RunSpec(seed=3), RunSpec(seed=0)], secrets="seeded"
    )[1]
    said = [[item.value for item in run.view(WIRE).items if item.kind == "update"] for run in (*runs, beside)]
    assert said[0] == said[1] == said[2]
    assert runs[0].seeded_secrets


# The ledger


@pytest.fixture
def context_of(ledger_context: Callable[..., LedgerContext]) -> Callable[..., LedgerContext]:
    """The network hears sealed messages of ten clients."""

    def make(**changes: Any) -> LedgerContext:
        context = partial(ledger_context, server=False, wire=True, smallest_k=0)(**changes)
        return dataclasses.replace(context, traffic=Alike())

    return make


class Alike(dict[object, Traffic | None]):
    """Every link got to carry the same: 40 parameters both ways in 20 rounds."""

    def get(self, key: object, default: object = None) -> Traffic:  # type: ignore[override]
        each = Traffic().then(up={"update": 4 * 41}, down={"model": 4 * 40})
        return Traffic.of_rounds(20, each=each)


@pytest.fixture
def context(context_of: Callable[..., LedgerContext]) -> LedgerContext:
    return context_of()


def secrecy(layer: QkdLink, context: LedgerContext) -> LedgerRow:
    (row,) = [row for row in layer.ledger(context) if row.guarantee == "secrecy"]
    return row


def test_epsilons_compose_over_rounds_and_links(
    context: LedgerContext, context_of: Callable[..., LedgerContext]
) -> None:
    """T = 15 rounds, C = 10 links, 1e-6 + 2e-7 + 3e-8 each: 1.845e-05 a link, 1.845e-04 in all."""
    row = secrecy(OneTimePadLink(eps_sec=1e-6, eps_cor=2e-7, eps_auth=3e-8), context)
    assert "within 1.8e-04 of ideal ones (1.8e-05 for each link)" in row.statement
    assert row.steps == 150
    assert (
        "eps_sec 1.0e-06 + eps_cor 2.0e-07 + eps_auth 3.0e-08 for each of 15 rounds and 10 links"
        in row.mechanism
    )
    fewer = secrecy(OneTimePadLink(eps_sec=1e-6), context_of(clients=(0, 1), rounds=30))
    assert fewer.steps == 240
    assert "within 2.4e-04 of ideal ones (3.0e-05 for each link)" in fewer.statement


def test_one_block_for_a_run_counts_once(context: LedgerContext) -> None:
    """BB84 before a run: ten links, a block each, whatever the number of rounds."""
    row = secrecy(OneTimePadLink(source="bb84", eps_sec=1e-6, eps_cor=2e-7, eps_auth=3e-8), context)
    assert "within 1.2e-05 of ideal ones (1.2e-06 for each link)" in row.statement
    assert "for 1 block of key of each of 10 links" in row.mechanism
    assert "survives no spoiled run" in row.note


def test_epsilons_that_add_up_to_one_claim_nothing(context: LedgerContext) -> None:
    (row,) = OneTimePadLink(source="stores", eps_sec=0.3, eps_cor=0.3).ledger(context)
    assert row.guarantee == "not covered"
    assert "nothing is claimed of the keys: their epsilons add up to 90" in row.statement


@pytest.mark.parametrize("layer", LINKS, ids=NAMES)
def test_rows_say_what_qkd_does_not_do(
    context: LedgerContext, context_of: Callable[..., LedgerContext], layer: QkdLink
) -> None:
    rows = layer.ledger(context)
    assert [row.guarantee for row in rows] == ["secrecy", "integrity"]
    assert all(row.layer == layer.card.name for row in rows)
    assert all("simulated" in row.note for row in rows)
    assert "hides nothing from the server" in rows[0].note
    assert all(row.epsilon is None and row.delta is None for row in rows)  # those are of differential privacy
    (server,) = layer.ledger(context_of(server=True))
    assert (server.guarantee, server.assumption) == ("not covered", "none")
    assert layer.ledger(context_of(wire=False, clients=(1,))) == ()
    seeded = layer.ledger(context_of(secrets=True))
    assert all(row.assumption == "none" and "protect nothing" in row.note for row in seeded)


def test_only_a_one_time_pad_is_information_theoretic(context: LedgerContext) -> None:
    found = {name: secrecy(layer, context).assumption for name, layer in zip(NAMES, LINKS, strict=True)}
    assert found == {
        "otp-link-1048576": "information-theoretic",
        "qkd-aes-link-1048576": "computational",
        "hybrid-link-1048576": "computational",
        "qkd-link-1048576": "information-theoretic",
        "qkd-link-1024": "computational",
    }
    assert "although the keys are not" in secrecy(QkdAesLink(), context).mechanism
    assert "the policy chose one-time pad" in secrecy(LINKS[3], context).statement
    assert "the policy chose AES-256-GCM: a one-time pad would take" in secrecy(LINKS[4], context).statement


def test_the_ledger_of_a_run_states_what_the_run_used(make_pipeline: Maker) -> None:
    """The policy decides alike when it opens and when it accounts."""
    pipeline = make_pipeline(rounds=2)
    link = QkdPolicyLink(key_bits=64)
    pad = link.plan(stack(link).carried(pipeline.workload)[link]).pad_bits
    for budget, assumption, overhead in ((pad, "information-theoretic", 0), (pad - 64, "computational", 1)):
        layer = QkdPolicyLink(key_bits=64, budget_bits=budget)
        result = one(pipeline, layer)
        assert result.outcome == "completed"
        (row,) = [row for row in result.ledger(WIRE) if row.guarantee == "secrecy"]
        assert row.assumption == assumption
        bits = 8 * result.costs["network_bytes"]
        assert (result.costs["qkd_key_bits"] < bits / 4) == bool(overhead)


def test_rows_stand_beside_those_of_differential_privacy(make_pipeline: Maker) -> None:
    from qflsec.defenses.privacy import DpSgd

    dp = DpSgd(clip_norm=1.0, noise_multiplier=1.0)
    alone, both = one(make_pipeline(), dp), one(make_pipeline(), dp, OneTimePadLink())
    for threat in (WIRE, honest_but_curious_server()):
        dp_rows = [row for row in both.ledger(threat) if row.guarantee == "differential privacy"]
        if threat.server:
            assert dp_rows == [row for row in alone.ledger(threat) if row.guarantee == "differential privacy"]
            assert dp_rows
        qkd_rows = [row for row in both.ledger(threat) if row.layer == "otp-link"]
        assert qkd_rows
        assert all(row.epsilon is None for row in qkd_rows)


def test_layers_come_from_configurations() -> None:
    for link in LINKS:
        assert layer_from_config(link.to_config()) == link


def test_no_view_holds_a_key(make_pipeline: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every secret of 32 bytes or more that anybody drew is in no message, whoever looks."""
    from qflsec.base import OsSecrets

    drawn: list[bytes] = []
    draw = OsSecrets.draw

    def noted(source: OsSecrets, n_bytes: int) -> bytes:
        drawn.append(draw(source, n_bytes))
        return drawn[-1]

    monkeypatch.setattr(OsSecrets, "draw", noted)
    for layer in LINKS[:3]:
        drawn.clear()
        result = one(make_pipeline(), layer)
        secrets = [value for value in drawn if len(value) >= 32]
        assert len(secrets) >= 10
        for threat in (WIRE, honest_but_curious_server(), corrupted_clients(n=2, active=False)):
            items = result.view(threat).items
            memory = b"\0".join(
                item.value if isinstance(item.value, bytes) else np.asarray(item.value).tobytes()
                for item in items
            )
            assert not any(secret in memory for secret in secrets)

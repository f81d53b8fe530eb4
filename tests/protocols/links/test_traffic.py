"""What layers say that they send, against what runs send; and what links make of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, ClassVar

import pytest

from qflsec.base import IncompatibleStack, Secrets, find, names
from qflsec.defenses.backdoor import CircuitAttestation
from qflsec.federation import (
    AggregationLayer,
    Identity,
    LinkLayer,
    PartyState,
    Pipeline,
    RunSpec,
    Setup,
    Stack,
    layer_from_config,
    run_batch,
)
from qflsec.protocols.links import (
    AesGcmLink,
    HybridLink,
    OneTimePadLink,
    QkdAesLink,
    QkdLink,
    QkdPolicyLink,
)
from qflsec.protocols.secagg import Masked, SecAgg, scheme
from qflsec.protocols.secagg.groups.layer import ValidatedGroups
from qflsec.protocols.secagg.rounds.sizes import RoundSizes
from qflsec.protocols.validated import Validated
from qflsec.threat import SERVER, Party, Traffic

Maker = Callable[..., Pipeline]
AGGREGATIONS = [name for name in names("layer") if issubclass(find("layer", name), AggregationLayer)]
VARIANTS: list[dict[str, Any]] = [
    *({"name": name} for name in AGGREGATIONS),
    {"name": "secagg", "agreement": "hybrid", "signature": "ml-dsa-65", "threshold": 3},
    {"name": "secagg", "agreement": "bb84", "bits": 64},
    {"name": "validated", "agreement": "ml-kem-768"},
    {"name": "he-ckks", "mode": "released", "releases": 3, "precision": 1e-2, "largest": 128.0},
    {"name": "he-masked", "agreement": "hybrid"},
]
TIGHT = 1.15
"""What is stated is at most so much above what the busiest link of an undisturbed run carries."""
TWO_BUSY_LINKS = 2.0
"""Where sums are released the key goes to all clients but the first, and sums to the first alone: one bound for both."""


@dataclass(frozen=True)
class Log(PartyState):
    """Whose end it is."""

    party: Party

    def key_names(self) -> frozenset[str]:
        return frozenset()


@dataclass(frozen=True, kw_only=True)
class Meter(LinkLayer):
    """A link that hides nothing and notes the size of every message, before its encoding."""

    card = AesGcmLink.card
    sent: ClassVar[list[tuple[Party, Party, int]]] = []

    def open(self, setup: Setup, identity: Identity, secrets: Secrets) -> PartyState:
        return Log(identity.party)

    def key_name(self, sender: Party, receiver: Party) -> str:
        return "no key"

    def seal(self, state: PartyState, receiver: Party, payload: bytes, header: bytes) -> bytes:
        assert isinstance(state, Log)
        self.sent.append((state.party, receiver, len(payload) - 5))
        return payload

    def unseal(self, state: PartyState, sender: Party, blob: bytes, header: bytes) -> bytes:
        return blob


def small(make_pipeline: Maker, name: str) -> Pipeline:
    n = 9 if name == "validated-groups" else 4
    return make_pipeline(n_clients=n, rounds=2, members=4 * n, test=4, layers=1)


def labelled(variant: Mapping[str, Any]) -> str:
    return ", ".join(str(value) for value in variant.values()) or "nothing"


def carried(pipeline: Pipeline, *layers: Any) -> tuple[Traffic, dict[Party, tuple[list[int], list[int]]]]:
    """What the layers state, and for each client the sizes of what went up and down."""
    Meter.sent.clear()
    stack = Stack.from_layers("metered", [*layers, Meter()])
    result = run_batch(pipeline, stack, [RunSpec(seed=0)])[0]
    assert result.outcome == "completed"
    stated = stack.carried(pipeline.workload)[stack.links[-1]]
    assert stated is not None
    found: dict[Party, tuple[list[int], list[int]]] = {}
    for sender, receiver, size in Meter.sent:
        who = receiver if sender == SERVER else sender
        found.setdefault(who, ([], []))[sender == SERVER].append(size)
    return stated, found


@pytest.mark.parametrize("variant", [{}, *VARIANTS], ids=labelled)
def test_what_a_layer_states_bounds_what_a_run_sends_tightly(
    make_pipeline: Maker, variant: dict[str, Any]
) -> None:
    """Message by message on every link; and of the busiest link in each direction within 15 %."""
    layers = [layer_from_config(variant)] if variant else []
    states_bounds_sends(small(make_pipeline, variant.get("name", "")), variant, *layers)


@pytest.mark.parametrize("variant", [{}, {"name": "masked"}, {"name": "he-threshold"}], ids=labelled)
def test_signed_statements_come_beside_what_any_layer_sends(
    make_pipeline: Maker, variant: dict[str, Any]
) -> None:
    """One before each round's own messages, the set-up's too, so that links of quantum keys can plan for them."""
    layers = [layer_from_config(variant)] if variant else []
    stated = states_bounds_sends(
        small(make_pipeline, variant.get("name", "")), variant, CircuitAttestation(), *layers
    )
    assert stated.phases()["up", "statement"] == (2, 2 * 96)
    assert stated.up[0].phase == "statement"


def states_bounds_sends(pipeline: Pipeline, variant: Mapping[str, Any], *layers: Any) -> Traffic:
    stated, found = carried(pipeline, *layers)
    for place, direction in enumerate(("up", "down")):
        planned = stated.of(direction)  # type: ignore[arg-type]
        for sizes in (both[place] for both in found.values()):
            left = list(planned)
            for size in sizes:  # a message that a client does not send leaves its place empty
                while left and left[0] < size:
                    left.pop(0)
                assert left, f"{direction}: {size} bytes are not in {planned}"
                left.pop(0)
        busiest = max(sum(both[place]) for both in found.values())
        assert busiest <= sum(planned) <= (TWO_BUSY_LINKS if variant.get("mode") else TIGHT) * busiest
    return stated


@pytest.mark.parametrize("agreement", ["x25519", "hybrid", "bb84"])
def test_no_drop_out_makes_clients_open_more_than_is_stated(agreement: str) -> None:
    """For three to six clients, every threshold and every set of survivors that it allows."""
    for n in range(3, 7):
        for t in range(n // 2 + 1, n + 1):
            sizes = RoundSizes(n=n, threshold=t, vector_bytes=0, scheme=scheme(agreement), signature_bytes=64)
            stated = {bulk.phase: bulk.n_bytes for bulk in sizes.traffic(model=0).up}["opened shares"]
            most = max(
                len(scheme(agreement).wanted(range(n), alive))
                for k in range(t, n + 1)
                for alive in combinations(range(n), k)
            )
            assert stated == 5 + 37 * most + 64


def test_a_layer_that_does_not_say_is_refused_by_links_that_must_know(make_pipeline: Maker) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Silent(Masked):
        def traffic(self, load: Any, inner: Traffic) -> None:
            return None

    pipeline = make_pipeline()
    with pytest.raises(IncompatibleStack, match="'otp-link' cannot tell how much key a run takes"):
        Stack.from_layers("s", [Silent(), OneTimePadLink()]).check(pipeline)
    Stack.from_layers("s", [Silent(), AesGcmLink()]).check(pipeline)


def test_the_plan_says_how_much_key_a_run_takes(make_pipeline: Maker) -> None:
    link = OneTimePadLink(key_bits=64)
    (said,) = Stack.from_layers("s", [Masked(), link]).remarks(make_pipeline(rounds=3))
    # up: 3 x (5 + 8 x 13 + 16) + 16 bytes
    assert (
        said
        == "'otp-link': each direction of a link takes up to 3,136 bits of key of the 1,048,576 that it has"
    )
    (chosen,) = Stack.from_layers("s", [QkdPolicyLink(budget_bits=1000)]).remarks(make_pipeline(rounds=3))
    assert chosen.startswith("'qkd-link': AES-256-GCM: a one-time pad would take")


@pytest.mark.parametrize(
    ("layer", "n", "silent"),
    [
        (SecAgg(), 3, False),
        (SecAgg(), 4, True),
        (SecAgg(threshold=4), 4, False),
        (Validated(), 3, False),
        (ValidatedGroups(), 9, False),
        (ValidatedGroups(), 12, True),
    ],
)
def test_a_threshold_that_survives_no_drop_out_is_said_before_the_run(
    make_pipeline: Maker, layer: Any, n: int, silent: bool
) -> None:
    """Among three clients more than two thirds are all three; of four, three are enough."""
    remarks = Stack.from_layers("s", [layer]).remarks(make_pipeline(n_clients=n, members=4 * n))
    assert (remarks == ()) == silent
    if not silent:
        assert "survive no drop-out" in remarks[0]
        assert repr(layer.card.name) in remarks[0]


ENOUGH = 1 << 40
LINKS: list[QkdLink] = [
    OneTimePadLink(budget_bits=ENOUGH, key_bits=2048),
    QkdAesLink(budget_bits=ENOUGH, rekey_messages=3, rekey_bytes=70_000),
    HybridLink(budget_bits=ENOUGH, rekey_messages=2),
]


FEW = [{}, {"name": "secagg"}, {"name": "validated-groups"}, {"name": "he-bfv"}]
"""For links whose key does not grow with the bytes."""


@pytest.mark.parametrize(
    ("link", "variant"),
    [
        (link, variant)
        for link in LINKS
        for variant in ([{}, *VARIANTS] if isinstance(link, OneTimePadLink) else FEW)
    ],
    ids=lambda value: value.card.name if isinstance(value, QkdLink) else labelled(value),
)
def test_a_run_with_exactly_the_planned_key_completes_and_with_less_is_refused_beforehand(
    make_pipeline: Maker, link: QkdLink, variant: dict[str, Any]
) -> None:
    layers = [layer_from_config(variant)] if variant else []
    pipeline = small(make_pipeline, variant.get("name", ""))
    traffic = Stack.from_layers("s", [*layers, link]).carried(pipeline.workload)[link]
    needed = link.planned_bits(traffic)
    assert needed % link.key_bits == 0
    exact, less = replace(link, budget_bits=needed), replace(link, budget_bits=needed - 1)
    result = run_batch(pipeline, Stack.from_layers("s", [*layers, exact]), [RunSpec(seed=0)])[0]
    assert result.outcome == "completed"
    with pytest.raises(IncompatibleStack, match=f"takes up to {needed:,} bits; got budget_bits={needed - 1}"):
        run_batch(pipeline, Stack.from_layers("s", [*layers, less]), [RunSpec(seed=0)])

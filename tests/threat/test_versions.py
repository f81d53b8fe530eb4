"""The graph of versions, and what an observer concludes from it, against sums worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.base import QflsecError
from qflsec.threat import SERVER, Item, LaneFacts, Origin, Trained, Versions, client
from qflsec.threat.closure import close

P = 6


def part(index: int, base: str, weight: float = 1.0) -> Trained:
    return Trained(client=index, base=base, weight=weight)


def vector(seed: int) -> torch.Tensor:
    return torch.randn(P, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def model(version: str, value: torch.Tensor, round_index: int = 0) -> Item:
    return item("model", value, round_index=round_index, version=version)


def item(kind: str, value: torch.Tensor, *, round_index: int = 0, **more: object) -> Item:
    fields = {
        "form": "plain",
        "weight": None,
        "about": frozenset(),
        "sender": SERVER,
        "receiver": client(0),
        **more,
    }
    return Item(round=round_index, kind=kind, value=value, **fields)  # type: ignore[arg-type]


def total(base: str, about: Sequence[int], updates: dict[int, torch.Tensor]) -> Item:
    """The mean of these clients' updates, all of weight 1."""
    value = torch.stack([updates[i] for i in about]).mean(dim=0)
    return item("aggregate", value, about=frozenset(about), base=base, weight=float(len(about)))


def ring(n: int) -> tuple[LaneFacts, list[torch.Tensor], list[torch.Tensor]]:
    """A model that visits n clients in order: facts, models and updates."""
    facts = LaneFacts(counts=(1.0,) * n)
    facts.versions.add("0", Origin(round=-1))
    models, updates = [vector(99)], [vector(i) for i in range(n)]
    for i in range(n):
        origin = Origin(round=0, bases={str(i): 1.0}, trained=(part(i, str(i)),))
        facts.versions.add(str(i + 1), origin)
        models.append(models[-1] + updates[i])
    return facts, models, updates


def test_a_ring_read_in_full_gives_every_single_update_with_its_own_base() -> None:
    """The wire of a ring reads n updates with k = 1; a rule that takes rounds for steps would say k = n."""
    facts, models, updates = ring(4)
    view = close([model(str(i), value) for i, value in enumerate(models)], facts, frozenset())
    found = {i.about: i for i in view if i.derived}
    assert set(found) == {frozenset({c}) for c in range(4)}
    for c in range(4):
        single = found[frozenset({c})]
        assert (single.kind, single.k, single.base) == ("update", 1, str(c))
        assert torch.allclose(single.vector, updates[c])


def test_a_neighbour_in_a_ring_reads_what_the_others_did_together_and_no_base_for_it() -> None:
    facts, models, updates = ring(4)
    view = close([model("1", models[1]), model("4", models[4])], facts, frozenset({0}))
    (path,) = [i for i in view if i.derived]
    assert (path.kind, path.about, path.k, path.base) == ("path", frozenset({1, 2, 3}), 3, None)
    assert torch.allclose(path.vector * 3, updates[1] + updates[2] + updates[3])


def test_two_neighbours_of_one_client_read_its_update() -> None:
    facts, models, updates = ring(4)
    view = close([model("1", models[1]), model("2", models[2])], facts, frozenset({0, 2}))
    (single,) = [i for i in view if i.derived]
    assert (single.about, single.k) == (frozenset({1}), 1)
    assert torch.allclose(single.vector, updates[1])


def test_a_gap_between_models_is_a_path_over_both_rounds() -> None:
    facts = LaneFacts(counts=(1.0, 1.0, 1.0))
    facts.versions.add("0", Origin(round=-1))
    facts.versions.add("1", Origin(round=0, bases={"0": 1.0}, trained=(part(0, "0"), part(1, "0"))))
    facts.versions.add("2", Origin(round=1, bases={"1": 1.0}, trained=(part(2, "1"),)))
    view = close([model("0", vector(0)), model("2", vector(2))], facts, frozenset())
    (path,) = [i for i in view if i.derived]
    assert (path.kind, path.about, path.k) == ("path", frozenset({0, 1, 2}), 3)


def test_a_mixture_of_models_needs_all_of_them() -> None:
    """A gossip step: half of each neighbour's trained model."""
    facts = LaneFacts(counts=(1.0, 1.0))
    for name in ("a0", "b0"):
        facts.versions.add(name, Origin(round=-1))
    mixed = Origin(round=0, bases={"a0": 0.5, "b0": 0.5}, trained=(part(0, "a0"), part(1, "b0")))
    facts.versions.add("a1", mixed)
    a0, b0, u, w = vector(0), vector(1), vector(2), vector(3)
    a1 = model("a1", (a0 + b0 + u + w) / 2)
    assert not [i for i in close([model("a0", a0), a1], facts, frozenset()) if i.derived]
    (mean,) = [i for i in close([model("a0", a0), model("b0", b0), a1], facts, frozenset({0})) if i.derived]
    assert torch.allclose(mean.vector, (u + w) / 2)
    assert (mean.kind, mean.base, mean.k) == ("aggregate", None, 1)


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_steps_below_a_mixture_count_by_their_share(share: float) -> None:
    """Two neighbours train, then mix without a step: what lies between is the mean of their updates by share."""
    facts = LaneFacts(counts=(1.0, 1.0))
    for index, name in enumerate("ab"):
        facts.versions.add(f"{name}0", Origin(round=-1))
        trained = Origin(round=0, bases={f"{name}0": 1.0}, trained=(part(index, f"{name}0"),), rate=2.0)
        facts.versions.add(f"{name}1", trained)
    facts.versions.add("c", Origin(round=0, bases={"a1": share, "b1": 1 - share}, rate=0.0))
    a0, b0, u, w = vector(0), vector(1), vector(2), vector(3)
    c = share * (a0 + 2 * u) + (1 - share) * (b0 + 2 * w)
    (path,) = [
        i for i in close([model("a0", a0), model("b0", b0), model("c", c)], facts, frozenset()) if i.derived
    ]
    assert (path.kind, path.about, path.k) == ("path", frozenset({0, 1}), 2)
    assert torch.allclose(path.vector, share * u + (1 - share) * w)


def test_a_model_whose_place_is_unknown_is_refused() -> None:
    facts, models, _ = ring(2)
    with pytest.raises(QflsecError, match="names a version"):
        close([model("elsewhere", models[0])], facts, frozenset())
    with pytest.raises(QflsecError, match="without its version"):
        close([item("model", models[0])], facts, frozenset())
    with pytest.raises(QflsecError, match="names a version"):
        close([item("update", models[0], about=frozenset({0}), base="elsewhere")], facts, frozenset())


def test_a_version_is_added_once_and_after_what_it_rests_on() -> None:
    versions = Versions()
    versions.add("0", Origin(round=-1))
    with pytest.raises(QflsecError, match="same version"):
        versions.add("0", Origin(round=0))
    with pytest.raises(QflsecError, match="not known"):
        versions.add("2", Origin(round=1, bases={"1": 1.0}))


def test_a_forged_model_gives_no_difference() -> None:
    """What a malicious server sends to one client leads to nothing and follows from nothing."""
    facts = LaneFacts(counts=(1.0, 1.0))
    facts.versions.add("0", Origin(round=-1))
    facts.versions.add("0 to client:0", Origin(round=0))
    parts = (part(0, "0 to client:0"), part(1, "0"))
    facts.versions.add("1", Origin(round=0, bases={"0": 1.0}, trained=parts))
    forged, after = model("0 to client:0", vector(0)), model("1", vector(1))
    assert not [i for i in close([forged, after], facts, frozenset()) if i.derived]


def test_what_a_coalition_knows_is_subtracted_from_a_sum_over_several_bases_and_not_across_bases() -> None:
    """A server that sends its own client another model still knows what that client sent."""
    updates = {i: vector(i) for i in range(3)}
    facts = LaneFacts(counts=(1.0,) * 3)
    for name in ("0", "0 to client:0"):
        facts.versions.add(name, Origin(round=-1))
    own = item("update", updates[0], about=frozenset({0}), base="0 to client:0", weight=1.0)
    mixed = replace(total("0", [0, 1, 2], updates), base=None)
    found = close([own, mixed], facts, frozenset({0}))
    (rest,) = [i for i in found if i.about == {1, 2}]
    assert (rest.kind, rest.k) == ("aggregate", 2)
    assert torch.allclose(rest.vector, (updates[1] + updates[2]) / 2)
    # a sum of updates that all started from another model than the one that is known holds another update
    elsewhere = close([own, total("0", [0, 1, 2], updates)], facts, frozenset())
    assert {i.about for i in elsewhere} == {frozenset({0}), frozenset({0, 1, 2})}
    assert [i.k for i in elsewhere if len(i.about) == 3] == [3]


def test_a_client_whose_update_is_known_hides_nobody() -> None:
    """k of a sum of four: one client is corrupted, another one's update was read."""
    updates = {i: vector(i) for i in range(4)}
    facts = LaneFacts(counts=(1.0,) * 4)
    facts.versions.add("0", Origin(round=-1))
    read = item("update", updates[1], about=frozenset({1}), base="0", weight=1.0)
    found = close([read, total("0", [0, 1, 2, 3], updates)], facts, frozenset({0}))
    assert {(tuple(sorted(i.about)), i.k) for i in found} == {((1,), 1), ((0, 1, 2, 3), 2), ((0, 2, 3), 2)}


def test_a_client_whose_update_follows_hides_nobody_either() -> None:
    """Of two sums the one less the other is client 4's update: in the larger one three are left, not four."""
    updates = {i: vector(i) for i in range(1, 5)}
    facts = LaneFacts(counts=(1.0,) * 5)
    facts.versions.add("0", Origin(round=-1))
    found = close([total("0", [1, 2, 3, 4], updates), total("0", [1, 2, 3], updates)], facts, frozenset())
    assert {(tuple(sorted(i.about)), i.k) for i in found} == {((1, 2, 3, 4), 3), ((1, 2, 3), 3), ((4,), 1)}
    (single,) = [i for i in found if i.about == {4}]
    assert torch.allclose(single.vector, updates[4])


def test_updates_of_other_rounds_are_not_subtracted() -> None:
    updates = {i: vector(i) for i in range(3)}
    facts = LaneFacts(counts=(1.0,) * 3)
    facts.versions.add("0", Origin(round=-1))
    known = item("update", vector(9), about=frozenset({0}), base="0", weight=1.0, round_index=1)
    found = close([known, total("0", [0, 1, 2], updates)], facts, frozenset())
    assert {i.about for i in found} == {frozenset({0}), frozenset({0, 1, 2})}
    assert [i.k for i in found if len(i.about) == 3] == [3]


def test_a_sum_that_counts_otherwise_than_the_examples_say_is_no_equation() -> None:
    """A client that states 5 examples in place of 1: what a subtraction would call its update is five times that."""
    updates = {i: vector(i) for i in range(3)}
    facts = LaneFacts(counts=(1.0,) * 3)
    facts.versions.add("0", Origin(round=-1))
    pair = total("0", [0, 1], updates)
    lied = item(
        "aggregate",
        (updates[0] + updates[1] + 5 * updates[2]) / 7,
        about=frozenset({0, 1, 2}),
        base="0",
        weight=7.0,
    )
    assert not [i for i in close([pair, lied], facts, frozenset()) if i.about == {2}]
    honest = total("0", [0, 1, 2], updates)
    (single,) = [i for i in close([pair, honest], facts, frozenset()) if i.about == {2}]
    assert torch.allclose(single.vector, updates[2]), "the control"


def test_an_edge_server_subtracts_its_own_group_from_the_whole() -> None:
    """Two groups under a tree: what one edge did not aggregate is the other edge's sum."""
    updates = {i: vector(i) for i in range(4)}
    facts = LaneFacts(counts=(1.0,) * 4)
    facts.versions.add("0", Origin(round=-1))
    facts.versions.add("1", Origin(round=0, bases={"0": 1.0}, trained=tuple(part(i, "0") for i in range(4))))
    whole = model("1", torch.stack(list(updates.values())).mean(dim=0))
    seen = [model("0", torch.zeros(P, dtype=torch.float64)), whole, total("0", [0, 1], updates)]
    view = close(seen, facts, frozenset())
    other = [i for i in view if i.about == {2, 3}]
    assert len(other) == 1
    assert (other[0].k, other[0].weight) == (2, 2.0)
    assert torch.allclose(other[0].vector, (updates[2] + updates[3]) / 2)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(data=st.data())
def test_elimination_finds_exactly_the_determined_clients(data: st.DataObject) -> None:
    """Against least squares: a client is determined if and only if its unit vector is in the row space."""
    n = data.draw(st.integers(2, 6))
    subsets = st.sets(st.integers(0, n - 1), min_size=2)
    sums = data.draw(st.lists(subsets, min_size=2, max_size=5, unique_by=lambda s: tuple(sorted(s))))
    updates = {i: vector(i) for i in range(n)}
    facts = LaneFacts(counts=(1.0,) * n)
    facts.versions.add("0", Origin(round=-1))
    view = close([total("0", sorted(s), updates) for s in sums], facts, frozenset())
    found = {next(iter(i.about)): i for i in view if len(i.about) == 1}
    rows = torch.tensor([[float(i in s) for i in range(n)] for s in sums], dtype=torch.float64)
    projector = torch.linalg.pinv(rows) @ rows
    determined = {i for i in range(n) if float(projector[i, i]) > 1 - 1e-9}
    assert set(found) == determined
    for index, single in found.items():
        assert torch.allclose(single.vector, updates[index], atol=1e-8)
    for derived in view:
        mean = torch.stack([updates[i] for i in sorted(derived.about)]).mean(dim=0)
        assert torch.allclose(derived.vector, mean, atol=1e-8)


def test_a_step_that_two_lines_of_descent_share_stands_in_a_path_once() -> None:
    """Of a model that is a mean of another and of what was trained from that one."""
    versions = Versions()
    versions.add("0", Origin(round=-1))
    for name, base, who in (("a", "0", 0), ("b", "a", 1)):
        part = Trained(client=who, base=base, weight=1.0)
        versions.add(name, Origin(round=who, bases={base: 1.0}, trained=(part,)))
    versions.add("c", Origin(round=1, bases={"a": 0.5, "b": 0.5}, rate=0.0))
    assert not versions.is_chain
    path = versions.path("c", {"0"})
    assert path is not None
    assert path.start == {"0": 1.0}
    assert [(origin.round, share) for origin, share in path.origins] == [(1, 1.0), (1, 0.5), (0, 1.0)]
    assert path.factor == 1.5

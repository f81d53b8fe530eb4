"""What the server hears, enumerated: over all ideal masks, equal sums give it equal distributions.

Three clients, a threshold of two, and every vector heard, that of a dropped client too (it came late). The
masks are added by the code that clients use. Rounds draw fresh masks, so their joint distribution is enumerated
where the ring is small enough, and is the product of the rounds' elsewhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytest

from qflsec.protocols.secagg.masks.expansion import add_masks

Codes = np.ndarray[Any, np.dtype[np.int64]]
Scheme = Literal["secagg", "no self mask", "both opened", "masks reused"]
PAIRS = [(0, 1), (0, 2), (1, 2)]
PATTERNS: list[int | None] = [None, 0, 1, 2]  # who is called dropped


def heard(
    ring: int, inputs: Sequence[int], dropped: int | None, masks: Sequence[Any], scheme: Scheme
) -> list[Any]:
    """The server's view of one round, one column for each thing that it hears."""
    pairs = dict(zip(PAIRS, masks[:3], strict=True))
    own = dict(enumerate(masks[3:]))
    if scheme == "no self mask":
        own = {i: np.zeros_like(mask) for i, mask in own.items()}
    columns = []
    for i in range(3):
        signed = [(1 if i == pair[0] else -1, mask) for pair, mask in pairs.items() if i in pair]
        words = np.full(len(masks[0]), inputs[i], dtype=np.uint32)
        columns.append(add_masks(words, [(1, own[i]), *signed]))
    columns += [own[i] for i in range(3) if i != dropped]
    columns += [mask for pair, mask in pairs.items() if dropped in pair]
    if scheme == "both opened" and dropped is not None:
        columns.append(own[dropped])
    return [column % ring for column in columns]


def distribution(
    ring: int, rounds: Sequence[tuple[Sequence[int], int | None]], scheme: Scheme = "secagg"
) -> tuple[Codes, Codes]:
    """The joint view of several rounds over all masks: the values that occur, and how often."""
    n_drawn = 6 if scheme == "masks reused" else 6 * len(rounds)
    drawn = [mask.reshape(-1) for mask in np.indices((ring,) * n_drawn, dtype=np.uint32)]
    columns = []
    for place, (inputs, dropped) in enumerate(rounds):
        masks = drawn if scheme == "masks reused" else drawn[6 * place : 6 * place + 6]
        columns += heard(ring, inputs, dropped, masks, scheme)
    codes = np.zeros(len(drawn[0]), dtype=np.int64)
    for column in columns:
        codes = codes * ring + column
    values, counts = np.unique(codes, return_counts=True)
    return values, counts


def same(one: tuple[Codes, Codes], other: tuple[Codes, Codes]) -> bool:
    return np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1])


def visible_sum(ring: int, inputs: Sequence[int], dropped: int | None) -> int:
    return sum(value for i, value in enumerate(inputs) if i != dropped) % ring


@pytest.mark.parametrize("dropped", PATTERNS)
def test_one_round_in_z8(dropped: int | None) -> None:
    """All 64 inputs with one sum, every mask: one distribution; another sum gives another."""
    inputs = [x for x in itertools.product(range(8), repeat=3) if visible_sum(8, x, dropped) == 5]
    assert len(inputs) == 64
    first = distribution(8, [(inputs[0], dropped)])
    assert first[1].sum() == 8**6
    for other in inputs[1::3]:
        assert same(first, distribution(8, [(other, dropped)]))
    moved = [inputs[0][i] + (i == (dropped == 0)) for i in range(3)]
    assert not same(first, distribution(8, [(moved, dropped)]))


@pytest.mark.parametrize("patterns", list(itertools.product(PATTERNS, repeat=2)))
def test_two_rounds_jointly_in_z2(patterns: tuple[int | None, int | None]) -> None:
    """All inputs of both rounds, all 2^12 masks: the joint view depends on the two sums only."""
    found: dict[tuple[int, int], tuple[Codes, Codes]] = {}
    every = list(itertools.product(range(2), repeat=3))
    for one, two in itertools.product(every, every):
        sums = (visible_sum(2, one, patterns[0]), visible_sum(2, two, patterns[1]))
        view = distribution(2, [(one, patterns[0]), (two, patterns[1])])
        assert same(found.setdefault(sums, view), view)
    kept = list(found.values())
    assert len(kept) == 4
    assert not any(same(a, b) for a, b in itertools.combinations(kept, 2)), "the sums are visible"


def joint_in_z8(
    inputs: Sequence[Sequence[int]], patterns: Sequence[int | None], scheme: Scheme
) -> tuple[Codes, Codes]:
    return distribution(8, list(zip(inputs, patterns, strict=True)), scheme)


def test_control_a_mask_used_in_two_rounds_fails_in_z8() -> None:
    """With the same masks twice the difference of two vectors is that of the inputs, although each round alone
    looks as it should.
    """
    inputs, others = [(1, 2, 3), (0, 0, 4)], [(1, 2, 3), (4, 0, 0)]
    patterns = (None, 2)
    assert visible_sum(8, inputs[1], 2) != visible_sum(8, others[1], 2)
    others = [(1, 2, 3), (0, 0, 7)]  # the late vector of the dropped client alone differs: the sums are equal
    for place in range(2):
        alone = [distribution(8, [(x[place], patterns[place])]) for x in (inputs, others)]
        assert same(*alone)
    assert not same(
        joint_in_z8(inputs, patterns, "masks reused"), joint_in_z8(others, patterns, "masks reused")
    )


@pytest.mark.parametrize("scheme", ["no self mask", "both opened"])
def test_control_a_late_vector_is_read_in_z8(scheme: Scheme) -> None:
    one, other = [((1, 2, 3), 2)], [((1, 2, 6), 2)]
    assert same(distribution(8, one), distribution(8, other))
    assert not same(distribution(8, one, scheme), distribution(8, other, scheme))


@pytest.mark.parametrize("scheme", ["no self mask", "both opened", "masks reused"])
def test_controls_fail_jointly_in_z2(scheme: Scheme) -> None:
    every = list(itertools.product(range(2), repeat=3))
    broken = []
    for patterns in itertools.product(PATTERNS, repeat=2):
        found: dict[tuple[int, int], tuple[Codes, Codes]] = {}
        views = []
        for one, two in itertools.product(every, every):
            sums = (visible_sum(2, one, patterns[0]), visible_sum(2, two, patterns[1]))
            view = distribution(2, [(one, patterns[0]), (two, patterns[1])], scheme)
            views.append(same(found.setdefault(sums, view), view))
        broken.append(not all(views))
    assert any(broken)

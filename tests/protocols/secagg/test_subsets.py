"""Every surviving subset of four clients, at every stage, under every key agreement: the exact sum, or nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qflsec.base import ProtocolAbort
from qflsec.protocols.secagg.messages import body_of
from qflsec.protocols.secagg.rounds.records import unpack_reveal

Make = Callable[..., Any]
STAGES = ("advertise", "share", "mask", "agree", "reveal")
AGREEMENTS = ("x25519", "ml-kem-768", "hybrid", "bb84")
N, THRESHOLD = 4, 3


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("agreement", AGREEMENTS)
def test_every_surviving_subset(aggregation: Make, agreement: str, stage: str) -> None:
    run = aggregation(N, agreement=agreement)
    subsets = [s for size in range(N + 1) for s in itertools.combinations(range(N), size)]
    for round_index, alive in enumerate(subsets):
        vectors = run.vectors(round_index)
        drops = {i: stage for i in range(N) if i not in alive}
        run.heard.clear()
        if len(alive) >= THRESHOLD:
            found = run.run(round_index=round_index, vectors=vectors, drops=drops, threshold=THRESHOLD)
            there = range(N) if stage in {"agree", "reveal"} else alive
            assert found.tolist() == np.sum([vectors[i] for i in there], axis=0, dtype=np.uint32).tolist()
            continue
        with pytest.raises(ProtocolAbort, match="too few"):
            run.run(round_index=round_index, vectors=vectors, drops=drops, threshold=THRESHOLD)
        opened = [unpack_reveal(body_of(m, 64)) for (name, _), m in run.heard.items() if name == "reveal"]
        assert len(opened) < THRESHOLD, "no secret can be put together"
        assert not opened or stage == "reveal", "shares are opened in the last stage only"


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n=st.integers(3, 8),
    size=st.integers(1, 70),
    bits=st.sampled_from([32, 64]),
    agreement=st.sampled_from(AGREEMENTS),
    data=st.data(),
)
def test_values_at_the_edges_of_the_ring(
    aggregation: Make, n: int, size: int, bits: int, agreement: str, data: Any
) -> None:
    """Words at and beside the largest share of a client, zero and their negatives: the sum is exact, wraps or not."""
    dtype = np.uint32 if bits == 32 else np.uint64
    share = ((1 << (bits - 1)) - 1) // n
    edges = [0, 1, share, share - 1, -share, -1, (1 << (bits - 1)) - 1, -(1 << (bits - 1))]
    drawn = st.lists(st.sampled_from(edges), min_size=size, max_size=size)
    vectors = {i: np.array([v % (1 << bits) for v in data.draw(drawn)], dtype=dtype) for i in range(n)}
    run = aggregation(n, size=size, bits=bits, agreement=agreement)
    assert (
        run.run(vectors=vectors).tolist()
        == np.sum([vectors[i] for i in range(n)], axis=0, dtype=dtype).tolist()
    )

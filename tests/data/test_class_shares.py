"""Splits in which classes are as frequent as asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.base import ConfigError, DataError
from qflsec.data import DataSpec, load
from qflsec.data.splits import split

SMALL = {"name": "breast-cancer", "members": 40, "nonmembers": 10, "auxiliary": 10, "test": 60}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.05, 0.5), st.integers(1, 60), st.integers(0, 60))
def test_every_split_has_the_shares_to_within_a_record(
    seed: int, rare: float, members: int, test: int
) -> None:
    labels = np.repeat(np.arange(3), 100)
    shares = (rare, 0.4, 0.6 - rare)
    spec = DataSpec(**{**SMALL, "members": members, "test": test}, class_shares=shares)  # type: ignore[arg-type]
    parts = split(labels, spec, seed)
    rows = [parts.member, parts.nonmember, parts.auxiliary, parts.test]
    assert [len(part) for part in rows] == [members, 10, 10, test]
    for part in rows:
        counts = np.bincount(labels[part], minlength=3)
        assert np.abs(counts - np.array(shares) * len(part)).max() <= 1.0
    assert len(np.unique(np.concatenate(rows))) == sum(map(len, rows))


def test_what_is_rare_is_rare_and_the_default_is_no_part_of_an_id() -> None:
    found = load(DataSpec(**SMALL, class_shares=[0.1, 0.9]), 3)  # type: ignore[arg-type]
    assert found.labels[found.test_idx].tolist().count(0) == 6
    assert found.labels[found.member_idx].tolist().count(0) == 4
    assert "class_shares" not in DataSpec(**SMALL).to_config()  # type: ignore[arg-type]


def test_shares_that_are_none() -> None:
    for wrong in ((0.5, 0.6), (1.0,), (0.0, 1.0), ("a", "b")):
        with pytest.raises(ConfigError, match="not shares"):
            DataSpec(**SMALL, class_shares=wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="exclude each other"):
        DataSpec(**SMALL, class_shares=(0.5, 0.5), balanced=True)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="not one of class_shares"):
        load(DataSpec(**SMALL, class_shares=(0.2, 0.3, 0.5)), 0)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="class_shares needs them"):
        load(DataSpec(**{**SMALL, "members": 300}, class_shares=(0.9, 0.1)), 0)  # type: ignore[arg-type]

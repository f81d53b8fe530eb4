"""Canonical JSON and digests: exact, and independent of the order of keys."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.lab.grid import ids


def test_the_documented_texts_and_hashes_are_exact() -> None:
    result = doctest.testmod(ids)
    assert result.attempted >= 2
    assert result.failed == 0


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text(max_size=4), json_values, max_size=4))
def test_canonical_json_does_not_depend_on_the_order_of_keys(value: dict[str, object]) -> None:
    assert ids.canonical(value) == ids.canonical(dict(reversed(list(value.items()))))


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        ids.canonical({"x": float("nan")})

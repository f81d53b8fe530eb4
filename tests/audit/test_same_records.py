"""Records are the same by value, whatever types they are kept in, and in whatever order the arrays come."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.audit import Bench
from qflsec.audit.adapters.records import _split
from qflsec.audit.check import NotApplicable
from qflsec.audit.claim import claim_from_config
from qflsec.audit.collect import parts_of
from qflsec.audit.parts import Data
from qflsec.audit.same_records import copies, held_in
from qflsec.base import DataError, find

X = np.random.default_rng(0).normal(size=(40, 3))
Y = (X[:, 0] > 0).astype(int)
ONE_HOT = np.eye(2)[Y]


def judged(data: Data) -> str:
    return claim_from_config({"kind": "disjoint"}).verdict([data], Bench()).judgement


def made(*clients: np.ndarray, test: np.ndarray) -> Data:
    pairs = tuple((one, np.zeros(len(one))) for one in clients)
    return Data(name="data", clients=pairs, test=(test, np.zeros(len(test))))


@settings(max_examples=60, deadline=None)
@given(
    first=st.sampled_from(["<f2", "<f4", "<f8", ">f8", "g", "c8"]),
    second=st.sampled_from(["<f2", "<f4", "<f8", ">f4", "c16"]),
    seed=st.integers(0, 1000),
)
def test_types_change_no_verdict(first: str, second: str, seed: int) -> None:
    # values of 11 bits, so that every type holds the same records
    x = np.random.default_rng(seed).normal(size=(30, 4)).astype(np.float16).astype(float)
    x[3, 0], x[4, 1] = -0.0, np.nan
    assert judged(made(x[:20].astype(first), test=x[20:].astype(second))) == "proved by check"
    assert judged(made(x[:20].astype(first), test=x[19:].astype(second))) == "refuted"
    assert held_in(x[2:6].astype(second), [x[:4].astype(first)]).tolist() == [True, True, False, False]
    assert sorted(map(len, copies([x[:6].astype(first), x[3:9].astype(second)]))) == [1] * 6 + [2] * 3


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_a_rounded_record_is_the_record(kind: type) -> None:
    assert held_in(X.astype(kind), [X]).all()
    assert held_in(X, [X.astype(kind)]).all()
    assert judged(made(X.astype(kind), test=X[:5])) == "refuted"
    assert judged(made(X[:20], X[19:30].astype(kind), test=X[30:])) == "refuted"


def test_rounded_and_widened_again() -> None:
    assert held_in(X.astype(np.float32).astype(float), [X]).all()


def test_one_precision_is_not_rounded() -> None:
    near = X * (1 + 1e-12)
    assert not held_in(near, [X]).any()
    assert judged(made(X, test=near)) == "proved by check"
    # one client of 32 bits does not make equals of others of 64
    assert sorted(map(len, copies([X[:5], near[:5], X[5:9].astype(np.float32)]))) == [1] * 14
    assert sorted(map(len, copies([X[:5], near[:5], X[:5].astype(np.float32)]))) == [3] * 5


def test_whole_numbers_are_exact() -> None:
    big = np.array([[2**53], [2**53 + 1], [-1]])
    assert held_in(big, [big[:1]]).tolist() == [True, False, False]
    assert not held_in(np.array([[2**64 - 1]], dtype=np.uint64), [big]).any()
    pixels = np.random.default_rng(1).integers(0, 255, (30, 8)).astype(np.uint8)
    for kind in (np.int64, np.float16, np.float32, np.float64):
        assert held_in(pixels[10:20].astype(kind), [pixels[:15]]).tolist() == [True] * 5 + [False] * 5
    assert held_in(np.array([[True]]), [np.array([[1.0]])]).all()


def test_views_zeros_missing_values_and_words() -> None:
    wide = np.repeat(X, 2, axis=1)
    assert held_in(wide[:, ::2], [np.asfortranarray(X)]).all()
    assert held_in(np.array([[-0.0, np.nan]]), [np.array([[0.0, -np.nan]], dtype=np.float32)]).all()
    assert not held_in(np.array([[np.nan, 1.0]]), [np.array([[1.0, np.nan]])]).any()
    assert held_in(np.array([["a", "b"]]), [np.array([["a", "b"], ["long", "b"]])]).all()
    assert not held_in(np.array([["1"]]), [np.array([[1]])]).any()


def test_what_cannot_be_compared() -> None:
    with pytest.raises(NotApplicable, match="2 features here and 3 there"):
        held_in(X[:, :2], [X])
    assert judged(made(X, test=X[:, :2])) == "not tested"
    with pytest.raises(NotApplicable, match="datetime64"):
        held_in(np.zeros((2, 3), dtype="datetime64[s]"), [X])


def test_nothing_is_not_proved_disjoint() -> None:
    assert judged(made(X[:0], test=X)) == "not tested"
    assert judged(made(X, test=X[:0])) == "not tested"
    for data in (made(X[:0], test=X), made(X, test=X[:0])):
        with pytest.raises(NotApplicable):
            list(find("check", "test-records-in-training")().run(data, Bench()))
    # two copies are found, evaluation or not
    assert judged(made(X, X, test=X[:0])) == "refuted"


def test_a_client_without_records_in_any_shape() -> None:
    data = made(np.asarray([]), X[:20], X[:0].astype(np.float32), test=X[20:])
    assert data.train[0].shape == (20, 3)
    assert judged(data) == "proved by check"
    assert list(find("check", "empty-clients")().run(data, Bench()))
    assert not list(find("check", "test-records-in-training")().run(data, Bench()))
    assert made(X[:0], X[:0], test=X).train[0].shape == (0, 3)


def test_tensors_and_arrays(tmp_path: Path) -> None:
    (tmp_path / "pipe.py").write_text(
        "import numpy as np, torch\nX = np.random.default_rng(0).normal(size=(20, 3))\nY = np.arange(20) % 2\n"
        "def load_data(): return torch.tensor(X[:12], dtype=torch.float32), torch.tensor(Y[:12]), X[{cut}:], Y[{cut}:]\n"
        .replace("{cut}", "10")
    )  # fmt: skip
    (data,) = [one for one in parts_of(tmp_path, "pipe.py", given={}, wanted="")[0] if isinstance(one, Data)]
    assert judged(data) == "refuted"


LABELS = {
    "numbers": Y,
    "column": Y[:, None].astype(np.float32),
    "one-hot": ONE_HOT,
    "words": np.array(["no", "yes"])[Y],
}


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("cut", [20, 25])
def test_orders_of_four_arrays(kind: str, cut: int) -> None:
    """The documented order, and scikit-learn's, whatever labels look like."""
    labels = LABELS[kind]
    for order in ((0, 1, 2, 3), (0, 2, 1, 3)):
        four = (X[:cut], labels[:cut], X[cut:], labels[cut:])
        clients, test = _split(tuple(four[index] for index in order))
        assert test is not None
        for found, wanted in zip((*clients[0], *test), four, strict=True):
            assert np.array_equal(found, wanted)


def test_orders_where_a_record_has_the_shape_of_a_label() -> None:
    for x, y in ((X[:, :1], Y[:, None]), (X[:, 0], Y), (X[:, :2], ONE_HOT)):
        for order in ((0, 1, 2, 3), (0, 2, 1, 3)):
            four = (x[:20], y[:20], x[20:], y[20:])
            clients, test = _split(tuple(four[index] for index in order))
            assert test is not None
            assert np.array_equal(clients[0][1], y[:20])
            assert np.array_equal(test[0], x[20:])


def test_four_arrays_that_are_in_no_order() -> None:
    with pytest.raises(
        DataError, match=r"in which order.*got .*expected \(x, y, x_test, y_test\).*return \(\(x, y\)"
    ):
        _split((Y, Y, Y, Y))
    with pytest.raises(DataError, match="do not belong together"):
        _split((X[:10], Y[:9], X[10:], Y[10:]))
    with pytest.raises(DataError, match="in which order"):
        _split((X[:20], X[:20, :2], X[20:, :1], Y[20:]))
    with pytest.raises(DataError, match="single number"):
        _split((X, Y, X, np.asarray(1)))

"""What is said of odd data, and that nothing is said of data that are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qflsec.data import DataSpec, load

N = 100
SIZES = {"members": 30, "nonmembers": 20, "auxiliary": 30, "test": 20}
WIDE = {"preprocessing": "fixed-range", "reduction": "none", "ranges": ((-9.0, 9.0),) * 2}


def remarks(folder: Path, extra: dict[str, Any], /, **changes: Any) -> tuple[str, ...]:
    """What is said of a table with two plain columns and some more, and a column "y" of two classes."""
    generator = np.random.default_rng(7)
    y = generator.integers(0, 2, size=N)
    table = {"a": generator.normal(size=N), "b": generator.normal(size=N), "y": y}
    table |= {name: values(y, generator) if callable(values) else values for name, values in extra.items()}
    rows = [",".join(map(str, row)) for row in zip(*table.values(), strict=True)]
    path = folder / "t.csv"
    path.write_text("\n".join([",".join(table), *rows]) + "\n")
    fields = {"columns": None, **WIDE, **SIZES, **changes}
    names = fields["columns"] or [name for name in table if name not in {"y", fields.get("person_column")}]
    fields["n_features"] = len(names)
    if fields["preprocessing"] == "fixed-range":
        fields["ranges"] = fields["ranges"][:1] * len(names)
    return load(DataSpec(name="csv", path=str(path), label_column="y", **fields), 0).remarks


def test_nothing_is_said_of_plain_data_or_of_bundled_ones(tmp_path: Path) -> None:
    assert remarks(tmp_path, {}) == ()
    assert (
        load(
            DataSpec(name="iris", classes=(0, 1), members=20, nonmembers=10, auxiliary=10, test=10), 0
        ).remarks
        == ()
    )


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        (range(1, N + 1), 'a running number is no feature, and tells who a record is: c; drop = ["c"]'),
        (lambda _y, g: g.permutation(N) + 500, "a running number is no feature"),
        (lambda _y, g: np.cumsum(g.integers(1, 9, size=N)), "a running number is no feature"),
        ([3.5] * N, 'the same value in every record tells nothing: c; drop = ["c"]'),
        (lambda y, _g: 7 - y, "each of these columns alone determines the class of every record: c"),
        (lambda y, g: 3 * y + g.random(N), "alone determines the class of every record: c"),
        (lambda y, g: y + 2 * g.integers(0, 9, size=N), "alone determines the class of every record: c"),
    ],
    ids=["counts", "counts, shuffled", "rises with gaps", "constant", "the label", "a threshold", "a table"],
)  # fmt: skip
def test_odd_columns(tmp_path: Path, column: Any, sentence: str) -> None:
    found = remarks(tmp_path, {"c": column}, ranges=((-2000.0, 2000.0),))
    assert len(found) == 1, found
    assert found[0].startswith(sentence) or sentence in found[0]
    assert remarks(tmp_path, {"c": column}, columns=("a", "b")) == (), (
        "a column that is no feature is not looked at"
    )


@pytest.mark.parametrize(
    "column",
    [
        lambda _y, g: g.integers(0, 1000, size=N),
        lambda _y, g: g.integers(0, 2, size=N),
        lambda y, g: np.where(np.arange(N) == 0, 1 - y, y) + 2 * g.integers(0, 9, size=N),
        lambda _y, g: np.sort(g.integers(0, 50, size=N)),
    ],
    ids=["whole numbers", "a coin", "the label but for one record", "sorted with ties"],
)
def test_columns_that_are_not_odd(tmp_path: Path, column: Any) -> None:
    assert remarks(tmp_path, {"c": column}, ranges=((-2000.0, 2000.0),)) == ()


def test_rare_classes(tmp_path: Path) -> None:
    y = ["x", "y"] * 48 + ["rare"] * 4
    (found,) = remarks(tmp_path, {"y": y})
    assert found.startswith("classes with fewer than 5 records: 'rare' (4); leave them out with classes")
    assert remarks(tmp_path, {"y": y}, classes=("x", "y"), members=26) == ()
    assert remarks(tmp_path, {"y": ["x", "y"] * 47 + ["x", *["rare"] * 5]}) == ()


def test_equal_records_and_contradictions(tmp_path: Path) -> None:
    a = np.arange(N) * 0.01
    a[90:95], a[95:] = a[:5], a[:5]
    y = np.arange(N) % 2
    (found,) = remarks(tmp_path, {"a": a, "b": a, "y": y}, members=20)
    assert (
        found
        == "10 records equal an earlier one in every column and are left out; 15 records equal one of another class"
    )


def test_a_clipped_share_and_equals_after_clipping(tmp_path: Path) -> None:
    clipped, equal = remarks(tmp_path, {}, ranges=((-0.01, 0.01),))
    assert "of all values lie outside the range that the scaler knows and are clipped to its ends" in clipped
    assert clipped.endswith("(fitted on no record): widen ranges")
    assert float(clipped.partition(" %")[0]) > 95
    assert "records equal one of another split" in equal
    clipped = remarks(tmp_path, {}, preprocessing="auxiliary", ranges=None, auxiliary=6)[0]
    assert clipped.endswith("(fitted on the 6 auxiliary records): raise auxiliary, or declare public ranges")
    assert remarks(tmp_path, {}, ranges=((-9.0, 9.0),)) == ()


def test_people_in_several_splits(tmp_path: Path) -> None:
    def some(per_person: int) -> tuple[str, ...]:
        return remarks(tmp_path, {"who": np.arange(N) // per_person}, person_column="who")

    assert some(1) == ()
    (found,) = some(4)
    assert found.endswith(
        "people have records in several splits: membership is told for records, not for people"
    )


def test_records_that_were_left_out_are_counted(tmp_path: Path) -> None:
    a = [*map(str, np.arange(N) * 0.01)]
    a[5] = a[50] = ""
    (found,) = remarks(tmp_path, {"a": a}, missing="drop", members=20)
    assert found == "2 records lack a value and are left out, as missing = 'drop' says"

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qflsec.base import DataError
from qflsec.data import DataSpec, RawData, load
from qflsec.data.sources import read_source


def read_csv(
    path: Path, label_column: str = "class", person_column: str | None = None, **changes: object
) -> RawData:
    return read_source(
        DataSpec(
            name="csv",
            path=str(path),
            label_column=label_column,
            person_column=person_column,
            **{"n_features": 1, "reduction": "first", **changes},
        )
    )


def _write(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def _table(n: int, kinds: tuple[str, ...] = ("no", "yes")) -> str:
    rows = [f"{i},{kinds[i % len(kinds)]},{i * i % 97}" for i in range(n)]
    return "\n".join(["a,class,b", *rows]) + "\n"


def test_columns_and_classes_are_read(tmp_path: Path) -> None:
    path = _write(tmp_path, "\ufeffa, class ,b\n1,yes,2.5\n\n-3e1, no ,4\n")
    table = read_csv(path, "class")
    np.testing.assert_array_equal(table.features, [[1.0, 2.5], [-30.0, 4.0]])
    assert table.labels.tolist() == [1, 0]
    assert table.feature_names == ("a", "b")
    assert table.class_names == ("no", "yes")
    assert table.persons is None


def test_a_column_of_people_is_read_and_is_no_feature(tmp_path: Path) -> None:
    path = _write(tmp_path, "a,who,class,b\n1,Bob,x,2\n3,Ann,y,4\n5, Bob ,y,6\n")
    table = read_csv(path, "class", "who")
    np.testing.assert_array_equal(table.features, [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert table.feature_names == ("a", "b")
    assert table.persons is not None
    assert table.persons.tolist() == [1, 0, 1]
    assert table.labels.tolist() == [0, 1, 1]
    with pytest.raises(DataError, match="no column for the person; got 'patient' in person_column"):
        read_csv(path, "class", "patient")
    with pytest.raises(DataError, match="no person at row 3"):
        read_csv(_write(tmp_path, "a,who,class\n1,1,x\n2,,y\n"), "class", "who")


def test_numeric_classes_are_ordered_as_numbers(tmp_path: Path) -> None:
    path = _write(tmp_path, "a,class\n1,10\n2,9\n3,-1\n")
    table = read_csv(path, "class")
    assert table.class_names == ("-1", "9", "10")
    assert table.labels.tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("text", "column", "sentence"),
    [
        ("a,b,class\n1,2,x\n1,y\n", "class", "ragged at row 3; got 2 cells; expected 3"),
        (
            "a,class\n1,x\n2,y\n",
            "label",
            "no column for the class; got 'label' in label_column; expected one of a, class",
        ),
        ("a,b,class\n1,2,x\n1,two,y\n", "class", "not a number at row 3, column 'b'; got 'two'"),
        ("a,b,class\n1,2,x\n1,,y\n", "class", "lacks a value at row 3, column 'b'; got ''"),
        ("a,class\n1,x\nnan,y\n", "class", "lacks a value at row 3, column 'a'; got 'nan'"),
        ("a,class\ninf,x\n2,y\n", "class", "not finite at row 2, column 'a'"),
        ("a,class\n1,x\n2,\n", "class", "no class at row 3"),
        ("a,class\n1,x\n2,x\n", "class", "single class; got 'x'"),
        ("a,class\n", "class", "holds no records"),
        ("", "class", "holds no records"),
        ("a,b\n", "b", "holds no records"),
        ("a,a,class\n1,2,x\n", "class", "one name per column"),
        ("class\nx\ny\n", "class", "no feature columns"),
        ('a,class\n1,"x\n', "class", "cannot be read as CSV"),
    ],
)
def test_mistakes_name_the_place_on_one_line(tmp_path: Path, text: str, column: str, sentence: str) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(DataError, match=sentence) as caught:
        read_csv(path, column)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_row_number_is_the_line_of_the_file_even_after_quoted_line_breaks(tmp_path: Path) -> None:
    path = _write(tmp_path, 'a,class\n1,"x\ny"\n\n2,z\nthree,z\n')
    with pytest.raises(DataError, match="row 6"):
        read_csv(path, "class")


def test_missing_unreadable_and_binary_files(tmp_path: Path) -> None:
    spec = DataSpec(name="csv", path=str(tmp_path / "none.csv"), label_column="class")
    with pytest.raises(DataError, match="no such data file"):
        load(spec, 1)
    with pytest.raises(DataError, match=r"a folder is no table; .*/\*\.csv"):
        read_csv(tmp_path)
    (tmp_path / "image.csv").write_bytes(b"a,class\n1,x\n\xff\xfe,x\n")
    with pytest.raises(DataError, match="not encoded as utf-8 at row 3; got the byte 0xff; set encoding"):
        read_csv(tmp_path / "image.csv")


def test_each_column_tells_its_first_mistake_at_once(tmp_path: Path) -> None:
    path = _write(tmp_path, "a,b,c,class,d\n1,x,,u,1\n2,y,3,v,inf\n3,4,5,,6\n")
    with pytest.raises(DataError) as caught:
        read_csv(path)
    lines = str(caught.value).splitlines()
    assert [re.findall(r"row (\d), column '(\w+)'", line) for line in lines] == [
        [("2", "b")],
        [("2", "c")],
        [("3", "d")],
        [("4", "class")],
    ]
    with pytest.raises(DataError) as caught:
        read_csv(path, label_column="clas", drop=("dd", "zzz"))
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "did you mean 'class'?" in lines[0]
    assert "mend drop" in lines[2]
    many = ",".join(f"c{index}" for index in range(9))
    path = _write(tmp_path, f"{many},class\n{'x,' * 9}u\n{'1,' * 9}v\n")
    with pytest.raises(DataError) as caught:
        read_csv(path)
    assert len(str(caught.value).splitlines()) == 5, "more are most likely one mistake"


def test_load_splits_and_scales_a_table(tmp_path: Path) -> None:
    path = _write(tmp_path, _table(60))
    sizes = {"members": 20, "nonmembers": 10, "auxiliary": 10, "test": 10}
    spec = DataSpec(name="csv", path=str(path), label_column="class", n_features=2, **sizes)
    data = load(spec, 3)
    assert data.features.shape == (60, 2)
    assert data.class_names == ("no", "yes")
    for balanced in (False, True):
        greedy = replace(spec, members=90, auxiliary=45, balanced=balanced)
        with pytest.raises(DataError, match="too few different records") as caught:
            load(greedy, 3)
        proposed = {name: int(size) for name, size in re.findall(r"(\w+) = (\d+)", str(caught.value))}
        assert set(proposed) == set(sizes)
        fitting = load(replace(greedy, **proposed), 3)
        assert 48 <= sum(proposed.values()) <= 60
        assert len(fitting.member_idx) == proposed["members"] > proposed["test"] > 0


def test_digest_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    sizes = {"members": 20, "nonmembers": 10, "auxiliary": 10, "test": 10, "n_features": 2}
    (tmp_path / "elsewhere").mkdir()
    here, there = _write(tmp_path, _table(60)), _write(tmp_path / "elsewhere", _table(60))
    specs = [DataSpec(name="csv", path=str(path), label_column="class", **sizes) for path in (here, there)]
    assert load(specs[0], 3).digest() == load(specs[1], 3).digest()
    there.write_text(_table(60).replace("59,", "59.5,"), encoding="utf-8")
    assert load(specs[0], 3).digest() != load(specs[1], 3).digest()


def test_fixed_range_needs_declared_ranges(tmp_path: Path) -> None:
    path = _write(tmp_path, _table(60))
    common = {"name": "csv", "path": str(path), "label_column": "class", "n_features": 2, "reduction": "none"}
    sizes = {"members": 20, "nonmembers": 10, "auxiliary": 10, "test": 10, "preprocessing": "fixed-range"}
    with pytest.raises(DataError, match="publishes no value ranges"):
        load(DataSpec(**common, **sizes), 1)
    with pytest.raises(DataError, match="one range for each column"):
        load(DataSpec(**common, **sizes, ranges=((0, 60),)), 1)
    data = load(DataSpec(**common, **sizes, ranges=((0, 60), (0, 97)), feature_range=(0.0, 1.0)), 1)
    assert data.features[30, 0].item() == pytest.approx(0.5)
    assert data.fitted_on == "no record: scaled by the ranges declared public in the specification"

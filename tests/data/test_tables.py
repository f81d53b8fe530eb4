"""The user's tables: what a column is, what is missing, and which file a record is in."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qflsec.base import ConfigError, DataError, MissingExtra
from qflsec.base.places import files_at, place_digest
from qflsec.data import DataSpec, PartitionSpec, RawData, load, partition
from qflsec.data.splits import proportional

Read = Callable[..., RawData]
GERMAN = "größe;klasse;gewicht\n1,5;gut;-3,25\n2;böse;4e1\n"


def put(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le"])
def test_separator_decimal_comma_and_encoding(tmp_path: Path, read: Read, encoding: str) -> None:
    path = put(tmp_path / "t.csv", GERMAN, encoding)
    stated = "utf-8" if encoding == "utf-8-sig" else encoding
    raw = read(path, label_column="klasse", separator=";", decimal=",", encoding=stated)
    np.testing.assert_array_equal(raw.features, [[1.5, -3.25], [2.0, 40.0]])
    assert raw.feature_names == ("größe", "gewicht")
    assert raw.class_names == ("böse", "gut")
    assert raw.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "changes", "words"),
    [
        ("a;class\n1;x\n2;y\n", {}, ["one column only", 'set separator = ";"']),
        ("a\tclass\n1\tx\n2\ty\n", {}, ['set separator = "\\t"']),
        ('a,class\n1,x\n"2,5",y\n', {}, ["row 3, column 'a'", "'2,5'", 'set decimal = ","']),
        ("a;class\n1,0;x\n1.500;y\n", {"separator": ";", "decimal": ","}, ["row 3", "'1.500'", 'set decimal = "."']),
        ("a;class\n1,0;x\n1.500,5;y\n", {"separator": ";", "decimal": ","}, ["row 3", "'1.500,5'", "not a number"]),
        ("a,class\n1,x\n2,y\n", {"columns": ("b",)}, ["lacks a column", "'b' in columns", "one of a, class"]),
        ("a,class\n1,x\n2,y\n", {"drop": ("id",)}, ["lacks a column", "'id' in drop"]),
        ("a,class\n1,x\n2,y\n", {"drop": ("a",)}, ["no feature columns"]),
        ("a,class\n1,x\n2,y\n", {"n_features": 2}, ["too few columns", "n_features=2", "at most 1"]),
        ("a,b,class\n1,2,x\n2,3,y\n", {"reduction": "none"}, ["another number of columns", "expected 2"]),
        ("a,class\n1,x\n2,\n", {"missing": "median"}, ["no class at row 3, column 'class'", 'missing = "drop"']),
        ("a,class\n1,x\n?,y\n", {}, ["lacks a value at row 3, column 'a'", 'missing = "drop"']),
        ("a,class\n1,x\nk.A.,y\n", {}, ["lacks a value at row 3, column 'a'"]),
        ("a,class\n1,x\n-,y\n", {}, ["lacks a value at row 3, column 'a'"]),
        ("a,class\n,x\n,y\n", {"missing": "drop"}, ["no record of", "is complete"]),
        ("a,class\n1,x\n1e999,y\n", {"missing": "drop"}, ["not finite at row 3"]),
        ("a,b,class\n1,u,x\n2,v,y\n", {}, ["not a number at row 2, column 'b'", 'drop = ["b"]']),
    ],
)  # fmt: skip
def test_mistakes_get_one_line(tmp_path: Path, read: Read, text: str, changes: Any, words: list[str]) -> None:
    path = put(tmp_path / "t.csv", text)
    with pytest.raises(DataError) as caught:
        read(path, **changes)
    assert "\n" not in str(caught.value)
    for word in [str(path), *words]:
        assert word in str(caught.value), str(caught.value)


def test_another_encoding_is_named(tmp_path: Path, read: Read) -> None:
    with pytest.raises(DataError, match=r'byte order mark of another encoding.*set encoding = "utf-16"'):
        read(put(tmp_path / "t.csv", GERMAN, "utf-16"), label_column="klasse", separator=";")
    text = "a,class\n" + "1,x\n" * 5000 + "2,böse\n"
    with pytest.raises(DataError, match="not encoded as utf-8 at row 5002; got the byte 0xf6"):
        read(put(tmp_path / "t.csv", text, "cp1252"))


def test_columns_are_chosen_in_their_order_and_others_need_not_be_numbers(tmp_path: Path, read: Read) -> None:
    path = put(tmp_path / "t.csv", "id,a,name,b,class\n7,1,Ann,2,x\n8,3,Bob,4,y\n")
    assert read(path, columns=("b", "a")).features.tolist() == [[2, 1], [4, 3]]
    raw = read(path, drop=("id", "name"))
    assert raw.feature_names == ("a", "b")
    assert raw.features.tolist() == [[1, 2], [3, 4]]


def test_incomplete_records_are_left_out(tmp_path: Path, read: Read) -> None:
    path = put(tmp_path / "t.csv", "a,b,who,class\n1,,p,x\n2,NA,q,y\n3,4,,y\n5,6,r,\n7,8,s,x\n9,1,s,y\n")
    raw = read(path, missing="drop", person_column="who")
    assert raw.features.tolist() == [[7, 8], [9, 1]]
    assert raw.persons is not None
    assert raw.persons.tolist() == [0, 0]
    assert raw.incomplete == 4
    assert read(path, missing="drop", drop=("b", "who")).incomplete == 1


def _holes(path: Path) -> Path:
    generator = np.random.default_rng(0)
    rows = [
        f"{generator.normal():.4f},{'' if index % 7 == 0 else f'{generator.normal():.4f}'},{'xy'[index % 2]}"
        for index in range(90)
    ]
    return put(path, "\n".join(["a,b,class", *rows]) + "\n")


@pytest.mark.parametrize(
    ("preprocessing", "split"), [("auxiliary", "auxiliary_idx"), ("training", "member_idx")]
)
def test_medians_come_from_the_records_that_preprocessing_may_see(
    tmp_path: Path, preprocessing: Any, split: str
) -> None:
    """By hand: the median, the scaler's ends and the clipping of the rows of that split, and of no other."""
    path = _holes(tmp_path / "t.csv")
    spec = DataSpec(
        name="csv", path=str(path), label_column="class", n_features=2, reduction="none", missing="median",
        preprocessing=preprocessing, feature_range=(0.0, 1.0), members=24, nonmembers=12, auxiliary=12, test=12,
    )  # fmt: skip
    column = np.array([float(line.split(",")[1] or "nan") for line in path.read_text().splitlines()[1:]])
    for seed in (0, 1):
        data = load(spec, seed)
        rows = data.source_rows[getattr(data, split)].numpy()
        filled = np.where(np.isnan(column), np.nanmedian(column[rows]), column)
        low, high = filled[rows].min(), filled[rows].max()
        expected = np.clip((filled - low) / (high - low), 0, 1)[data.source_rows.numpy()]
        np.testing.assert_allclose(data.features[:, 1].numpy(), expected, atol=1e-6)
        assert data.filled == np.isnan(column).sum()
        assert "medians of missing values too" in data.fitted_on
        assert any("13 missing values are filled in" in remark for remark in data.remarks)


def test_a_private_record_moves_no_median_of_the_auxiliary_records(tmp_path: Path) -> None:
    path = _holes(tmp_path / "t.csv")
    spec = DataSpec(
        name="csv", path=str(path), label_column="class", n_features=2, reduction="none", missing="median",
        members=24, nonmembers=12, auxiliary=12, test=12,
    )  # fmt: skip
    before = load(spec, 3)
    member = int(before.source_rows[before.member_idx[0]])
    lines = path.read_text().splitlines()
    lines[1 + member] = "1000,-1000," + lines[1 + member].rsplit(",", 1)[1]
    path.write_text("\n".join(lines) + "\n")
    after = load(spec, 3)
    assert after.content_digest != before.content_digest
    others = before.source_rows != member
    assert (after.features[others] == before.features[others]).all()


def test_a_column_without_any_value_to_fit_on(tmp_path: Path) -> None:
    rows = "".join(f"{index},{'' if index else 1},{'xy'[index % 2]}\n" for index in range(60))
    spec = DataSpec(
        name="csv", path=str(put(tmp_path / "t.csv", "a,b,class\n" + rows)), label_column="class", n_features=2,
        reduction="none", missing="median", members=24, nonmembers=12, auxiliary=12, test=12,
    )  # fmt: skip
    with pytest.raises(DataError, match=r"column 'b' .* has no median; got no value in the 12 records"):
        load(spec, 1)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (
            [f"{0.1 * index:.1f}" for index in range(100)],
            "a quantity or a name.*100 different values in 100 records",
        ),
        (
            [f"{0.1 * (index % 40):.1f}" for index in range(100)],
            "40 different values in 100 records, such as 0.1",
        ),
        ([f"n{index}" for index in range(30)], "30 different values in 30 records"),
        (["x"] * 30, "a single class"),
    ],
)
def test_what_is_no_class_is_refused(tmp_path: Path, read: Read, labels: list[str], sentence: str) -> None:
    rows = "".join(f"{index},{label}\n" for index, label in enumerate(labels))
    with pytest.raises(DataError, match=sentence) as caught:
        read(put(tmp_path / "t.csv", "a,class\n" + rows))
    assert "column 'class'" in str(caught.value)


def test_halves_as_classes_and_many_classes_are_none_of_that(tmp_path: Path, read: Read) -> None:
    rows = "".join(f"{index},{0.5 * (index % 3)}\n" for index in range(60))
    assert read(put(tmp_path / "t.csv", "a,class\n" + rows)).class_names == ("0.0", "0.5", "1.0")
    rows = "".join(f"{index},{index % 26}\n" for index in range(60))
    assert len(read(put(tmp_path / "t.csv", "a,class\n" + rows)).class_names) == 26


def test_a_mistake_in_the_header_of_a_long_file_is_told_at_once(tmp_path: Path, read: Read) -> None:
    path = tmp_path / "long.csv"
    with path.open("w") as file:
        file.write("a,b,class\n")
        file.write("1.23456789,2.3456789,x\n" * 2_200_000)
    assert path.stat().st_size > 50e6
    for changes in ({"label_column": "klass"}, {"columns": ("c",)}, {"n_features": 3}, {"separator": ";"}):
        started = time.process_time()
        with pytest.raises(DataError):
            read(path, **changes)
        assert time.process_time() - started < 0.5
    path.unlink()


# --- NumPy


def test_arrays_of_an_npz_file(tmp_path: Path, read: Read) -> None:
    path = tmp_path / "t.npz"
    np.savez(
        path,
        x=np.arange(8).reshape(4, 2),
        extra=np.ones(4),
        y=np.array(["no", "yes", "no", "yes"]),
        odd=np.ones(7),
    )
    raw = read(path, name="numpy", label_column="y", drop=("odd",))
    assert raw.feature_names == ("x[0]", "x[1]", "extra")
    assert raw.features.tolist() == [[0, 1, 1], [2, 3, 1], [4, 5, 1], [6, 7, 1]]
    assert raw.class_names == ("no", "yes")
    assert read(path, name="numpy", label_column="y", columns=("x",)).feature_names == ("x[0]", "x[1]")
    with pytest.raises(DataError, match="different numbers of records; got extra: 4, odd: 7"):
        read(path, name="numpy", label_column="y")


@pytest.mark.parametrize("channels", ["none", "last", "first"])
def test_images_in_an_npz_file(tmp_path: Path, read: Read, channels: str) -> None:
    path = tmp_path / "t.npz"
    images = np.arange(4 * 2 * 4 * 3, dtype=np.uint8).reshape(4, 3, 2, 4)  # records, channels, height, width
    saved = {"none": images[:, 0], "last": images.transpose(0, 2, 3, 1), "first": images}[channels]
    np.savez(path, images=saved, y=[0, 1, 0, 1])
    raw = read(
        path, name="numpy", label_column="y", reduction="pool", n_features=6 if channels != "none" else 2
    )
    shape = (1 if channels == "none" else 3, 2, 4)
    assert raw.image_shape == shape
    np.testing.assert_array_equal(raw.features, images[:, : shape[0]].reshape(4, -1))
    spec = DataSpec(
        name="numpy", path=str(path), label_column="y", reduction="pool", n_features=2 * shape[0], ranges=((0, 255),),
        preprocessing="fixed-range", feature_range=(0, 255), members=1, nonmembers=1, auxiliary=1, test=1,
    )  # fmt: skip
    pooled = images[:, : shape[0]].reshape(4, -1, 2, 2, 2).mean(axis=(2, 4)).reshape(4, -1)
    np.testing.assert_allclose(load(spec, 0).features.numpy(), pooled, atol=1e-4)


def test_one_array_and_one_of_records(tmp_path: Path, read: Read) -> None:
    np.save(tmp_path / "t.npy", np.array([[1.5, 2, 0], [3, 4, 1]]))
    raw = read(tmp_path / "t.npy", name="numpy", label_column="2")
    assert raw.features.tolist() == [[1.5, 2], [3, 4]]
    assert raw.feature_names == ("0", "1")
    assert raw.class_names == ("0", "1")
    kind = [("a", float), ("who", "U3"), ("class", int)]
    np.save(tmp_path / "r.npy", np.array([(1.5, "Ann", 3), (2.5, "Bob", 7)], dtype=kind))
    raw = read(tmp_path / "r.npy", name="numpy", person_column="who")
    assert raw.features.tolist() == [[1.5], [2.5]]
    assert raw.class_names == ("3", "7")
    assert raw.persons is not None
    assert raw.persons.tolist() == [0, 1]


def test_pickles_are_refused_before_anything_is_run(tmp_path: Path, read: Read) -> None:
    marker = tmp_path / "was-run"

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (marker,))

    np.savez(tmp_path / "t.npz", x=np.array([Evil(), Evil()], dtype=object), y=[0, 1])
    np.save(tmp_path / "t.npy", np.array([Evil(), Evil()], dtype=object))
    for name in ("t.npz", "t.npy"):
        with pytest.raises(
            DataError, match="Python objects, which are a pickle: reading one runs whatever code"
        ):
            read(tmp_path / name, name="numpy", label_column="y")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("t.npz", b"PK no", "cannot be read as a NumPy file"),
        ("t.npy", b"no", "cannot be read as a NumPy file"),
        ("none.npz", None, "there is no such data file"),
    ],
)
def test_files_that_are_none(
    tmp_path: Path, read: Read, name: str, content: bytes | None, sentence: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=sentence) as caught:
        read(tmp_path / name, name="numpy")
    assert name in str(caught.value)


def test_a_flat_array_or_axes_that_cannot_be_told_apart(tmp_path: Path, read: Read) -> None:
    np.save(tmp_path / "t.npy", np.ones(4))
    with pytest.raises(DataError, match=r"is no table; got an array of shape \[4\]"):
        read(tmp_path / "t.npy", name="numpy")
    np.savez(tmp_path / "t.npz", x=np.ones((4, 3, 5, 3)), y=[0, 1, 0, 1])
    with pytest.raises(DataError, match="which axis of images holds the channels"):
        read(tmp_path / "t.npz", name="numpy", label_column="y")


# --- Parquet


def test_a_parquet_file(tmp_path: Path, read: Read) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "a": pa.array([1.5, None, 2.5], pa.float32()),
        "n": pa.array([1, 2, None], pa.int64()),
        "flag": pa.array([True, False, True]),
        "text": ["1", "2", "3"],
        "when": pa.array([0, 1, 2], pa.timestamp("ms")),
        "kind": pa.array(["x", "y", "y"]).dictionary_encode(),
        "label": pa.array([1, 0, 1], pa.int8()),
    }
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table(columns), path)
    with pytest.raises(
        DataError, match=r"neither numbers nor text: 'when'; got timestamp\[ms\]; .*drop = \[\"when\"\]"
    ):
        read(path, name="parquet", label_column="kind")
    with pytest.raises(DataError, match="lacks a value at row 2, column 'a'"):
        read(path, name="parquet", label_column="kind", drop=("when",))
    raw = read(path, name="parquet", label_column="kind", drop=("when",), missing="median")
    np.testing.assert_array_equal(
        raw.features, [[1.5, 1, 1, 1, 1], [np.nan, 2, 0, 2, 0], [2.5, np.nan, 1, 3, 1]]
    )
    assert raw.class_names == ("x", "y")
    assert read(path, name="parquet", label_column="label", columns=("flag",)).class_names == ("0", "1")
    path.write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read(path, name="parquet")


@pytest.mark.parametrize(("place", "value"), [("flag", 1), ("method", 99)])
def test_an_npz_file_that_cannot_be_unpacked(tmp_path: Path, read: Read, place: str, value: int) -> None:
    """One that says that it is encrypted, one packed by an unknown method."""
    path = tmp_path / "t.npz"
    np.savez(path, x=np.zeros((4, 2)), y=np.array([0, 1, 0, 1]))
    content, offsets = bytearray(path.read_bytes()), {"flag": (6, 8), "method": (8, 10)}[place]
    for sign, offset in zip((b"PK\x03\x04", b"PK\x01\x02"), offsets, strict=True):
        at = content.find(sign)
        while at >= 0:
            content[at + offset] = value
            at = content.find(sign, at + 1)
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as a NumPy file"):
        read(path, name="numpy", label_column="y")


def test_parquet_without_its_package(tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'qflsec\[data\]'"):
        read(put(tmp_path / "t.parquet", ""), name="parquet")


# --- a file for each client


def _clients(folder: Path, counts: dict[str, int]) -> str:
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(1)
    for shift, (name, count) in enumerate(counts.items()):
        rows = [
            f"{shift + generator.normal():.6f},p{i % 9},{'xy'[i % 2]},{generator.normal():.6f}"
            for i in range(count)
        ]
        put(folder / f"{name}.csv", "\n".join(["a,who,class,b", *rows]) + "\n")
    return str(folder / "*.csv")


COUNTS = {"site2": 30, "site10": 60, "site1": 90}
SPLITS = {"members": 90, "nonmembers": 45, "auxiliary": 22, "test": 20}


def _spec(pattern: str, **changes: Any) -> DataSpec:
    fields = {"person_column": "who", "n_features": 2, "reduction": "none", **SPLITS, **changes}
    return DataSpec(name="csv", path=pattern, label_column="class", **fields)


def test_each_file_is_a_client(tmp_path: Path) -> None:
    data = load(_spec(_clients(tmp_path, COUNTS)), 0)
    assert data.client_names == ("site1", "site2", "site10")
    clients = partition(data, PartitionSpec(kind="files"), 3, 0)
    assert data.clients is not None
    assert [set(data.clients[rows].tolist()) for rows in clients] == [{0}, {1}, {2}]
    assert [len(rows) for rows in clients] == [45, 15, 30]
    assert sorted(row for rows in clients for row in rows.tolist()) == sorted(data.member_idx.tolist())
    assert len(set(data.persons.tolist())) == 9, "a person of two files is one person"  # type: ignore[union-attr]
    assert len(partition(data, PartitionSpec(), 5, 0)) == 5, "other partitions spread all records"
    with pytest.raises(DataError, match="got n_clients=4; expected 3: site1, site2, site10"):
        partition(data, PartitionSpec(kind="files"), 4, 0)
    with pytest.raises(DataError, match="balanced"):
        load(_spec(str(tmp_path / "*.csv"), balanced=True), 0)


def test_members_and_non_members_have_the_same_mixture_of_clients(tmp_path: Path) -> None:
    """Whose a record is says nothing of whether it is a member: every client is cut in the same proportions.

    Drawn without regard to clients, the share of members among a client's records would vary by a tenth and more.
    """
    pattern = _clients(tmp_path, COUNTS)
    for seed in range(5):
        data = load(_spec(pattern), seed)
        assert data.clients is not None
        held = np.bincount(data.clients.numpy())
        for split, size in zip(("member", "nonmember", "auxiliary", "test"), SPLITS.values(), strict=True):
            rows = getattr(data, f"{split}_idx")
            assert len(rows) == size
            share = np.bincount(data.clients[rows].numpy(), minlength=3)
            assert abs(share - size * held / held.sum()).max() < (1 if split == "member" else 2)


def test_given_its_client_every_record_is_a_member_equally_often(tmp_path: Path) -> None:
    """Chi-square of the counts within each client over 400 seeds, outside 0.0005 and 0.9995 quantiles a false alarm."""
    pattern = _clients(tmp_path, {"a": 20, "b": 60})
    counts = np.zeros(80)
    for seed in range(400):
        data = load(_spec(pattern, members=20, nonmembers=20, auxiliary=20, test=20), seed)
        counts[data.source_rows[data.member_idx].numpy()] += 1
    for rows in (slice(0, 20), slice(20, 80)):
        part = counts[rows]
        n, share = len(part), 0.25
        statistic = ((part - 400 * share) ** 2).sum() / (400 * share * (1 - share)) * (n - 1) / n
        low, high = {20: (4.5, 45.0), 60: (30.0, 102.0)}[n]
        assert low < statistic < high


def test_proportional_shares_at_the_limits() -> None:
    generator = np.random.default_rng(0)
    assert proportional([10, 0, 3], np.array([0, 13]), generator) == [[0, 0, 0], [10, 0, 3]]
    assert proportional([4, 8], np.array([3, 6, 3]), generator) == [[1, 2], [2, 4], [1, 2]]
    assert proportional([0, 0], np.array([0]), generator) == [[0, 0]]
    for _ in range(200):
        counts = generator.integers(0, 12, size=4) + np.array([1, 0, 0, 0])
        cuts = np.sort(generator.integers(0, counts.sum() + 1, size=4))
        sizes = np.diff([0, *cuts]).tolist()
        shares = np.array(proportional(sizes, counts, generator))
        assert shares.sum(axis=0).tolist() == sizes
        assert (shares >= 0).all()
        assert (shares.sum(axis=1) <= counts).all()
        assert (abs(shares[:, 0] - sizes[0] * counts / counts.sum()) < 1).all()


def test_clients_that_do_not_divide_are_rounded_by_chance() -> None:
    """No client's records are members more often than another's: by a fixed rule the first five always were, 3 of 5."""
    sizes, counts = [25, 20], np.array([5] * 9 + [1] * 5)
    shares = np.array(
        [proportional(sizes, counts, np.random.default_rng(seed)) for seed in range(2000)], dtype=float
    )
    for split, size in enumerate(sizes):
        quota = size * counts / counts.sum()
        # a share varies by at most a half, so the mean of 2000 by .0112: five of these is a false alarm in 10^5
        assert abs(shares[:, :, split].mean(axis=0) - quota).max() < 5 * 0.0112


def test_files_that_do_not_fit_together(tmp_path: Path) -> None:
    pattern = _clients(tmp_path, COUNTS)
    put(tmp_path / "site2.csv", "a,who,class\n1,p,x\n2,q,y\n")
    with pytest.raises(DataError, match=r"site2.csv has other columns than .*site1.csv; got b"):
        load(_spec(pattern), 0)
    (tmp_path / "site2.csv").unlink()
    put(tmp_path / "site3.csv", "a,who,klass,b\n1,p,x,2\n")
    with pytest.raises(DataError, match=r"site3.csv has no column for the class"):
        load(_spec(pattern), 0)
    with pytest.raises(DataError, match="no data file matches the pattern"):
        load(_spec(str(tmp_path / "none" / "*.csv")), 0)
    data = load(_spec(str(tmp_path / "site1.csv"), members=20, nonmembers=10, auxiliary=10, test=10), 0)
    with pytest.raises(DataError, match="needs data that say who holds each record"):
        partition(data, PartitionSpec(kind="files"), 1, 0)


def test_columns_in_another_order_are_the_same_columns(tmp_path: Path, read: Read) -> None:
    put(tmp_path / "1.csv", "a,b,class\n1,2,x\n")
    put(tmp_path / "2.csv", "class,b,a\ny,20,10\n")
    assert read(tmp_path / "*.csv").features.tolist() == [[1, 2], [10, 20]]


def test_places_and_their_digests(tmp_path: Path) -> None:
    for folder in ("here", "there"):
        _clients(tmp_path / folder, COUNTS)
    here, there = (str(tmp_path / folder / "*.csv") for folder in ("here", "there"))
    assert [path.name for path in files_at(here)] == ["site1.csv", "site2.csv", "site10.csv"]
    assert place_digest(here) == place_digest(there)
    put(tmp_path / "there" / "notes.txt", "no data")
    assert place_digest(here) == place_digest(there), "what does not match is no data"
    with (tmp_path / "there" / "site2.csv").open("a") as file:
        file.write("1,p,x,1\n")
    assert place_digest(here) != place_digest(there)
    assert place_digest(str(tmp_path / "here")) != place_digest(str(tmp_path / "there"))
    (tmp_path / "here" / "site1.csv").rename(tmp_path / "here" / "site20.csv")
    assert files_at(here)[-1].name == "site20.csv"
    with pytest.raises(ConfigError, match="cannot be read"):
        place_digest(str(tmp_path / "none.csv"))


def test_the_digest_of_a_large_file_follows_its_content(tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    path.write_bytes(b"x" * 2_000_000)
    first = place_digest(str(path))
    path.write_bytes(b"x" * 1_999_999 + b"y")
    assert place_digest(str(path)) != first

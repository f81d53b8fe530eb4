"""Data that a function of the user's gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qflsec.base import DataError
from qflsec.data import DataSpec, PartitionSpec, RawData, load, partition

Read = Callable[..., RawData]


@pytest.fixture
def give(tmp_path: Path, read: Read) -> Callable[..., RawData]:
    """The records of a function with this body."""
    count = iter(range(99))

    def call(body: str, **changes: object) -> RawData:
        path = tmp_path / f"data_{next(count)}.py"
        path.write_text(f"import numpy as np\n\n\ndef load():\n    {body}\n")
        fields = {"name": "function", "label_column": None, **changes}
        return read(Path(f"{path}:load"), **fields)

    return call


Give = Callable[..., RawData]


def test_a_pair_of_features_and_labels(give: Give) -> None:
    raw = give('return [[1, 2], [3, 4]], ["no", "yes"]')
    assert raw.features.tolist() == [[1, 2], [3, 4]]
    assert raw.class_names == ("no", "yes")
    assert raw.feature_names == ("feature 0", "feature 1")
    assert give("return np.eye(2), np.array([1.0, 0.0])").class_names == ("0", "1")
    assert give("import torch; return torch.eye(2), torch.tensor([1, 0])").labels.tolist() == [1, 0]
    assert give(
        'import pandas as pd; t = pd.DataFrame({"a": [1, 2], "y": ["u", "v"]}); return t[["a"]], t["y"]'
    ).class_names == ("u", "v")


def test_a_dictionary_with_names_ranges_and_owners(give: Give) -> None:
    raw = give(
        'return {"features": np.arange(8).reshape(4, 2), "labels": [0, 1, 0, 1], "class_names": ["b", "a"], '
        '"feature_names": ["u", "v"], "ranges": [[0, 10], [0, 10]], "persons": ["p", "q", "p", "q"], '
        '"clients": ["north", "south", "south", "north"]}'
    )
    assert raw.class_names == ("b", "a")
    assert raw.feature_names == ("u", "v")
    assert raw.ranges == ((0.0, 10.0), (0.0, 10.0))
    assert raw.persons is not None
    assert raw.persons.tolist() == [0, 1, 0, 1]
    assert raw.client_names == ("north", "south")
    assert raw.clients is not None
    assert raw.clients.tolist() == [0, 1, 1, 0]


def test_images_in_either_order_of_axes(give: Give) -> None:
    first = give("x = np.arange(2 * 3 * 2 * 4).reshape(2, 3, 2, 4); return x, [0, 1]")
    last = give("x = np.arange(2 * 3 * 2 * 4).reshape(2, 3, 2, 4); return x.transpose(0, 2, 3, 1), [0, 1]")
    assert first.image_shape == last.image_shape == (3, 2, 4)
    np.testing.assert_array_equal(first.features, last.features)
    np.testing.assert_array_equal(first.features, np.arange(48).reshape(2, 24))
    assert give("return np.ones((2, 4, 4)), [0, 1]").image_shape == (1, 4, 4)


def test_a_whole_rawdata_and_clients_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "raw.py"
    path.write_text(
        "import numpy as np\nfrom qflsec.data import RawData\n\n\ndef load():\n"
        "    x = np.random.default_rng(0).normal(size=(80, 2))\n"
        "    return RawData(features=x, labels=np.arange(80) % 2, feature_names=('a', 'b'), class_names=('n', 'y'),\n"
        "                   clients=np.arange(80) // 40, client_names=('one', 'two'))\n"
    )
    spec = DataSpec(
        name="function", path=f"{path}:load", n_features=2, members=20, nonmembers=20, auxiliary=20, test=20
    )
    data = load(spec, 0)
    assert [len(rows) for rows in partition(data, PartitionSpec(kind="files"), 2, 0)] == [10, 10]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("return np.random.normal(size=(4, 2)), [0, 1, 0, 1]", "gives other records when it is called again.*seed"),
        ("return 1 / 0", "fails; got ZeroDivisionError"),
        ("return None", "does not give records; got NoneType"),
        ('return {"features": np.eye(2)}', "other keys; got none unknown, 'labels' missing"),
        ('return {"features": np.eye(2), "labels": [0, 1], "names": []}', "got 'names' unknown"),
        ("return np.ones(3), [0, 1, 0]", r"no records; got an array of shape \[3\]"),
        ('return [["a"], ["b"]], [0, 1]', "the features of .* are no numbers"),
        ("return np.eye(3), [0, 1]", "do not fit together; got 3 records of 3 columns, 2 labels"),
        ("return np.eye(3), [[0], [1], [0]]", "labels of .* are no list"),
        ("return np.eye(3), [1, 1, 1]", "a single class"),
        ("return np.eye(100), np.linspace(0, 1, 100)", "a quantity or a name, and no classes"),
        ('return {"features": np.eye(2), "labels": [0, 2], "class_names": ["a", "b"]}', "numbers no class; got labels 0 to 2"),
        ('return {"features": np.eye(2), "labels": [0.5, 2], "class_names": ["a", "b"]}', "do not number its class_names"),
        ("return [[1, np.nan], [2, 3]], [0, 1]", "lacks a value at record 1, column 'feature 1'"),
        ("return [[1, 2], [np.inf, 3]], [0, 1]", "not finite at record 2, column 'feature 0'"),
        ('return {"features": np.eye(2), "labels": [0, 1], "persons": [1]}', "name a person for each record"),
        ('return {"features": np.eye(2), "labels": [0, 1], "clients": [1, 1], "client_names": ["a", "b"]}', "no record, or no name"),
    ],
)  # fmt: skip
def test_mistakes_get_one_line(give: Give, body: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as caught:
        give(body)
    assert "\n" not in str(caught.value)


def test_records_without_a_value_can_be_left_out(give: Give) -> None:
    raw = give("return [[1, np.nan], [2, 3], [4, 5]], [0, 1, 0]", missing="drop")
    assert raw.features.tolist() == [[2, 3], [4, 5]]
    assert raw.incomplete == 1
    assert np.isnan(give("return [[1, np.nan], [2, 3]], [0, 1]", missing="median").features).sum() == 1


def test_places_that_name_no_function(tmp_path: Path, read: Read) -> None:
    path = tmp_path / "data.py"
    path.write_text("VALUE = 1\n\n\ndef needs(n):\n    return n\n")
    for place, sentence in {
        f"{path}": "no function named",
        f"{path}:none": "has no function 'none'; got nothing of this name",
        f"{path}:VALUE": "has no function 'VALUE'; got int",
        f"{path}:needs": "is called without arguments; got a function that needs n",
        f"{tmp_path}/other.py:load": "there is no such file",
    }.items():
        with pytest.raises(DataError, match=sentence):
            read(Path(place), name="function", label_column=None)
    path.write_text("import nonsense_module\n")
    with pytest.raises(DataError, match=r"data\.py fails; got ModuleNotFoundError"):
        read(Path(f"{path}:load"), name="function", label_column=None)


def test_another_version_of_the_function_is_read_again(tmp_path: Path) -> None:
    sizes = {"n_features": 2, "members": 20, "nonmembers": 10, "auxiliary": 10, "test": 10}
    (tmp_path / "shift_f.py").write_text("SHIFT = 0\n")
    path = tmp_path / "data_f.py"
    path.write_text(
        "import numpy as np\nfrom shift_f import SHIFT\n\n\ndef load():\n"
        "    return np.random.default_rng(0).normal(size=(60, 2)) + SHIFT, np.arange(60) % 2\n"
    )
    spec = DataSpec(name="function", path=f"{path}:load", **sizes)
    before = load(spec, 0).content_digest
    assert load(spec, 0).content_digest == before
    (tmp_path / "shift_f.py").write_text("SHIFT = 1\n")
    assert load(spec, 0).content_digest != before

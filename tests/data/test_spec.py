from __future__ import annotations

import json
import math

import pytest

from qflsec.base import ConfigError
from qflsec.data import DataSpec


def test_configuration_is_json_and_comes_back_equal() -> None:
    spec = DataSpec(name="digits", classes=(3, 6), reduction="pool", n_features=16, feature_range=(0.0, 1.0))
    again = DataSpec.from_config(json.loads(json.dumps(spec.to_config())))
    assert again == spec
    assert hash(again) == hash(spec)
    assert spec.to_config()["members"] == 160, "defaults are written out"


def test_features_are_angles_from_0_to_pi_by_default() -> None:
    assert DataSpec(name="iris").feature_range == (0.0, math.pi)


CSV = {"name": "csv", "path": "x.csv", "label_column": "y"}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"preprocessing": "global"}, "unknown preprocessing"),
        ({"reduction": "umap"}, "unknown reduction"),
        ({"n_features": 0}, "n_features is not a count"),
        ({"n_features": 2.5}, "'n_features' is out of range"),
        ({"members": 0}, "members is not a count"),
        ({"test": -1}, "test is not a count"),
        ({"test": True}, "test is not a count"),
        ({"auxiliary": 1}, "too few records to be fitted on"),
        ({"classes": (1, 1)}, "different classes"),
        ({"classes": (1,)}, "different classes"),
        ({"feature_range": (1.0, 0.0)}, "not an interval"),
        ({"feature_range": (0.0,)}, "not an interval"),
        ({"feature_range": (0.0, math.inf)}, "'feature_range' is no number"),
        ({"ranges": ((0.0, 1.0), (2.0, 2.0))}, "not an interval"),
        ({"preprocessing": "fixed-range", "reduction": "pca"}, "has to be fitted on records"),
        ({"name": "csv", "path": "x.csv"}, "need the column of their classes"),
        ({"name": "csv", "label_column": "y"}, 'need a place; set path = "records.csv"'),
        ({"path": "x.csv"}, "no use for path"),
        ({"name": "folder", "path": "x/", "separator": ";"}, "no use for separator"),
        ({**CSV, "size": (8, 8)}, "no use for size.*belongs to folder"),
        ({**CSV, "separator": ", "}, "a separator is one character"),
        ({**CSV, "decimal": ","}, "a separator is one character, and neither a quote nor the decimal mark"),
        ({**CSV, "decimal": ";"}, "unknown decimal"),
        ({**CSV, "encoding": "latin-99"}, "unknown encoding"),
        ({**CSV, "encoding": "hex"}, "unknown encoding"),
        ({**CSV, "missing": "mean"}, "unknown missing"),
        ({**CSV, "columns": ("a",), "drop": ("b",)}, "nothing is left to drop"),
        ({**CSV, "columns": ()}, "nothing is left to drop"),
        ({**CSV, "columns": ("a", "y")}, "named twice; got 'y'"),
        (
            {**CSV, "missing": "median", "preprocessing": "fixed-range", "reduction": "none"},
            "has to be fitted on",
        ),
        ({"name": "folder", "path": "x/", "size": (8,)}, "size is not a height and a width"),
        ({"name": "folder", "path": "x/", "channels": 2}, "1 or 3"),
        ({"seed": 3}, "unknown key"),
    ],
)
def test_mistakes_get_one_line(wrong: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        DataSpec.from_config({"name": "iris", **wrong})
    assert "\n" not in str(caught.value)

"""Tables of the user's, small enough to check by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qflsec.data import DataSpec, RawData
from qflsec.data.sources import read_source

SIZES = {"members": 24, "nonmembers": 12, "auxiliary": 12, "test": 12}


@pytest.fixture
def read() -> Callable[..., RawData]:
    """The records of a file; by default a CSV file with a column "class"."""

    def call(path: Path, **changes: Any) -> RawData:
        fields = {"name": "csv", "label_column": "class", "n_features": 1, "reduction": "first", **changes}
        return read_source(DataSpec(path=str(path), **fields))

    return call

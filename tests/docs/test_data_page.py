"""The page on data: each example reads files as the page describes them, and every field is on it."""

from __future__ import annotations

import inspect
import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qflsec.data import Dataset, DataSpec, PartitionSpec, load, partition
from qflsec.lab.grid.files import resolve

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
N = 90


def block(title: str) -> str:
    found = re.search(rf"<!-- tested: {title} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None, title
    return found.group(1)


def loaded(title: str, folder: Path) -> Dataset:
    table: dict[str, Any] = tomllib.loads(block(title))["data"]
    return load(DataSpec.from_config(resolve(table, folder)), 0)


@pytest.fixture
def table() -> dict[str, list[str]]:
    """90 records of patients, some of whom come twice."""
    generator = np.random.default_rng(0)
    return {
        "patient": [f"p{index % 60}" for index in range(N)],
        "age": [f"{value:.2f}" for value in generator.normal(50, 9, size=N)],
        "pressure": [f"{value:.2f}" for value in generator.normal(120, 9, size=N)],
        "diagnosis": [("gut", "böse")[index % 2] for index in range(N)],
    }


def csv_text(table: dict[str, list[str]], separator: str = ",") -> str:
    return "\n".join(separator.join(row) for row in [tuple(table), *zip(*table.values(), strict=True)])


def test_a_table_as_a_spreadsheet_writes_it(tmp_path: Path, table: dict[str, list[str]]) -> None:
    table["age"][3] = ""
    (tmp_path / "patients.csv").write_bytes(csv_text(table, ";").replace(".", ",").encode("cp1252"))
    data = loaded("csv", tmp_path)
    assert data.feature_names == ("age", "pressure")
    assert data.class_names == ("böse", "gut")
    assert data.filled == 1
    assert data.people_told_by == "the column 'patient'"


def test_a_parquet_file(tmp_path: Path, table: dict[str, list[str]]) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    numbers = {name: [*map(float, table[name])] for name in ("age", "pressure")}
    parquet.write_table(pa.table({**table, **numbers}), tmp_path / "patients.parquet")
    assert loaded("parquet", tmp_path).feature_names == ("age", "pressure")


def test_images_in_a_numpy_file(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, size=(N, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "scans.npz", images=images, y=np.arange(N) % 2, note=np.zeros(3))
    data = loaded("numpy", tmp_path)
    assert data.feature_names == ("block 0,0", "block 0,1", "block 1,0", "block 1,1")
    assert data.fitted_on.startswith("no record")


def test_a_file_for_each_client(tmp_path: Path, table: dict[str, list[str]]) -> None:
    del table["patient"]
    (tmp_path / "clients").mkdir()
    for index, name in enumerate(("site1", "site2", "site10")):
        part = {column: values[index * 30 : index * 30 + 30] for column, values in table.items()}
        (tmp_path / "clients" / f"{name}.csv").write_text(csv_text(part), encoding="utf-8")
    data = loaded("clients", tmp_path)
    assert data.client_names == ("site1", "site2", "site10")
    assert [len(rows) for rows in partition(data, PartitionSpec(kind="files"), 3, 0)] == [8, 8, 8]


def test_a_folder_of_images(tmp_path: Path) -> None:
    images = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, size=(N, 16, 16), dtype=np.uint8)
    for index, image in enumerate(pixels):
        place = tmp_path / "images" / ("cat", "dog")[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        images.fromarray(image).save(place / f"{index}.png")
    data = loaded("folder", tmp_path)
    assert data.features.shape == (N, 16)
    assert data.class_names == ("cat", "dog")


def test_a_function(tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text(block("function"))
    data = loaded("function data", tmp_path)
    assert data.class_names == ("calm", "stormy")
    assert data.fitted_on == "no record: scaled by the ranges published with the data set"


def test_every_field_is_on_the_page_and_in_the_docstring() -> None:
    listed = PAGE.partition("## All fields")[2]
    for field in fields(DataSpec):
        assert f"`{field.name}`" in listed, field.name
        assert f"    {field.name}: " in str(inspect.getdoc(DataSpec)), field.name

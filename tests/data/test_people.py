"""Whose records a training holds, counted by hand and by brute force."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from qflsec.base import ConfigError
from qflsec.data import DataSpec, PartitionSpec, equal_records, kinds_of_people, load, partition

SIZES = {"members": 24, "nonmembers": 4, "auxiliary": 8, "test": 4}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """60 visits of 20 patients: 8 of the first, then fewer and fewer."""
    generator = np.random.default_rng(0)
    patients = [0] * 8 + [1] * 5 + [2] * 4 + [3 + index % 17 for index in range(43)]
    lines = [
        f"{generator.normal():.6f},p{patient},{index % 2},{generator.normal():.6f}"
        for index, patient in enumerate(patients)
    ]
    path = tmp_path / "visits.csv"
    path.write_text("\n".join(["a,patient,class,b", *lines]) + "\n", encoding="utf-8")
    return path


def spec(path: Path, **changes: object) -> DataSpec:
    return DataSpec(
        **{
            "name": "csv",
            "path": str(path),
            "label_column": "class",
            "person_column": "patient",
            "n_features": 2,
            "reduction": "none",
            **SIZES,
            **changes,
        }
    )


def test_kinds_are_what_counting_by_hand_gives(table: Path) -> None:
    dataset = load(spec(table), 3)
    clients = partition(dataset, PartitionSpec(), 3, 3)
    source = [line.split(",")[1] for line in table.read_text().splitlines()[1:]]
    held = [[source[dataset.source_rows[row]] for row in rows.tolist()] for rows in clients]
    counts = [Counter(names) for names in held]
    people = {name for names in held for name in names}
    expected = {tuple(count[name] for count in counts) for name in people}
    assert set(kinds_of_people(dataset, clients)) == {kind for kind in expected if sum(kind) > 1}
    assert dataset.people_told_by == "the column 'patient'"
    assert dataset.feature_names == ("a", "b")


def test_selecting_classes_and_dropping_equal_records_keeps_who_is_who(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    lines = [f"{index // 2},{index},{'xyz'[index % 3]}" for index in range(60)]
    path.write_text("\n".join(["a,patient,class", *lines]) + "\n", encoding="utf-8")
    sizes = {"members": 6, "nonmembers": 2, "auxiliary": 4, "test": 2}
    dataset = load(spec(path, classes=(2, 0), n_features=1, **sizes), 0)
    assert dataset.persons is not None
    # people are numbered in the order of their values, as numbers here: the row's own number
    assert dataset.persons.tolist() == dataset.source_rows.tolist()


def test_without_a_column_equal_records_are_one_persons() -> None:
    dataset = load(DataSpec(name="iris", n_features=4, members=20, nonmembers=4, auxiliary=8, test=4), 0)
    clients = partition(dataset, PartitionSpec(), 4, 0)
    assert kinds_of_people(dataset, clients) == ()
    assert dataset.people_told_by == "equal records"
    features, labels = dataset.features.clone(), dataset.labels.clone()
    a, b = int(clients[0][0]), int(clients[2][1])
    features[b], labels[b] = features[a], labels[a]
    doubled = replace(dataset, features=features, labels=labels)  # type: ignore[arg-type]
    assert kinds_of_people(doubled, clients) == ((1, 0, 1, 0),)
    labels[b] = 1 - labels[a]
    other = replace(dataset, features=features, labels=labels)  # type: ignore[arg-type]
    assert kinds_of_people(other, clients) == (), "another class is another record"


def test_a_record_that_two_clients_hold_counts_at_both() -> None:
    dataset = load(DataSpec(name="iris", n_features=4, members=20, nonmembers=4, auxiliary=8, test=4), 0)
    clients = list(partition(dataset, PartitionSpec(), 2, 0))
    clients[1] = torch.cat([clients[1], clients[0][:1]])
    assert kinds_of_people(dataset, clients) == ((1, 1),)


def test_equal_records_have_one_number() -> None:
    numbers = equal_records(np.array([[1.0, 2.0], [0.0, 2.0], [1.0, 2.0]]))
    assert numbers[0] == numbers[2] != numbers[1]


def test_the_column_belongs_to_a_table(table: Path) -> None:
    with pytest.raises(ConfigError, match="no use for person_column"):
        DataSpec(name="iris", person_column="who")
    with pytest.raises(ConfigError, match="column of people is that of the classes"):
        spec(table, person_column="class")

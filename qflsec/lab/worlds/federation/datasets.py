"""The data of a matrix: read before anything runs, and what a result says of them."""

from __future__ import annotations

from typing import Any

import torch

from qflsec.base import ConfigError
from qflsec.data import Dataset, load, partition
from qflsec.federation import RunResult
from qflsec.lab.grid.schema import at
from qflsec.lab.worlds.federation.matrix import Matrix

__all__ = ["check_data", "data_facts", "data_remarks"]


def check_data(matrix: Matrix) -> None:
    """Load and partition the data of every pipeline for the first seed: what only the data can tell.

    Raises:
        DataError: Data cannot be read, split or partitioned.
        ConfigError: Data and model differ in their classes.
    """
    for name, pipeline in matrix.pipelines.items():
        dataset = _load(matrix, name)
        if dataset.n_classes != pipeline.model.n_classes:
            raise ConfigError(
                f"pipelines.{name}: data and model differ in their number of classes",
                got=f"{dataset.n_classes} and {pipeline.model.n_classes}",
                fix=f"choose 'classes' of the data from {', '.join(dataset.class_names)}, or {pipeline.model.classes_fix}",
            )
        with at(f"pipelines.{name}.partition"):
            partition(dataset, pipeline.partition, pipeline.federation.n_clients, matrix.spec.seeds[0])


def data_remarks(matrix: Matrix) -> tuple[str, ...]:
    """What is odd about the user's own data as the first seed splits them, each sentence once.

    Raises:
        DataError: Data cannot be read or split.
    """
    found: dict[str, list[str]] = {}
    for name in matrix.pipelines:
        for remark in _load(matrix, name).remarks:
            found.setdefault(remark, []).append(name)
    return tuple(f"data of {', '.join(names)}: {remark}" for remark, names in found.items())


def _load(matrix: Matrix, name: str) -> Dataset:
    with at(f"pipelines.{name}.data"):
        return load(matrix.pipelines[name].data, matrix.spec.seeds[0])


def data_facts(run: RunResult) -> dict[str, Any]:
    """What a page says of the data of a run, in JSON types."""
    dataset = run.dataset
    counts = torch.bincount(dataset.labels, minlength=dataset.n_classes).tolist()
    held = [len(rows) for rows in run.clients]
    return {
        "classes": dict(zip(dataset.class_names, counts, strict=True)),
        "features": list(dataset.feature_names),
        "clients": dict(zip(dataset.client_names, held, strict=False)) if dataset.clients is not None else {},
        "fitted_on": dataset.fitted_on,
        "remarks": list(dataset.remarks),
    }

"""Whose records a training holds: how many of one person there are, and at which clients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qflsec.data.loading import Dataset

__all__ = ["equal_records", "kinds_of_people"]


def kinds_of_people(dataset: Dataset, clients: Sequence[Tensor]) -> tuple[tuple[int, ...], ...]:
    """The number of records at each client, for every kind of person with more than one; equal kinds once.

    A person is told by the data set's column of people where it has one, else by equal records. A record that two
    clients hold counts at both.

    Args:
        dataset: The data set.
        clients: The rows of the data set that each client holds.
    """
    if dataset.persons is None:
        features = torch.cat([dataset.features, dataset.labels[:, None].to(dataset.features)], dim=1)
        persons = equal_records(features.numpy())
    else:
        persons = dataset.persons.numpy()
    counts = np.zeros((int(persons.max(initial=-1)) + 1, len(clients)), dtype=np.int64)
    for client, rows in enumerate(clients):
        np.add.at(counts[:, client], persons[rows.numpy()], 1)
    several = np.unique(counts[counts.sum(axis=1) > 1], axis=0)
    return tuple(tuple(map(int, kind)) for kind in several)


def equal_records(records: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.int64]:
    """A number for each record, the same for equal ones.

    Shapes:
        records: ``[N, D]``; result: ``[N]``.
    """
    _, numbers = np.unique(records, axis=0, return_inverse=True)
    return np.asarray(numbers, dtype=np.int64).reshape(-1)

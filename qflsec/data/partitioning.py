"""How the members are spread over the clients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import LongTensor

from qflsec.base import DataError, find, numpy_stream
from qflsec.data.blocks import owners
from qflsec.data.loading import Dataset, as_long
from qflsec.data.partitioners import PARTITIONERS, Partitioner, PartitionSpec, Positions

__all__ = ["partition"]


def partition(dataset: Dataset, spec: PartitionSpec, n_clients: int, seed: int) -> tuple[LongTensor, ...]:
    """Give every member to exactly one client.

    Args:
        dataset: Its ``member_idx`` is divided.
        spec: How.
        n_clients: Over how many clients.
        seed: The run's seed.

    Returns:
        For each client the rows of ``dataset`` that it holds.

    Raises:
        DataError: The members cannot be divided so that every client has ``min_records``.
        UnknownName: There is no partitioner of this kind.
    """
    members = dataset.member_idx
    if n_clients < 1:
        raise DataError("there must be a client", got=f"n_clients={n_clients}", expected="at least 1")
    if n_clients * spec.min_records > len(members):
        raise DataError(
            "too few members for every client to have min_records",
            got=f"{len(members)} members",
            expected=f"at least {n_clients} clients x {spec.min_records}",
            fix="raise members, or lower the number of clients or min_records",
        )
    divide: Partitioner = PARTITIONERS.get(spec.kind) or find("partition", spec.kind)
    if dataset.holdings is not None:
        parts = _by_holdings(dataset, spec, n_clients, seed, divide)
    elif spec.kind == "files" and dataset.clients is not None:
        parts = _as_held(dataset, n_clients)
    else:
        generator = numpy_stream(seed, "data", "partition", spec.kind)
        parts = divide(dataset.labels[members].numpy(), spec, n_clients, generator)
    _check(parts, spec, n_clients, len(members))
    return tuple(as_long(members.numpy()[np.sort(part)]) for part in parts)


def _by_holdings(
    dataset: Dataset, spec: PartitionSpec, n_clients: int, seed: int, divide: Partitioner
) -> list[Positions]:
    """The members of each kind of hospital, divided over the clients of that kind."""
    assert dataset.holdings is not None
    if spec.kind == "files":
        raise DataError(
            "clients of the data hold what their files say",
            got=f"partition 'files' with held_blocks={dataset.spec.held_blocks}",
            fix="leave held_blocks out, or choose another partition",
        )
    members = dataset.member_idx
    kinds, labels = dataset.holdings[members].numpy(), dataset.labels[members].numpy()
    generator = numpy_stream(seed, "data", "partition", spec.kind)
    owner = owners(dataset.spec, n_clients, seed)
    parts: list[Positions] = [np.zeros(0, dtype=np.int64)] * n_clients
    for kind in np.unique(owner):
        clients, positions = np.flatnonzero(owner == kind), np.flatnonzero(kinds == kind)
        if len(positions) < len(clients) * spec.min_records:
            raise DataError(
                "too few members hold some blocks for every client of theirs to have min_records",
                got=f"{len(positions)} members for {len(clients)} clients",
                expected=f"at least {len(clients)} x {spec.min_records}",
                fix="raise members, or lower the number of clients or min_records",
            )
        for client, part in zip(
            clients, divide(labels[positions], spec, len(clients), generator), strict=True
        ):
            parts[client] = positions[part]
    return parts


def _as_held(dataset: Dataset, n_clients: int) -> list[Positions]:
    """The members that each client of the data holds."""
    assert dataset.clients is not None
    names = dataset.client_names
    if len(names) != n_clients:
        raise DataError(
            "n_clients is not the number of clients in the data",
            got=f"n_clients={n_clients}",
            expected=f"{len(names)}: {', '.join(names)}",
            fix="leave n_clients out, or set it to that",
        )
    holders = dataset.clients[dataset.member_idx].numpy()
    return [np.flatnonzero(holders == client).astype(np.int64) for client in range(n_clients)]


def _check(parts: Sequence[Positions], spec: PartitionSpec, n_clients: int, n_members: int) -> None:
    """Hold every partitioner, a plugin's too, to its promise."""
    everyone = np.sort(np.concatenate(parts)) if parts else np.empty(0, dtype=np.int64)
    if len(parts) != n_clients or not np.array_equal(everyone, np.arange(n_members)):
        raise DataError(
            f"partitioner {spec.kind!r} did not give every member to exactly one client",
            got=f"{len(everyone)} records for {len(parts)} clients",
            expected=f"{n_members} for {n_clients}",
        )
    fewest = min(len(part) for part in parts)
    if fewest < spec.min_records:
        raise DataError(
            f"partition {spec.kind!r} leaves a client with fewer than min_records",
            got=f"{fewest} records",
            expected=f"at least {spec.min_records}",
            fix="lower min_records or the number of clients, or raise members or classes_per_client",
        )

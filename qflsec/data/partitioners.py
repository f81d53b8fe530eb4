"""The ways of spreading labelled records over clients: IID, three kinds of skew, and as their files are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qflsec.base import ConfigError, DataError, finite, register

__all__ = ["PARTITIONERS", "PartitionSpec", "Partitioner", "Positions"]

Positions = NDArray[np.int64]


@finite
@dataclass(frozen=True, kw_only=True)
class PartitionSpec:
    """How the members are spread over the clients.

    Attributes:
        kind: A registered partitioner: ``"iid"``, ``"label-skew"``, ``"dirichlet"`` or ``"quantity-skew"``;
            ``"files"`` leaves every record with the client that the data name.
        alpha: Concentration of the Dirichlet distribution (``"dirichlet"``, ``"quantity-skew"``); small is
            uneven.
        classes_per_client: Classes that a client may hold (``"label-skew"``).
        min_records: Records that every client gets at least.
    """

    kind: str = "iid"
    alpha: float = 0.5
    classes_per_client: int = 1
    min_records: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.alpha < float("inf"):
            raise ConfigError("alpha of a partition must be positive", got=self.alpha)
        if self.classes_per_client < 1:
            raise ConfigError(
                "classes_per_client is too small", got=self.classes_per_client, expected="at least 1"
            )
        if self.min_records < 0:
            raise ConfigError("min_records is negative", got=self.min_records, expected="a count")

    def to_config(self) -> dict[str, Any]:
        """The specification with every default written out, as JSON types."""
        return asdict(self)


# Labels of the members, specification, number of clients, generator -> positions in the labels, per client.
Partitioner = Callable[[NDArray[np.int64], PartitionSpec, int, np.random.Generator], list[Positions]]


def iid(
    labels: NDArray[np.int64], _spec: PartitionSpec, n_clients: int, generator: np.random.Generator
) -> list[Positions]:
    """Shuffle and deal: sizes differ by one at most."""
    return list(np.array_split(generator.permutation(len(labels)), n_clients))


def label_skew(
    labels: NDArray[np.int64], spec: PartitionSpec, n_clients: int, generator: np.random.Generator
) -> list[Positions]:
    """Every client holds at most ``classes_per_client`` classes.

    Clients choose in random order the class with the most records per holder, and the holders of a class
    share its records evenly.

    Raises:
        DataError: The clients cannot hold that many classes, or cannot hold them all.

    Source:
        Li, Diao, Chen, He: Federated learning on non-IID data silos, ICDE 2022, section IV-B ("#C = k");
        the choice by records per holder is ours, so that clients come out about equal.
    """
    classes, counts = np.unique(labels, return_counts=True)
    k = spec.classes_per_client
    if k > len(classes):
        raise DataError(
            "classes_per_client exceeds the classes there are", got=k, expected=f"at most {len(classes)}"
        )
    if n_clients * k < len(classes):
        raise DataError(
            "some classes would have no client",
            got=f"{n_clients} clients x {k} classes",
            expected=f"at least {len(classes)}",
            fix="raise classes_per_client or the number of clients",
        )
    holders: list[list[int]] = [[] for _ in classes]
    for client in generator.permutation(n_clients).tolist():
        held = np.array([len(group) for group in holders])
        per_holder = np.where(held == 0, np.inf, counts / (held + 1))
        order = np.lexsort((generator.random(len(classes)), -per_holder))
        for choice in order[:k].tolist():
            holders[choice].append(client)
    parts: list[list[int]] = [[] for _ in range(n_clients)]
    for label, group in zip(classes, holders, strict=True):
        rows = generator.permutation(np.flatnonzero(labels == label))
        # The records left over by even sharing go to the holders that have least so far.
        group.sort(key=lambda client: (len(parts[client]), client))
        for client, share in zip(group, np.array_split(rows, len(group)), strict=True):
            parts[client].extend(share.tolist())
    return [np.array(part, dtype=np.int64) for part in parts]


def dirichlet(
    labels: NDArray[np.int64], spec: PartitionSpec, n_clients: int, generator: np.random.Generator
) -> list[Positions]:
    """Each class is divided over the clients in proportions drawn from Dir(alpha, ..., alpha).

    A client that then has fewer than ``min_records`` gets random records from the largest one.

    Source:
        Yurochkin et al.: Bayesian nonparametric federated learning of neural networks, ICML 2019, section 4;
        the topping up replaces the redrawing of later code, which need not end.
    """
    parts: list[list[int]] = [[] for _ in range(n_clients)]
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        shares = generator.dirichlet(np.full(n_clients, spec.alpha))
        cuts = np.rint(np.cumsum(shares)[:-1] * len(rows)).astype(np.int64)
        for part, share in zip(parts, np.split(rows, cuts), strict=True):
            part.extend(share.tolist())
    _top_up(parts, spec.min_records, generator)
    return [np.array(part, dtype=np.int64) for part in parts]


def _top_up(parts: list[list[int]], min_records: int, generator: np.random.Generator) -> None:
    """Move random records from the largest part until none is below ``min_records``; there must be enough."""
    for part in parts:
        while len(part) < min_records:
            donor = max(parts, key=len)
            part.append(donor.pop(int(generator.integers(len(donor)))))


def quantity_skew(
    labels: NDArray[np.int64], spec: PartitionSpec, n_clients: int, generator: np.random.Generator
) -> list[Positions]:
    """Sizes in proportions drawn from Dir(alpha, ..., alpha), above ``min_records`` each; classes mixed.

    Source:
        Li, Diao, Chen, He: Federated learning on non-IID data silos, ICDE 2022, section IV-D.
    """
    free = len(labels) - n_clients * spec.min_records
    shares = generator.dirichlet(np.full(n_clients, spec.alpha))
    sizes = spec.min_records + generator.multinomial(free, shares)
    return np.split(generator.permutation(len(labels)), np.cumsum(sizes)[:-1])


def files(
    _labels: NDArray[np.int64], _spec: PartitionSpec, _n_clients: int, _generator: np.random.Generator
) -> list[Positions]:
    """Every record stays with the client whose file it is in.

    Raises:
        DataError: The data do not say who holds a record; where they do, nothing is left to draw.
    """
    raise DataError(
        "partition 'files' needs data that say who holds each record",
        got="one file",
        fix='name a file for each client by a pattern, such as path = "clients/*.csv", or choose another kind',
    )


# The bundled partitioners are known here, so that using one does not import every plugin of the package.
PARTITIONERS: dict[str, Partitioner] = {
    "iid": iid,
    "label-skew": label_skew,
    "dirichlet": dirichlet,
    "quantity-skew": quantity_skew,
    "files": files,
}
for _name, _partitioner in PARTITIONERS.items():
    register("partition", _name)(_partitioner)

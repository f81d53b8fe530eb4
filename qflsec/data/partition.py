"""How the members are spread over the clients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import LongTensor

from qflsec.base import ConfigError, DataError, find, numpy_stream, register
from qflsec.data.loading import Dataset, as_long

__all__ = ["PartitionSpec", "Partitioner", "partition"]

Positions = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class PartitionSpec:
    """How the members are spread over the clients.

    Attributes:
        kind: A registered partitioner: ``"iid"``, ``"label-skew"``, ``"dirichlet"`` or ``"quantity-skew"``.
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
    divide: Partitioner = _BUNDLED.get(spec.kind) or find("partition", spec.kind)
    generator = numpy_stream(seed, "data", "partition", spec.kind)
    parts = divide(dataset.labels[members].numpy(), spec, n_clients, generator)
    return tuple(as_long(members.numpy()[np.sort(part)]) for part in parts)


@register("partition", "iid")
def iid(
    labels: NDArray[np.int64], _spec: PartitionSpec, n_clients: int, generator: np.random.Generator
) -> list[Positions]:
    """Shuffle and deal: sizes differ by one at most."""
    return list(np.array_split(generator.permutation(len(labels)), n_clients))


_BUNDLED: dict[str, Partitioner] = {"iid": iid}

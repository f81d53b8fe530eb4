"""Data sets, bundled and the user's own, preprocessing that says what it was fitted on, and partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qflsec.base.faces import lazily

if TYPE_CHECKING:
    from qflsec.data.holdings import Holdings, client_holdings
    from qflsec.data.loading import Dataset, as_long, load
    from qflsec.data.partitioners import PartitionSpec
    from qflsec.data.partitioning import partition
    from qflsec.data.people import equal_records, kinds_of_people
    from qflsec.data.raw import RawData
    from qflsec.data.spec import DataSpec

__all__ = [
    "DataSpec",
    "Dataset",
    "Holdings",
    "PartitionSpec",
    "RawData",
    "as_long",
    "client_holdings",
    "equal_records",
    "kinds_of_people",
    "load",
    "partition",
]

__getattr__, __dir__ = lazily(__name__)

"""The records of a pipeline: who holds which, and what is evaluated on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from qflsec.audit.check import Bench, Check, NotApplicable
from qflsec.audit.outcome import Finding
from qflsec.audit.parts import Array, Data
from qflsec.base import CheckCard, Source, register

__all__ = ["EmptyClients", "RecordsAtSeveralClients", "TestRecordsInTraining", "common_kind", "digests"]

_KAPOOR = Source(
    paper="Kapoor, Narayanan, Leakage and the reproducibility crisis in machine-learning-based science, Patterns 4",
    year=2023,
    where="table 1",
)

_DUPLICATES = 0.02
"""Of the evaluation: public data sets hold a few equal records, which a right split may part."""


def digests(features: Array, kind: np.dtype[Any]) -> list[bytes]:
    """A digest of the features of each record; -0 and 0 are the same.

    Args:
        features: The features.
        kind: The kind of number that they are compared as; :func:`common_kind` of all that are compared.

    Shapes:
        features: ``(n, ...)``.
    """
    if not len(features):
        return []
    rows = np.asarray(features, dtype=kind).reshape(len(features), -1)
    return [hashlib.sha256(row.tobytes()).digest() for row in np.ascontiguousarray(rows) + 0]


def common_kind(*held: Array) -> np.dtype[Any]:
    """The numbers that records are compared as: a copy in fewer digits is a copy, and whole numbers are not cut.

    Args:
        held: The features of everybody whose records are compared.
    """
    floats = [one.dtype for one in map(np.asarray, held) if one.dtype.kind == "f"]
    return min(floats, key=lambda kind: kind.itemsize, default=np.dtype(np.float64))


@register("check", "test-records-in-training")
class TestRecordsInTraining(Check):
    """Records of the evaluation that the model is trained on."""

    __test__ = False  # no test of ours, whatever its name begins with
    looks_at = Data
    card = CheckCard(
        name="test-records-in-training",
        idea="Compare every record of the evaluation with every training record.",
        source=_KAPOOR,
        title="the model is evaluated on records that it was trained on",
        severity="error",
        proves="Features of the records are equal, value by value, as numbers of the fewest digits that either side has.",
        cannot=("Near copies, such as rotated images, are not seen.",),
        consequence="Accuracy is told too high, by as much as the model remembers.",
        remedy="Split once, before anything else, and drop duplicates first.",
    )

    def run(self, part: Data, bench: Bench) -> Iterator[Finding]:
        """How many are in both."""
        if part.test is None:
            raise NotApplicable("the pipeline gives no records for evaluation")
        kind = common_kind(*(features for features, _ in (*part.clients, part.test)))
        train = {one for features, _ in part.clients for one in digests(features, kind)}
        test = digests(part.test[0], kind)
        both = [index for index, one in enumerate(test) if one in train]
        bench.measured.update({"records of evaluation": len(test), "of them in training": len(both)})
        if both:
            yield Finding(
                what=f"{len(both)} of {len(test)} records of the evaluation are training records",
                evidence={"both": len(both), "test": len(test)},
                severity="error" if len(both) > _DUPLICATES * len(test) else "warning",
                reproduction=f"record {both[0]} of the evaluation",
            )


@register("check", "records-at-several-clients")
class RecordsAtSeveralClients(Check):
    """Clients that hold the same records."""

    looks_at = Data
    card = CheckCard(
        name="records-at-several-clients",
        idea="Compare the clients' training records with each other.",
        source=_KAPOOR,
        title="clients hold the same records",
        severity="error",
        proves="Features of the records are equal, value by value, as numbers of the fewest digits that either side has.",
        cannot=("Records that several clients rightly hold are not told from a wrong split.",),
        consequence="A record counts once for each copy: its epsilon is multiplied, and anonymity among clients is lost.",
        remedy="Give each record to one client, or account for its copies.",
    )

    def run(self, part: Data, bench: Bench) -> Iterator[Finding]:
        """How many records are at more than one client."""
        if len(part.clients) == 1:
            raise NotApplicable("there is one client")
        kind = common_kind(*(features for features, _ in part.clients))
        held = [set(digests(features, kind)) for features, _ in part.clients]
        count: dict[bytes, int] = {}
        for one in held:
            for record in one:
                count[record] = count.get(record, 0) + 1
        shared = [n for n in count.values() if n > 1]
        bench.measured.update({"records": len(count), "at several clients": len(shared)})
        if not shared:
            return
        alike = len(set(map(frozenset, held))) == 1
        yield Finding(
            what="all clients hold the same records"
            if alike
            else f"{len(shared)} of {len(count)} records are at several clients, at up to {max(shared)}",
            evidence={"shared": len(shared), "records": len(count), "copies": max(shared)},
            severity="error" if alike or len(shared) > len(count) / 10 else "warning",
        )


@register("check", "empty-clients")
class EmptyClients(Check):
    """Clients without a record."""

    looks_at = Data
    card = CheckCard(
        name="empty-clients",
        idea="Count the training records of each client.",
        source=_KAPOOR,
        title="a client has no records",
        severity="warning",
        proves="The split leaves a client empty.",
        cannot=("What a client does without records is not run.",),
        consequence="Its update is that of nothing: a mean of an empty batch is NaN, and a weight of 0 may divide by 0.",
        remedy="Leave empty clients out of the round.",
    )

    def run(self, part: Data, bench: Bench) -> Iterator[Finding]:
        """Which clients are empty."""
        counts = [len(features) for features, _ in part.clients]
        bench.measured.update({"clients": len(counts), "fewest records": min(counts)})
        empty = [index for index, n in enumerate(counts) if not n]
        if empty:
            yield Finding(
                what=f"clients {empty[:10]} of {len(counts)} hold no record", evidence={"empty": len(empty)}
            )

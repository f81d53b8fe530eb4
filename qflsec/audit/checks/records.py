"""The records of a pipeline: who holds which, and what is evaluated on."""

from __future__ import annotations

from collections.abc import Iterator

from qflsec.audit.check import Bench, Check, NotApplicable
from qflsec.audit.outcome import Finding
from qflsec.audit.parts import Data
from qflsec.audit.same_records import HOW, copies, held_in
from qflsec.base import CheckCard, Source, register

__all__ = ["EmptyClients", "RecordsAtSeveralClients", "TestRecordsInTraining"]

_KAPOOR = Source(
    paper="Kapoor, Narayanan, Leakage and the reproducibility crisis in machine-learning-based science, Patterns 4",
    year=2023,
    where="table 1",
)

_DUPLICATES = 0.02
"""Of the evaluation: public data sets hold a few equal records, which a right split may part."""


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
        proves=f"Features of the records are equal, {HOW}.",
        cannot=("Near copies, such as rotated images, are not seen.",),
        consequence="Accuracy is told too high, by as much as the model remembers.",
        remedy="Split once, before anything else, and drop duplicates first.",
    )

    def run(self, part: Data, bench: Bench) -> Iterator[Finding]:
        """How many are in both."""
        if part.test is None:
            raise NotApplicable("the pipeline gives no records for evaluation")
        test, train = part.test[0], [features for features, _ in part.clients]
        if not any(map(len, train)) or not len(test):
            raise NotApplicable("the pipeline gives no training records, or none for evaluation")
        both = held_in(test, train).nonzero()[0].tolist()
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
        proves=f"Features of the records are equal, {HOW}.",
        cannot=("Records that several clients rightly hold are not told from a wrong split.",),
        consequence="A record counts once for each copy: its epsilon is multiplied, and anonymity among clients is lost.",
        remedy="Give each record to one client, or account for its copies.",
    )

    def run(self, part: Data, bench: Bench) -> Iterator[Finding]:
        """How many records are at more than one client."""
        if len(part.clients) == 1:
            raise NotApplicable("there is one client")
        count = [len(one) for one in copies([features for features, _ in part.clients])]
        if not count:
            raise NotApplicable("the pipeline gives no training records")
        shared = [n for n in count if n > 1]
        bench.measured.update({"records": len(count), "at several clients": len(shared)})
        if not shared:
            return
        alike = min(count) == len(part.clients)
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

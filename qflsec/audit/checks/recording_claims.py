"""What clients of a recorded app say of themselves, and what they are evaluated on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qflsec.audit.check import Bench, Check, NotApplicable
from qflsec.audit.flower.recording import SERVER, Recording, count_of
from qflsec.audit.outcome import Finding
from qflsec.base import CheckCard, Source, register

__all__ = ["DeclaredCounts", "EvaluatedOnTraining", "StatisticsInUpdates"]

_LITTLE = 0.05
_STATISTICS = ("running_mean", "running_var")
_LEAKAGE = Source(
    paper="Kapoor, Narayanan: Leakage and the reproducibility crisis in machine-learning-based science, Patterns, "
    "arXiv:2207.07048",
    year=2023,
    where="the kinds of leakage between data sets",
)


@register("check", "declared-counts")
class DeclaredCounts(Check):
    """The number of examples that a client states."""

    looks_at = Recording
    card = CheckCard(
        name="declared-counts",
        idea="Compare num-examples with the number of records that the client's gradients came from.",
        source=Source(
            paper="McMahan et al., Communication-efficient learning, arXiv:1602.05629",
            year=2017,
            where="algorithm 1, the weights n_k / n",
        ),
        title="clients state another number of examples than they train on",
        severity="warning",
        proves="The number that weighs the client's update is not that of its records.",
        cannot=("Records that are changed at random each time they are used cannot be counted.",),
        consequence="Clients weigh too much or too little in the average, so that it is not the model of all records.",
        remedy="State len(loader.dataset), not len(loader), and let the server bound what it is told.",
    )

    def run(self, part: Recording, bench: Bench) -> Iterator[Finding]:
        """Clients whose number is wrong, the first of them as the example."""
        wrong: list[tuple[int, float, int, int]] = []
        known = 0
        for node in part.nodes:
            records = len(part.trained_on(node))
            for index, seen in part.steps(node):
                sent = part.replies(index).get(node)
                stated = None if sent is None else count_of(sent)
                here = seen.rows(trained=True)
                if stated is None or not here:
                    continue
                batches = sum(batch.trained for batch in seen.batches)
                once = len(here) == sum(len(batch.rows) for batch in seen.batches if batch.trained)
                if records >= 2 * len(here) or (once and len(here) >= 2 * stated and stated != batches):
                    continue  # other records in every round or epoch: they are changed each time they are used
                known += 1
                if stated < records or (stated != records and stated == batches):
                    wrong.append((node, stated, records, batches))
        if not known:
            raise NotApplicable("no client states a number of examples, or torch showed no training")
        if wrong:
            node, stated, records, batches = wrong[0]
            what = f"client {node} states {stated:g} examples and trains on {records}"
            yield Finding(
                what=f"{what}{': it counts batches' if stated == batches else ''} ({len(wrong)} of {known} replies are so)",
                place=part.places.get("train"),
                evidence={"stated": stated, "records": records, "batches": batches, "replies": len(wrong)},
            )


@register("check", "recorded-evaluation")
class EvaluatedOnTraining(Check):
    """Training records in the evaluation."""

    looks_at = Recording
    card = CheckCard(
        name="recorded-evaluation",
        idea="Look for the digests of training records among those that clients and the server evaluate.",
        source=_LEAKAGE,
        title="the evaluation holds training records",
        severity="error",
        proves="The records that are counted were trained on by some client, equal in every feature as numbers of 32 bits.",
        cannot=(
            "Records that are changed at random each time they are used are not recognised.",
            "A scaler that was fitted on all records is not seen.",
        ),
        consequence="The accuracy that is reported is partly that of memory: on new records the model is worse.",
        remedy="Split before anything is trained, and evaluate on records that no client trains on.",
    )

    def run(self, part: Recording, bench: Bench) -> Iterator[Finding]:
        """Whoever evaluates training records, the worst of them."""
        trained = {row for node in part.nodes for row in part.trained_on(node)}
        shares: dict[int, tuple[int, int]] = {}
        for node in (SERVER, *part.nodes):
            rows = part.evaluated_on(node)
            if rows:
                shares[node] = (len(rows & trained), len(rows))
        if not trained or not shares:
            raise NotApplicable("torch showed no training, or no evaluation")
        node, (found, count) = max(shares.items(), key=lambda item: item[1][0] / item[1][1])
        bench.measured["largest share of training records in an evaluation"] = found / count
        if found:
            who = "the server" if node == SERVER else f"client {node}"
            yield Finding(
                what=f"{found} of the {count} records that {who} evaluates are training records",
                place=part.places.get("server" if node == SERVER else "evaluate"),
                evidence={"training_records": found, "evaluated": count},
                severity="error" if found >= _LITTLE * count else "warning",
            )


@register("check", "statistics-in-updates")
class StatisticsInUpdates(Check):
    """Batch normalisation's means and variances in the messages."""

    looks_at = Recording
    card = CheckCard(
        name="statistics-in-updates",
        idea="Look for running means and variances among the arrays that clients send.",
        source=Source(
            paper="Ioffe, Szegedy: Batch normalization, arXiv:1502.03167", year=2015, where="section 3.1"
        ),
        title="clients send statistics of their records",
        severity="warning",
        proves="Means and variances of activations of a client's records stand in its messages.",
        cannot=("Statistics under another name than torch gives them are not found.",),
        consequence="They are released beside the update, and no gradient clipping or noise on gradients covers them.",
        remedy="Use GroupNorm or LayerNorm, or keep the statistics at the client.",
    )

    def run(self, part: Recording, bench: Bench) -> Iterator[Finding]:
        """Arrays that change and are statistics, by torch's names."""
        if part.module is None:
            raise NotApplicable("no torch module has the arrays of the messages")
        names = _array_names(part)
        first = part.replies(1)
        if not names or not first:
            raise NotApplicable("the arrays of the messages are not the module's whole state")
        sent = next(iter(first.values()))
        found = [
            name
            for name, value in zip(names, sent.arrays.values(), strict=True)
            if name.rpartition(".")[2] in _STATISTICS and len(np.unique(value)) > 1
        ]
        if found:
            yield Finding(
                what=f"{len(found)} arrays of each update are statistics of the client's records, such as {found[0]}",
                place=part.places.get("train"),
                evidence={"arrays": len(found), "of": len(names)},
            )


def _array_names(part: Recording) -> list[str]:
    """The module's names of the arrays; empty where they are not its whole state."""
    names = list(part.module.state_dict())
    first = part.replies(1)
    return names if first and len(next(iter(first.values())).arrays) == len(names) else []

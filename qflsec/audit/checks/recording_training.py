"""What clients of a recorded app train on, and whether they train at all."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qflsec.audit.check import Bench, Check, NotApplicable
from qflsec.audit.flower.recording import Recording, as_vector
from qflsec.audit.outcome import Finding
from qflsec.base import CheckCard, Source, register

__all__ = ["NothingTrains", "OnePartition", "SharedRecords"]

_STILL = 1e-9
_MANY = 0.05


@register("check", "nothing-trains")
class NothingTrains(Check):
    """Updates that are zero."""

    looks_at = Recording
    card = CheckCard(
        name="nothing-trains",
        idea="Compare what each client sends with the model that it got, round by round.",
        source=Source(
            paper="PyTorch documentation, torch.optim", year=2025, where="constructing an optimiser"
        ),
        title="clients send back the model that they got",
        severity="error",
        proves="In the rounds that are named no client's training changed the model.",
        cannot=("A model that trains a part of its parameters alone is not found.",),
        consequence="Rounds after the first are lost: the curve that is reported is that of one round, or of none.",
        remedy="Load the received values into the tensors that the optimiser holds, or make the optimiser after loading.",
    )

    def run(self, part: Recording, bench: Bench) -> Iterator[Finding]:
        """Rounds in which nobody's update moves anything."""
        moved = {index: _moved(part, index) for index in range(1, part.rounds + 1)}
        known = {index: size for index, size in moved.items() if size is not None}
        if not known:
            raise NotApplicable("no update can be read beside the model that it starts from")
        bench.measured.update(
            {f"longest update of round {index}": float(size) for index, size in known.items()}
        )
        still = [index for index, size in known.items() if size <= _STILL]
        if still:
            stray = sum(
                not step.moves_model
                for node in part.nodes
                for _, seen in part.steps(node)
                for step in seen.steps
            )
            steps = sum(len(seen.steps) for node in part.nodes for _, seen in part.steps(node))
            why = f"; {stray} of {steps} optimiser steps held no parameter of the model" if stray else ""
            yield Finding(
                what=f"in round{'s' * (len(still) > 1)} {', '.join(map(str, still))} of {part.rounds} every client sends the "
                f"model that it got{why}",
                place=part.places.get("train"),
                evidence={"rounds_without_training": len(still), "rounds": part.rounds, "stray_steps": stray},
            )


def _moved(part: Recording, index: int) -> float | None:
    """The longest update of a round in lengths of the model; None where none can be read."""
    sizes = [float(np.linalg.norm(as_vector(update))) for update in part.updates(index).values()]
    return max(sizes) / (1e-12 + float(np.linalg.norm(as_vector(part.model(index))))) if sizes else None


def _known(part: Recording) -> dict[int, set[bytes]]:
    """The training records of each client of which torch showed some."""
    found = {node: part.trained_on(node) for node in part.nodes}
    found = {node: rows for node, rows in found.items() if rows}
    if len(found) < 2:
        raise NotApplicable("torch showed the training records of fewer than two clients")
    return found


@register("check", "one-partition")
class OnePartition(Check):
    """All clients on the same records."""

    looks_at = Recording
    card = CheckCard(
        name="one-partition",
        idea="Compare the digests of the records that each client's gradients came from.",
        source=Source(
            paper="McMahan et al., Communication-efficient learning, arXiv:1602.05629",
            year=2017,
            where="section 1, federated optimisation",
        ),
        title="all clients train on the same records",
        severity="error",
        proves="Every gradient of every client came from one and the same set of records.",
        cannot=("Records that are changed at random each time they are used are not recognised.",),
        consequence="What is reported as federated learning is one client's training, and its accuracy says nothing of many.",
        remedy="Choose the partition by node_config['partition-id'], and let no exception fall back to the first one.",
    )

    def run(self, part: Recording, bench: Bench) -> Iterator[Finding]:
        """Whether the clients' sets are one."""
        held = _known(part)
        bench.measured.update({f"records of client {node}": len(rows) for node, rows in held.items()})
        if len(set(map(frozenset, held.values()))) == 1:
            (rows,) = set(map(frozenset, held.values()))
            yield Finding(
                what=f"{len(held)} of {part.n_nodes} clients train, all on the same {len(rows)} records",
                place=part.places.get("train"),
                evidence={"clients": len(held), "records": len(rows)},
            )


@register("check", "shared-records")
class SharedRecords(Check):
    """The same records at several clients."""

    looks_at = Recording
    card = CheckCard(
        name="shared-records",
        idea="Count the training records whose features are those of another client's record.",
        source=Source(
            paper="Kapoor, Narayanan: Leakage and the reproducibility crisis in machine-learning-based science, Patterns, "
            "arXiv:2207.07048",
            year=2023,
            where="the kinds of leakage between data sets",
        ),
        title="the same records are at several clients",
        severity="warning",
        proves="The records that are counted are at two clients or more, equal in every feature as numbers of 32 bits.",
        cannot=("Records that are changed at random each time they are used are not recognised.",),
        consequence="A guarantee for one record holds at one client: its epsilon is multiplied by the number of its copies.",
        remedy="Draw partitions without replacement, and drop duplicates before the data are split.",
    )

    def run(self, part: Recording, bench: Bench) -> Iterator[Finding]:
        """Records at two clients or more."""
        held = _known(part)
        copies: dict[bytes, int] = {}
        for rows in held.values():
            for row in rows:
                copies[row] = copies.get(row, 0) + 1
        shared = sum(count > 1 for count in copies.values())
        bench.measured["share of records at several clients"] = shared / len(copies)
        if shared and len(set(map(frozenset, held.values()))) > 1:
            yield Finding(
                what=f"{shared} of {len(copies)} records are at several clients, one at {max(copies.values())}",
                place=part.places.get("train"),
                evidence={"shared": shared, "records": len(copies), "copies": max(copies.values())},
                severity="warning" if shared >= _MANY * len(copies) else "note",
            )

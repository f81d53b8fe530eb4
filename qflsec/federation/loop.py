"""The training loop: broadcast, train, release, upload, aggregate and update, for a batch of runs.

All runs of a batch share pipeline and stack; they differ in seed and adversary. Numeric work is batched
over runs and clients; whatever has secrets, and the server's rule, works run by run and party by party.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from qflsec.base import IncompatibleStack
from qflsec.federation.adversary import Adversary
from qflsec.federation.calibration import calibrate_stack
from qflsec.federation.delegation import DelegationLayer
from qflsec.federation.pipeline import Pipeline
from qflsec.federation.round.batch import BatchRun
from qflsec.federation.round.delegations import check_delegation
from qflsec.federation.round.lanes import LaneData, chunks, lanes_per_batch, prepare_lane
from qflsec.federation.round.session import SecretsMode
from qflsec.federation.run import RunResult
from qflsec.federation.run_spec import RunSpec
from qflsec.federation.stack import Stack
from qflsec.threat import MessageKind, ThreatModel

__all__ = ["check_runs", "run_batch"]


def run_batch(
    pipeline: Pipeline,
    stack: Stack,
    runs: Sequence[RunSpec],
    *,
    lanes: Sequence[LaneData] | None = None,
    secrets: SecretsMode = "os",
    record: frozenset[MessageKind] | None = None,
    grant_honest_updates: bool = False,
    max_lanes: int | None = None,
) -> list[RunResult]:
    """Run a pipeline under one stack for several seeds and adversaries.

    A run's result does not depend, bit for bit, on which other runs share the call.

    Args:
        pipeline: The pipeline.
        stack: The stack.
        runs: What to run.
        lanes: The data and the first model of each run; those of the pipeline's data and the seed by default.
        secrets: ``"os"`` for real secrets; ``"seeded"`` for reproducible ones that protect nothing.
        record: The kinds of messages to keep; all by default.
        grant_honest_updates: Whether to keep honest updates for threat models that grant them.
        max_lanes: How many runs to compute side by side; chosen by the circuit's size by default.

    Returns:
        A result for each run, in the order asked for.

    Raises:
        ConfigError: An adversary cannot act under its threat model.
        IncompatibleStack: The pipeline and the stack do not fit.
        IncompatibleAttack: The pipeline and an adversary do not fit.
    """
    check_runs(pipeline, stack, runs)
    if lanes is None:
        drawn = {seed: prepare_lane(pipeline, seed) for seed in dict.fromkeys(run.seed for run in runs)}
        lanes = [drawn[run.seed] for run in runs]
    limit = max_lanes or lanes_per_batch(pipeline.model)
    results: dict[int, RunResult] = {}
    seeds = [run.seed for run in runs]
    for calibrated, positions in _batches(pipeline, stack, lanes, seeds, limit):
        started = time.process_time()
        batch = BatchRun(
            pipeline=pipeline,
            stack=calibrated,
            specs=[runs[position] for position in positions],
            lanes=[lanes[position] for position in positions],
            secrets=secrets,
            record=record,
            grant_honest_updates=grant_honest_updates,
        )
        batch.run()
        share = (time.process_time() - started) / len(positions)
        results.update(zip(positions, batch.results(cpu_seconds=share), strict=True))
    return [results[position] for position in range(len(runs))]


def _batches(
    pipeline: Pipeline, stack: Stack, lanes: Sequence[LaneData], seeds: Sequence[int], limit: int
) -> Iterator[tuple[Stack, list[int]]]:
    """Which runs share a batch: those of one calibrated stack, as many records, equal padding and the same turns."""
    groups: dict[tuple[Stack, int, int], list[int]] = {}
    for position, lane in enumerate(lanes):
        counts = [len(rows) for rows in lane.clients]
        # runs whose clients choose share their turns with no other
        turns = position if pipeline.topology.chosen else seeds[position] if pipeline.topology.drawn else 0
        place = calibrate_stack(stack, pipeline, counts), sum(counts), turns
        groups.setdefault(place, []).append(position)
    for (calibrated, _, _), members in groups.items():
        for part in chunks([lanes[position].padded for position in members], limit):
            yield calibrated, [members[index] for index in part]


def check_runs(pipeline: Pipeline, stack: Stack, runs: Sequence[RunSpec]) -> None:
    """Refuse what cannot run, before any data are loaded.

    Raises:
        ConfigError: An adversary cannot act under its threat model.
        IncompatibleStack: The pipeline and the stack do not fit.
        IncompatibleAttack: The pipeline and an adversary do not fit.
    """
    stack.check(pipeline)
    for run in runs:
        if run.threat is not None and run.adversary is not None:
            run.threat.check(pipeline.parties)
            run.adversary.corrupts(run.threat)
            _check_server(pipeline, run.adversary, run.threat)
            run.adversary.check(pipeline, run.threat)
    check_delegation([layer for layer in stack.client if isinstance(layer, DelegationLayer)], runs)


def _check_server(pipeline: Pipeline, adversary: Adversary, threat: ThreatModel) -> None:
    """A server that sends its own models needs clients that get theirs from it."""
    forges = threat.server and type(adversary).broadcast is not Adversary.broadcast
    if forges and pipeline.topology.name != "star":
        raise IncompatibleStack(
            "the adversary sends each client a model of its own, but the server does not send the models",
            got=f"clients that are connected as {pipeline.topology.words}",
            expected="a star",
        )

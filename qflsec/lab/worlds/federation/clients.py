"""What one run says of each of its clients, small enough to be stored."""

from __future__ import annotations

import math
from typing import Any

import torch

from qflsec.federation import RunResult

__all__ = ["client_facts"]

_MOST_CLIENTS, _MOST_ROUNDS, _MOST_DROPPED = 100, 200, 400


def client_facts(run: RunResult) -> dict[str, Any]:
    """Who was corrupted, whose updates counted in each round, whose did not and why, and what each sent and got.

    Args:
        run: A run that completed.

    Returns:
        JSON types: ``corrupted`` (clients), ``counted`` (for each round the clients), ``dropped`` (round, client and
        reason of each), ``norms`` (for each round, the L2 norm of what each client released, to four digits; None
        where it took no part, or sent no update or one without a finite norm), ``accuracy`` (of the final model on
        each client's own records; None without records); empty for runs of more clients or rounds than anybody
        reads line by line. Norms are the lab's own knowledge: a server may not see them, under masks for one.
    """
    if len(run.clients) > _MOST_CLIENTS or run.training.rounds > _MOST_ROUNDS:
        return {}
    threat = run.spec.threat if run.spec.adversary is not None else None
    participants = run.transcript.facts[run.lane].participants
    return {
        "corrupted": [] if threat is None else sorted(threat.clients),
        "counted": [sorted(participants[index]) for index in sorted(participants)],
        "dropped": [[drop.round, drop.client, drop.reason] for drop in run.dropped[:_MOST_DROPPED]],
        "norms": [[_norm(value) for value in row] for row in run.norms.tolist()],
        "accuracy": [_accuracy(run, index) for index in range(len(run.clients))],
    }


def _norm(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _accuracy(run: RunResult, index: int) -> float | None:
    """The share of a client's own training records that the model it ends with gets right."""
    records = run.client_records(index)
    if not len(records.labels):
        return None
    with torch.no_grad():
        guesses = run.pipeline.model(run.model_of(index), records.features).argmax(dim=-1)
    return round(float((guesses == records.labels).double().mean()), 4)

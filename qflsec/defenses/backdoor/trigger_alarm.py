"""An alarm on the sizes of found triggers, whose rate on clean models is set in advance by models that are known to be clean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from qflsec.base import ConfigError, IncompatibleStack
from qflsec.defenses.backdoor.trigger_search import search_triggers
from qflsec.federation import Adversary, Pipeline, RunSpec, Stack, run_batch
from qflsec.threat import ThreatModel

__all__ = ["TriggerAlarm", "clean_models", "trigger_sizes"]

_LANES = 16
"""Runs that are trained side by side."""


def clean_models(rate: float) -> int:
    """How many clean models an alarm of this rate needs at least.

    Args:
        rate: The share of clean models on which it may be raised.

    Raises:
        ConfigError: The rate is no share.
    """
    if not 0 < rate < 1:
        raise ConfigError("'rate' is a share", got=rate, expected="above 0 and below 1")
    # the smallest p-value is 1 / (c + 1), with c of the models in the second half
    return max(4, 2 * math.ceil(1 / rate - 1 - 1e-9) - 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class TriggerAlarm:
    """How small the smallest trigger of each class is on clean models, and how far below that their classes come by chance.

    Attributes:
        centre: The mean logarithm of each class's size over one half of the clean models.
        spread: Its standard deviation.
        clean: The largest score of each model of the other half, in order.
        rate: The share of clean models on which the alarm may be raised.

    Shapes:
        centre, spread: ``(K,)``; clean: ``(c,)``
    """

    centre: torch.Tensor
    spread: torch.Tensor
    clean: torch.Tensor
    rate: float

    @classmethod
    def calibrated(cls, sizes: torch.Tensor, *, rate: float = 0.05) -> TriggerAlarm:
        """From the sizes on models that are known to be clean.

        One half says what is usual, so that what is raised on the other half is as on any other clean model: a new one has a
        p-value of at most ``rate`` with that probability at most, over the drawing of all of them, whatever the sizes'
        distribution is.

        Args:
            sizes: For each clean model the size of the trigger of each class.
            rate: The share of clean models on which the alarm may be raised.

        Shapes:
            sizes: ``(m, K)``

        Raises:
            ConfigError: The rate is no share, a size is not positive, or there are too few models for the rate.

        Source:
            After the p-values of conformal prediction (Vovk, Gammerman, Shafer: Algorithmic learning in a random world, 2005): each
            of c + 1 exchangeable scores is as likely as any other to be among the k largest.
        """
        if sizes.ndim != 2 or not bool((sizes > 0).all()) or not bool(sizes.isfinite().all()):
            raise ConfigError("sizes of triggers are positive, a row for each model", got=tuple(sizes.shape))
        usual, others = sizes[: len(sizes) // 2], sizes[len(sizes) // 2 :]
        if len(sizes) < clean_models(rate):
            raise ConfigError(
                "too few clean models for this rate of false alarms",
                got=f"{len(sizes)} models, a rate of {rate:g}",
                expected=f"{clean_models(rate)} or more",
            )
        logs = usual.double().log()
        found = cls(centre=logs.mean(dim=0), spread=logs.std(dim=0), clean=torch.empty(0), rate=rate)
        clean = torch.stack([found.scores(row).max() for row in others]).sort().values
        return cls(centre=found.centre, spread=found.spread, clean=clean, rate=rate)

    def scores(self, sizes: torch.Tensor) -> torch.Tensor:
        """By how many standard deviations each class's size lies below what is usual, on a logarithmic scale.

        Shapes:
            sizes: ``(K,)``; returns the same, double
        """
        below = self.centre - sizes.double().log()
        return torch.where(below == 0, 0.0, below / self.spread)

    def p_values(self, sizes: torch.Tensor) -> torch.Tensor:
        """For each class the share of clean models with a class as far below, this model counted with them.

        Shapes:
            sizes: ``(K,)``; returns the same, double
        """
        as_far = (self.clean >= self.scores(sizes)[:, None]).sum(dim=1)
        return (1.0 + as_far.double()) / (len(self.clean) + 1)

    def suspected(self, sizes: torch.Tensor) -> tuple[int, ...]:
        """The classes that raise the alarm; none on a clean model, but for the rate.

        Shapes:
            sizes: ``(K,)``
        """
        # a product that is rounded must not turn a p-value of exactly the rate away
        return tuple(torch.nonzero(self.p_values(sizes) <= self.rate * (1 + 1e-12)).flatten().tolist())


def trigger_sizes(
    pipeline: Pipeline,
    stack: Stack,
    seeds: Sequence[int],
    *,
    records: int = 50,
    adversary: Adversary | None = None,
    threat: ThreatModel | None = None,
) -> torch.Tensor:
    """Train a model for each seed and search it for triggers, with records of the auxiliary split that the server holds.

    Args:
        pipeline: The pipeline.
        stack: The layers.
        seeds: One run for each.
        records: How many records the server holds, at most.
        adversary: Who manipulates the runs; None for clean models.
        threat: The threat model, beside an adversary.

    Shapes:
        returns: ``(runs, K)``

    Raises:
        ConfigError: The server would have no record, or a run left no final model.
        IncompatibleStack: Clients keep a part of the model, or one of their own, so that there is no one model to search.
    """
    if pipeline.kept:
        raise IncompatibleStack(
            "the search takes one model at the server, but clients keep something to themselves",
            got=pipeline.kept,
            fix="leave out 'personal' and 'own_models'",
        )
    held = min(records, pipeline.data.auxiliary)
    if held < 1:
        raise ConfigError(
            "the search needs clean records of the server",
            got=f"{records} of {pipeline.data.auxiliary} auxiliary ones",
            expected="1 or more",
            fix="raise 'auxiliary' of the data",
        )
    runs = [
        RunSpec(seed=seed, evaluate="never")
        if adversary is None or threat is None
        else RunSpec(seed=seed, evaluate="never", adversary=adversary, threat=threat.at(seed))
        for seed in seeds
    ]
    sizes = []
    for begin in range(0, len(runs), _LANES):
        for run in run_batch(pipeline, stack, runs[begin : begin + _LANES]):
            if run.outcome != "completed":
                raise ConfigError(
                    "a run ended before its last round, so that there is no model to search",
                    got=f"seed {run.spec.seed}: {run.outcome}",
                    fix="name another stack or other seeds",
                )
            found = search_triggers(
                pipeline.model,
                run.params,
                run.records("auxiliary").features[:held],
                feature_range=run.feature_range,
            )
            sizes.append(torch.tensor([one.size for one in found], dtype=torch.float64))
    return torch.stack(sizes)

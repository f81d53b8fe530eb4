"""Shadow models: the pipeline, trained on records of somebody's choice."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from qflsec.base import ConfigError, stream_seed
from qflsec.data import Dataset, as_long
from qflsec.federation.loop import run_batch
from qflsec.federation.pipeline import Pipeline
from qflsec.federation.round.lanes import lane_of
from qflsec.federation.run import RunResult
from qflsec.federation.run_spec import RunSpec
from qflsec.federation.stack import Stack
from qflsec.threat import Records

__all__ = ["ShadowTrainer"]

_NO_ROWS = as_long(np.zeros(0, dtype=np.int64))


@dataclass(frozen=True, kw_only=True, eq=False)
class ShadowTrainer:
    """Trains models as a pipeline does: same partition, same circuit, same rounds; its own seeds.

    Where the files of clients are the partition, shadow models spread records evenly over as many clients.

    Whoever knows the pipeline, which is public, can do the same. No secret of a run is in it, and none of its
    records: the caller brings the records.

    Attributes:
        pipeline: The pipeline.
        like: A data set of the pipeline, of which only the description is used.
        seed: The seed; each model has one of its own, derived from it.
    """

    pipeline: Pipeline
    like: Dataset
    seed: int

    def __call__(self, pool: Records, members: torch.Tensor, defenses: Stack | None = None) -> torch.Tensor:
        """The final parameters of one model for each training set.

        Args:
            pool: Records.
            members: Which of them each model is trained on.
            defenses: The defenses in place; None trains without any.

        Raises:
            ConfigError: A training set is empty, or the members do not match the pool.
            IncompatibleStack: The defenses and the pipeline do not fit.

        Shapes:
            members: ``(s, n)``, boolean; returns: ``(s, P)``
        """
        return torch.stack([run.params for run in self._runs(pool, members, defenses, trace=False)])

    def trace(self, pool: Records, members: torch.Tensor, defenses: Stack | None = None) -> torch.Tensor:
        """The first model and that after every round, of one training for each training set; the last are the same.

        Args:
            pool: Records.
            members: Which of them each model is trained on.
            defenses: The defenses in place; None trains without any.

        Raises:
            ConfigError: A training set is empty, or the members do not match the pool.
            IncompatibleStack: The defenses and the pipeline do not fit.

        Shapes:
            members: ``(s, n)``, boolean; returns: ``(s, round + 1, P)``
        """
        return torch.stack([run.trace for run in self._runs(pool, members, defenses, trace=True)])

    def _runs(
        self, pool: Records, members: torch.Tensor, defenses: Stack | None, *, trace: bool
    ) -> list[RunResult]:
        if members.dim() != 2 or members.shape[1] != len(pool.labels) or not bool(members.any(dim=1).all()):
            raise ConfigError(
                "each shadow model needs a training set from the pool",
                got=f"members of shape {tuple(members.shape)} for {len(pool.labels)} records",
                expected="a boolean row for each model, with a record in it",
            )
        pipeline = self.pipeline
        if pipeline.partition.kind == "files":  # nobody tells the adversary whose a record is
            pipeline = replace(pipeline, partition=replace(pipeline.partition, kind="iid"))
        seeds = [stream_seed(self.seed, "shadow", index) for index in range(len(members))]
        lanes = [lane_of(pipeline, self._data(pool, row), s) for row, s in zip(members, seeds, strict=True)]
        runs = run_batch(
            pipeline,
            Stack(name="none") if defenses is None else defenses,
            [RunSpec(seed=s, evaluate="never", trace=trace) for s in seeds],
            lanes=lanes,
            record=frozenset(),
            secrets="seeded",
        )
        if lost := [run.outcome for run in runs if run.outcome != "completed"]:
            raise ConfigError("a shadow model could not be trained", got=lost[0])
        return runs

    def _data(self, pool: Records, members: torch.Tensor) -> Dataset:
        return replace(
            self.like,
            features=pool.features,
            labels=as_long(pool.labels.numpy()),
            member_idx=as_long(np.flatnonzero(members.numpy())),
            nonmember_idx=_NO_ROWS,
            auxiliary_idx=_NO_ROWS,
            test_idx=_NO_ROWS,
            canary_idx=_NO_ROWS,
            source_rows=as_long(np.arange(len(pool.labels))),
            persons=None,
            clients=None,
            holdings=None,
        )

"""The server's half of a round: bounds, rule and noise."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from qflsec.base import UpdateError, stream
from qflsec.federation.pipeline import Pipeline
from qflsec.federation.round.lanes import LaneData
from qflsec.federation.round.opened import Opened
from qflsec.federation.round.root import RootTraining, Validation
from qflsec.federation.stack import Stack
from qflsec.federation.updates import RoundUpdates, SummedUpdates

__all__ = ["Server"]


class Server:
    """The servers of a batch of runs, one for each run.

    Args:
        stack: The stack.
        pipeline: The pipeline.
        seeds: The seed of each run.
        lanes: The data of the runs, of which the servers hold the auxiliary records, where a layer asks for some.
    """

    def __init__(
        self, *, stack: Stack, pipeline: Pipeline, seeds: Sequence[int], lanes: Sequence[LaneData]
    ) -> None:
        self._stack = stack
        self._pipeline = pipeline
        self._seeds = tuple(seeds)
        records = stack.rule.root_records
        self._root = (
            RootTraining(pipeline=pipeline, lanes=lanes, seeds=seeds, records=records) if records else None
        )
        checked = max((bound.validation_records for bound in stack.bounds), default=0)
        self._validation = Validation(pipeline.model, lanes, checked) if checked else None
        self._periods = pipeline.sharing.of_shared(pipeline.model.periods)
        nodes = range(pipeline.topology.nodes(pipeline.federation.n_clients))
        self._states = [[stack.rule.start(pipeline.sharing.n_shared) for _ in nodes] for _ in seeds]

    def step(
        self, lane: int, round_index: int, opened: Opened, params: torch.Tensor, node: int = 0
    ) -> torch.Tensor:
        """What to add to the model of one run, before the server's learning rate.

        Args:
            lane: The run's place in the batch.
            round_index: The round.
            opened: What the server could open.
            params: The broadcast model.
            node: Which of the run's models it is.

        Raises:
            UpdateError: The step, or the model after it, is not finite.

        Shapes:
            params: ``(P,)``; returns: ``(P,)``
        """
        batch = self._batch(lane, round_index, opened, params, node)
        if isinstance(batch, RoundUpdates) and opened.ids:
            for layer in self._stack.bounds:
                batch = layer.bound(batch)
        step = torch.zeros_like(params)
        uploaded = self._pipeline.uploaded
        if opened.ids or self._stack.rule.acts_on_nobody:
            rule, states = self._stack.rule, self._states[lane]
            step, states[node] = rule.aggregate(batch, states[node])
        if uploaded is not None and opened.metrics is not None and opened.ids:
            step = uploaded.step(step, opened.metrics, opened.counts)
        for noise in self._stack.noises:
            step = noise.perturb(step, batch)
        if not bool(torch.isfinite(params + self._pipeline.federation.server_learning_rate * step).all()):
            raise UpdateError(
                f"the server's step of round {round_index} leaves a model that is not finite",
                got="NaN or infinity",
                fix="lower the learning rate",
            )
        return step

    def _batch(
        self, lane: int, round_index: int, opened: Opened, params: torch.Tensor, node: int
    ) -> RoundUpdates | SummedUpdates:
        place = (round_index,) if node == 0 else (round_index, node)
        generator = stream(self._seeds[lane], "rule", *place)
        f = max(0, self._pipeline.federation.declared_corrupted - len(opened.malformed))
        if opened.updates is not None and opened.counts is not None:
            return RoundUpdates(
                round=round_index,
                updates=opened.updates,
                counts=opened.counts,
                ids=opened.ids,
                broadcast=params,
                periods=self._periods,
                f=f,
                generator=generator,
                trusted=None if self._root is None else self._root(lane, round_index, params),
                validation=None if self._validation is None else partial(self._validation, lane),
                reports=opened.reports,
                sent=opened.sent,
            )
        if opened.groups:
            return RoundUpdates(
                round=round_index,
                updates=torch.stack([group.mean.to(params) for group in opened.groups]),
                counts=torch.tensor([group.weight for group in opened.groups]).to(params),
                ids=tuple(range(len(opened.groups))),
                broadcast=params,
                periods=self._periods,
                f=f,
                generator=generator,
                groups=tuple(group.members for group in opened.groups),
            )
        assert opened.mean is not None
        return SummedUpdates(
            round=round_index,
            mean=opened.mean,
            weight=opened.weight,
            ids=opened.ids,
            broadcast=params,
            generator=generator,
        )

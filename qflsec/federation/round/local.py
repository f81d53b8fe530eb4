"""Local training: what every client does with its own records in one round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from qflsec.federation.config import FederationConfig
from qflsec.federation.layers import GradientLayer
from qflsec.federation.pipeline import Pipeline
from qflsec.federation.round.delegations import Delegations
from qflsec.federation.round.optimiser import Optimiser, OptimiserState
from qflsec.federation.streams import RoundStreams
from qflsec.models import Execution, Model, gradients_and_losses

__all__ = ["BatchStep", "ClientData", "LocalTraining", "plan_batches"]


@dataclass(frozen=True, kw_only=True)
class ClientData:
    """The padded records of the clients of a batch.

    Shapes:
        features: ``(lane, client, N, F)``; labels: ``(lane, client, N)``; mask: ``(lane, client, N)``
    """

    features: torch.Tensor
    labels: torch.Tensor
    mask: torch.Tensor

    def at(self, lanes: Sequence[int], clients: Sequence[int]) -> ClientData:
        """The records of some clients of some lanes."""
        pick = _pick(lanes, clients)
        return ClientData(features=self.features[pick], labels=self.labels[pick], mask=self.mask[pick])


@dataclass(frozen=True, kw_only=True)
class BatchStep:
    """Which records one local step uses.

    Attributes:
        index: Their positions; None for all.
        mask: 1 for a used record.
        expected: The expected number of used records; 0 where the client makes no step.

    Shapes:
        index: ``(lane, client, B)``; mask: ``(lane, client, B)``; expected: ``(lane, client)``
    """

    index: torch.Tensor | None
    mask: torch.Tensor
    expected: torch.Tensor

    def at(self, lanes: Sequence[int], clients: Sequence[int]) -> BatchStep:
        """The step of some clients of some lanes."""
        pick = _pick(lanes, clients)
        index = None if self.index is None else self.index[pick]
        return BatchStep(index=index, mask=self.mask[pick], expected=self.expected[pick])

    def select(self, data: ClientData) -> tuple[torch.Tensor, torch.Tensor]:
        """Features and labels of the step."""
        if self.index is None:
            return data.features, data.labels
        wide = self.index[..., None].expand(*self.index.shape, data.features.shape[-1])
        return torch.gather(data.features, 2, wide), torch.gather(data.labels, 2, self.index)


def _pick(lanes: Sequence[int], clients: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(list(lanes))[:, None], torch.tensor(list(clients))[None, :]


def plan_batches(data: ClientData, config: FederationConfig, streams: RoundStreams) -> list[BatchStep]:
    """The batches of a round, drawn from each run's own stream.

    Args:
        data: The clients' records.
        config: How batches are drawn.
        streams: The streams of the round.
    """
    counts = data.mask.sum(dim=-1)
    size = config.batch_size or 1
    match config.batches:
        case "full":
            return [BatchStep(index=None, mask=data.mask, expected=counts)] * config.uses
        case "poisson":
            rate = (size / counts).clamp(max=1.0)
            draws = [_draws(data, streams) for _ in range(config.local_steps)]
            masks = [data.mask * (drawn < rate[..., None]) for drawn in draws]
            return [BatchStep(index=None, mask=mask, expected=rate * counts) for mask in masks]
        case "fixed":
            orders = [_order(data, streams) for _ in range(config.local_steps)]
            return [_batch(data, order[..., : min(size, order.shape[-1])]) for order in orders]
    # The number of steps follows from the padded number of records, which is the same for all runs of a batch: clients
    # with fewer records make no step in the last ones, and streams that steps draw from stay in place.
    orders = [_order(data, streams) for _ in range(config.uses)]
    return [_batch(data, part) for order in orders for part in torch.split(order, size, dim=-1)]


def _draws(data: ClientData, streams: RoundStreams) -> torch.Tensor:
    return streams.uniform("batches", data.mask.shape[1:]).to(data.mask.device)


def _order(data: ClientData, streams: RoundStreams) -> torch.Tensor:
    """A random order of each client's records; padding comes last."""
    return torch.argsort(_draws(data, streams) + 2.0 * (1.0 - data.mask), dim=-1, stable=True)


def _batch(data: ClientData, index: torch.Tensor) -> BatchStep:
    mask = torch.gather(data.mask, 2, index)
    return BatchStep(index=index, mask=mask, expected=mask.sum(dim=-1))


@dataclass(frozen=True, kw_only=True)
class LocalTraining:
    """Local training of a pipeline, with the stack's layer inside it.

    Attributes:
        pipeline: The pipeline.
        layer: The layer on per-sample gradients, if any.
        delegations: Whom the clients have their circuits executed by; nobody else by default.
    """

    pipeline: Pipeline
    layer: GradientLayer | None = None
    delegations: Delegations | None = None

    def __call__(
        self,
        params: torch.Tensor,
        data: ClientData,
        plan: Sequence[BatchStep],
        streams: RoundStreams,
        clients: Sequence[int],
        *,
        purpose: str = "shots",
        lanes: Sequence[int] | None = None,
        state: OptimiserState | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, OptimiserState]:
        """Train every client from its received model.

        Args:
            params: The received models.
            data: The clients' records.
            plan: The batches.
            streams: The streams of the round.
            clients: The indices of the clients on the second axis.
            purpose: The stream that measurement outcomes are drawn from.
            lanes: The positions of these lanes in ``streams``; all by default.
            state: The clients' optimisers; fresh ones by default.

        Returns:
            The updates, the mean training losses before the first step, and the optimisers after the last.

        Shapes:
            params: ``(lane, client, P)``; returns ``(lane, client, P)`` and ``(lane, client)``
        """
        where = list(range(params.shape[0])) if lanes is None else list(lanes)
        config = self.pipeline.federation
        optimiser = Optimiser(config=config, sharing=self.pipeline.sharing, round=streams.round)
        current, kept = params, OptimiserState.fresh(config, params) if state is None else state
        first_loss: torch.Tensor | None = None
        for step in plan:
            gradient, loss = self._gradient(current, data, step, streams, clients, purpose, where)
            first_loss = loss if first_loss is None else first_loss
            current, kept = optimiser.step(kept, current, gradient, params, step.expected > 0)
        assert first_loss is not None
        return current - params, first_loss, kept

    def _gradient(
        self,
        params: torch.Tensor,
        data: ClientData,
        step: BatchStep,
        streams: RoundStreams,
        clients: Sequence[int],
        purpose: str,
        lanes: Sequence[int],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        features, labels = step.select(data)
        raw, loss = self._raw(params, features, labels, step.mask, streams, clients, purpose, lanes)
        if self.layer is not None:
            return self.layer.gradient(raw, step.mask, step.expected, streams), loss
        return raw, loss

    def _raw(
        self,
        params: torch.Tensor,
        features: torch.Tensor,
        labels: torch.Tensor,
        mask: torch.Tensor,
        streams: RoundStreams,
        clients: Sequence[int],
        purpose: str,
        lanes: Sequence[int],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients before the layer, and mean losses."""
        if self.delegations is not None:
            return self.delegations.gradients(
                params, features, labels, mask, per_sample=self.layer is not None
            )
        groups: dict[Execution, list[int]] = {}
        for position, index in enumerate(clients):
            groups.setdefault(self.pipeline.execution_of(index), []).append(position)
        parts = []
        for execution, positions in groups.items():
            chosen = slice(None) if len(groups) == 1 else positions
            parts.append(
                self._group_gradient(
                    params[:, chosen],
                    features[:, chosen],
                    labels[:, chosen],
                    mask[:, chosen],
                    execution,
                    streams,
                    purpose,
                    lanes,
                )
            )
        if len(groups) == 1:
            return parts[0]
        order = torch.argsort(torch.tensor([p for positions in groups.values() for p in positions]))
        raw = torch.cat([part[0] for part in parts], dim=1)[:, order]
        return raw, torch.cat([part[1] for part in parts], dim=1)[:, order]

    def _group_gradient(
        self,
        params: torch.Tensor,
        features: torch.Tensor,
        labels: torch.Tensor,
        mask: torch.Tensor,
        execution: Execution,
        streams: RoundStreams,
        purpose: str,
        lanes: Sequence[int],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients of clients with one execution: per sample where a layer needs them, else of the mean."""
        if execution.shots is None:
            return self._differentiate(params, features, labels, mask, execution, None)
        # outcomes of a run come from that run's own stream
        results = [
            self._differentiate(
                params[row : row + 1],
                features[row : row + 1],
                labels[row : row + 1],
                mask[row : row + 1],
                execution,
                streams.generator(lane, purpose),
            )
            for row, lane in enumerate(lanes)
        ]
        return torch.cat([r[0] for r in results]), torch.cat([r[1] for r in results])

    def _differentiate(
        self,
        params: torch.Tensor,
        features: torch.Tensor,
        labels: torch.Tensor,
        mask: torch.Tensor,
        execution: Execution,
        generator: torch.Generator | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        model = self.pipeline.model
        if self.layer is not None:
            # one evaluation for both: with shots, every other one would use up more copies of the records
            gradients, losses = gradients_and_losses(
                model, params[..., None, :], features, labels, execution=execution, generator=generator
            )
            return gradients, _masked_mean(losses, mask)
        leaf = params.detach().requires_grad_()
        loss = _mean_loss(model, leaf, features, labels, mask, execution, generator)
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        return gradient, loss.detach()


def _mean_loss(
    model: Model,
    params: torch.Tensor,
    features: torch.Tensor,
    labels: torch.Tensor,
    mask: torch.Tensor,
    execution: Execution,
    generator: torch.Generator | None,
) -> torch.Tensor:
    logits = model(params[..., None, :], features, execution=execution, generator=generator)
    return _masked_mean(model.loss.per_sample(logits, labels), mask)


def _masked_mean(losses: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (losses * mask).sum(dim=-1) / mask.sum(dim=-1).clamp(min=1.0)

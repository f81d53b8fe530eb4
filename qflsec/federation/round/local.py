"""Local training: what every client does with its own records in one round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from qflsec.circuits import fubini_study
from qflsec.federation.gradient_layers import GradientLayer
from qflsec.federation.pipeline import Pipeline
from qflsec.federation.record_layers import RecordLayer
from qflsec.federation.round.batches import BatchStep, ClientData
from qflsec.federation.round.delegations import Delegations
from qflsec.federation.round.optimiser import Optimiser, OptimiserState
from qflsec.federation.round.whole import is_plain, train_whole
from qflsec.federation.streams import RoundStreams
from qflsec.models import Execution, Model, gradients_and_losses
from qflsec.models.natural_gradient import mean_metric, metric_circuit, precondition

__all__ = ["LocalTraining"]


@dataclass(frozen=True, kw_only=True)
class LocalTraining:
    """Local training of a pipeline, with the stack's layer inside it.

    Attributes:
        pipeline: The pipeline.
        layer: The layer on per-sample gradients, if any.
        delegations: Whom the clients have their circuits executed by; nobody else by default.
        records: The layer on the records of every step, if any.
    """

    pipeline: Pipeline
    layer: GradientLayer | None = None
    delegations: Delegations | None = None
    records: RecordLayer | None = None

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
        if self.delegations is None and self.records is None and (lanes is None or self.layer is None):
            plain = is_plain(self.pipeline, self.layer, clients)
            if plain is not None and _on_cpu(params, data):
                kept = OptimiserState.fresh(config, params) if state is None else state
                return train_whole(plain, self.pipeline, self.layer, params, data, plan, streams, kept)
        optimiser = Optimiser(config=config, sharing=self.pipeline.sharing, round=streams.round)
        current, kept = params, OptimiserState.fresh(config, params) if state is None else state
        first_loss: torch.Tensor | None = None
        factors = self._factors(clients, params)
        for step in plan:
            gradient, loss = self._gradient(current, data, step, streams, clients, purpose, where)
            first_loss = loss if first_loss is None else first_loss
            active = (step.expected > 0) & (factors > 0)
            current, kept = optimiser.step(kept, current, gradient, params, active, factors)
        assert first_loss is not None
        return current - params, first_loss, kept

    def _factors(self, clients: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        """What each client multiplies its learning rate by: ``(client,)``."""
        return like.new_tensor([self.pipeline.factors[index] for index in clients])

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
        if self.records is not None:
            features = self.records.records(self.pipeline, params, features, labels, clients)
        raw, loss = self._raw(params, features, labels, step.mask, streams, clients, purpose, lanes)
        # before the layer, which bounds and blurs what this may have enlarged
        raw = self._natural(raw, params, features, step.mask)
        if self.layer is not None:
            return self.layer.gradient(raw, step.mask, step.expected, streams), loss
        return raw, loss

    @property
    def _per_sample(self) -> bool:
        natural = self.pipeline.federation.preconditioned
        return self.layer is not None or (natural is not None and natural.of == "record")

    def _natural(
        self, raw: torch.Tensor, params: torch.Tensor, features: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """The gradients, preconditioned where that is asked for; still of single records where a layer wants them."""
        natural, circuit = self.pipeline.federation.preconditioned, metric_circuit(self.pipeline.model)
        if natural is None or circuit is None:
            return raw
        dtype = self.pipeline.execution.complex_dtype
        if natural.of == "record":
            metric = fubini_study(circuit, params[..., None, :], features, dtype=dtype)
        else:
            weights = mask / mask.sum(dim=-1, keepdim=True).clamp(min=1.0)
            metric = mean_metric(circuit, params, features, weights, dtype=dtype)
            metric = metric[..., None, :, :].expand(*raw.shape, -1) if self._per_sample else metric
        found = precondition(circuit, metric, raw, kind=natural.metric, damping=natural.damping)
        if natural.of == "record" and self.layer is None:
            return _masked_mean(found.movedim(-1, -2), mask[..., None, :])
        return found

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
            return self.delegations.gradients(params, features, labels, mask, per_sample=self._per_sample)
        groups: dict[tuple[Execution, tuple[Model, ...]], list[int]] = {}
        for position, index in enumerate(clients):
            kind = self.pipeline.execution_of(index), self.pipeline.trained_by(index)
            groups.setdefault(kind, []).append(position)
        parts = []
        for (execution, models), positions in groups.items():
            chosen = slice(None) if len(groups) == 1 else positions
            parts.append(
                self._group_gradient(
                    params[:, chosen],
                    features[:, chosen],
                    labels[:, chosen],
                    mask[:, chosen],
                    execution,
                    models,
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
        models: Sequence[Model],
        streams: RoundStreams,
        purpose: str,
        lanes: Sequence[int],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients of clients alike: per sample where a layer needs them, else of the mean."""
        if execution.shots is None:
            return self._over_exits(params, features, labels, mask, execution, models, None)
        # outcomes of a run come from that run's own stream
        results = [
            self._over_exits(
                params[row : row + 1],
                features[row : row + 1],
                labels[row : row + 1],
                mask[row : row + 1],
                execution,
                models,
                streams.generator(lane, purpose),
            )
            for row, lane in enumerate(lanes)
        ]
        return torch.cat([r[0] for r in results]), torch.cat([r[1] for r in results])

    def _over_exits(
        self,
        params: torch.Tensor,
        features: torch.Tensor,
        labels: torch.Tensor,
        mask: torch.Tensor,
        execution: Execution,
        models: Sequence[Model],
        generator: torch.Generator | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients of the mean loss of all models that a client trains, such as the exits of its circuit."""
        parts = [
            self._differentiate(params, features, labels, mask, execution, model, generator)
            for model in models
        ]
        if len(parts) == 1:
            return parts[0]
        return torch.stack([part[0] for part in parts]).mean(dim=0), torch.stack(
            [part[1] for part in parts]
        ).mean(dim=0)

    def _differentiate(
        self,
        params: torch.Tensor,
        features: torch.Tensor,
        labels: torch.Tensor,
        mask: torch.Tensor,
        execution: Execution,
        model: Model,
        generator: torch.Generator | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self._per_sample:
            # one evaluation for both: with shots, every other one would use up more copies of the records
            gradients, losses = gradients_and_losses(
                model, params[..., None, :], features, labels, execution=execution, generator=generator
            )
            return gradients, _masked_mean(losses, mask)
        leaf = params.detach().requires_grad_()
        loss = _mean_loss(model, leaf, features, labels, mask, execution, generator)
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        return gradient, loss.detach()


def _on_cpu(params: torch.Tensor, data: ClientData) -> bool:
    return params.is_cpu and params.dtype == torch.float32 and data.features.is_cpu


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

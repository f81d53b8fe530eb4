"""Local training in one compiled call, where nothing but plain steps happens.

A step is plain if it takes the gradient of the mean loss, or a sum of clipped gradients with noise that was drawn
beforehand, and goes on by SGD, momentum or Adam. Shots, noise, another party's evaluation, a natural gradient, a layer
that wants every step, and a model that is more than a circuit take the loop over steps, whose results are the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from qflsec.circuits.executors import executor_name
from qflsec.federation.gradient_layers import ClippingLayer, GradientLayer
from qflsec.federation.pipeline import Pipeline
from qflsec.federation.round.batches import BatchStep, ClientData
from qflsec.federation.round.optimiser import BETA1, BETA2, EPSILON, OptimiserState
from qflsec.federation.streams import RoundStreams
from qflsec.models import Execution
from qflsec.models.plain import PlainCircuit, plain_circuit

__all__ = ["is_plain", "train_whole"]


def is_plain(pipeline: Pipeline, layer: GradientLayer | None, clients: Sequence[int]) -> PlainCircuit | None:
    """The circuit of a pipeline whose steps are plain; None where some are not.

    Args:
        pipeline: The pipeline.
        layer: The layer inside training.
        clients: Whose training.
    """
    if pipeline.federation.preconditioned is not None or pipeline.federation.sporadic is not None:
        return None
    if any(pipeline.trained_by(index) != (pipeline.model,) for index in clients):
        return None
    for execution in {pipeline.execution_of(index) for index in clients}:
        if execution.evaluator is not None or executor_name(execution.executor) == "torch":
            return None
        if execution != Execution(executor=execution.executor):
            return None
    if layer is not None and not (isinstance(layer, ClippingLayer) and layer.keeps_its_word):
        return None
    return plain_circuit(pipeline.model)


def train_whole(
    plain: PlainCircuit,
    pipeline: Pipeline,
    layer: GradientLayer | None,
    params: torch.Tensor,
    data: ClientData,
    plan: Sequence[BatchStep],
    streams: RoundStreams,
    state: OptimiserState,
) -> tuple[torch.Tensor, torch.Tensor, OptimiserState]:
    """Train every client from its received model: updates, losses before the first step, and optimisers.

    Shapes:
        params: ``(lane, client, P)``; returns ``(lane, client, P)`` and ``(lane, client)``
    """
    from qflsec.circuits.compiled import first_states, load_circuit
    from qflsec.circuits.compiled.loaded import Optimiser, Plan, Records, Rule
    from qflsec.circuits.compiled.training import CROSS_ENTROPY, HINGE, SQUARES

    config, models = pipeline.federation, params.shape[0] * params.shape[1]
    clippings = [layer.clipping(params, streams) for _ in plan] if isinstance(layer, ClippingLayer) else []
    codes = {"cross-entropy": CROSS_ENTROPY, "squares": SQUARES, "hinge": HINGE}
    rule = Rule(codes[plain.loss], plain.low, plain.scale, clippings[0].norm if clippings else 0.0)
    features = data.features.reshape(-1, data.features.shape[-1]).float()
    records = Records(
        features.contiguous().numpy(),
        first_states(plain.circuit, features),
        data.labels.reshape(-1).contiguous().numpy(),
    )
    moved = (
        np.stack([m.reshape(models, -1).numpy() for m in state.moments]) if state.moments else _none(models)
    )
    steps, trained = state.steps.reshape(-1).clone(), params.detach().reshape(models, -1).clone()
    optimiser = Optimiser(
        kind=int(config.optimizer == "adam"),
        rate=config.rate(streams.round),
        momentum=config.momentum,
        betas=(BETA1, BETA2),
        epsilon=EPSILON,
        pull=_pull(pipeline),
        steps=steps.numpy(),
        moments=moved,
    )
    noise = [clipping.noise.reshape(models, -1) for clipping in clippings]
    batches = _batches(plan, models, np.stack([part.numpy() for part in noise]) if noise else None)
    loaded = load_circuit(plain.circuit, np.dtype(np.float32))
    losses = loaded.train(rule, records, Plan(*batches), optimiser, trained.numpy())
    lanes = params.shape[:2]
    after = OptimiserState(
        steps=steps.reshape(lanes),
        moments=tuple(torch.from_numpy(part).reshape(params.shape) for part in moved[: len(state.moments)]),
    )
    return trained.reshape(params.shape) - params, torch.from_numpy(losses).reshape(lanes), after


def _none(models: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.zeros((0, models, 1), np.float32)


def _pull(pipeline: Pipeline) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """FedProx's factor for each parameter: nothing pulls what a client keeps to itself."""
    if not pipeline.federation.proximal:
        return np.zeros(0, np.float32)
    pull = np.zeros(pipeline.model.n_params, np.float32)
    places = pipeline.sharing.places
    pull[slice(None) if places is None else list(places)] = pipeline.federation.proximal
    return pull


def _batches(
    plan: Sequence[BatchStep], models: int, noise: np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.generic]], ...]:
    """Picks, used records, noise and divisors of all steps; smaller batches are filled with what does not count."""
    widest = max(step.mask.shape[-1] for step in plan)
    used = np.zeros((len(plan), models, widest), np.float32)
    picks = np.zeros((len(plan), models, widest) if plan[0].index is not None else (0, 0, 0), np.int64)
    for place, step in enumerate(plan):
        used[place, :, : step.mask.shape[-1]] = step.mask.reshape(models, -1).numpy()
        if step.index is not None:
            picks[place, :, : step.index.shape[-1]] = step.index.reshape(models, -1).numpy()
    expected = np.stack([step.expected.reshape(-1).float().numpy() for step in plan])
    return picks, used, np.zeros((0, 0, 0), np.float32) if noise is None else noise, expected

"""Clients that an adversary simulates: its own records, trained as the public pipeline does from a model that it read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from qflsec.attacks.inversion.unrolled import LocalRule, draw_plans, unroll
from qflsec.federation import FederationConfig
from qflsec.models import EXACT, Execution, device_error
from qflsec.threat import Item, Records, View

__all__ = ["expected_updates", "mean_losses", "mixed_updates", "simulated_updates", "weights_in"]

_BATCHINGS = 8
"""Over so many ways of putting records into batches a mean is taken."""


def mean_losses(
    view: View,
    params: Tensor,
    records: Records,
    rows: Tensor,
    execution: Execution,
    generator: torch.Generator,
) -> Tensor:
    """The mean losses of a model on simulated clients: what they would report, or choose a model by.

    Args:
        view: The view, which grants the architecture.
        params: The model.
        records: The adversary's records.
        rows: The rows of ``records`` that each client holds.
        execution: How clients execute the model.
        generator: Of shots.

    Shapes:
        params: ``(P,)``; rows: ``(s, B)``; returns: ``(s,)``
    """
    model = view.granted.model
    with torch.no_grad():
        logits = model(params, records.features[rows], execution=execution, generator=generator)
        losses: Tensor = model.loss.per_sample(logits, records.labels[rows])
    return losses.mean(dim=1)


def mixed_updates(
    view: View,
    training: FederationConfig,
    item: Item,
    records: Records,
    clients: Sequence[tuple[Tensor, Execution]],
    generator: torch.Generator,
) -> Tensor:
    """Means of simulated updates, weighted by numbers of records as in federated averaging.

    Args:
        view: The view.
        training: How clients train.
        item: The item that they are to be like: they start from its model, in its round.
        records: The adversary's records.
        clients: For each client of a mixture, its rows of ``records`` in every mixture, and how it executes the model.
        generator: Of batches and shots.

    Shapes:
        rows: ``(s, B)`` each; returns: ``(s, P)``, float64
    """
    total = torch.zeros((), dtype=torch.float64)
    for rows, execution in clients:
        made = simulated_updates(view, training, item, records, rows, execution, generator)
        total = total + rows.shape[1] * made
    return total / sum(rows.shape[1] for rows, _ in clients)


def simulated_updates(
    view: View,
    training: FederationConfig,
    item: Item,
    records: Records,
    rows: Tensor,
    execution: Execution,
    generator: torch.Generator,
) -> Tensor:
    """What local training on the chosen records would send, for each choice.

    Args:
        view: The view.
        training: How clients train.
        item: The item whose model and round they start from.
        records: Records.
        rows: The rows of ``records`` that each client has.
        execution: How they execute the model.
        generator: Of batches and shots.

    Shapes:
        rows: ``(s, B)``; returns: ``(s, P)``, float64
    """
    params, model = view.base_of(item), view.granted.model
    assert params is not None  # whoever calls has chosen such items
    count, size = rows.shape
    rule = LocalRule.of(training, item.round, size)
    if training.sporadic is not None:
        factor = training.sporadic.factor(device_error(model, execution))
        if factor == 0:  # the client keeps its model
            return torch.zeros(count, params.shape[-1], dtype=torch.float64)
        rule = replace(rule, learning_rate=factor * rule.learning_rate)
    along = unroll(
        model,
        params.to(execution.real_dtype),
        records.features[rows].to(execution.real_dtype),
        records.labels[rows],
        draw_plans(training, size, count, generator).expand(count, -1, -1),
        rule=rule,
        execution=execution,
        generator=generator,
    )
    return -rule.learning_rate * along.double()


def expected_updates(
    view: View,
    training: FederationConfig,
    item: Item,
    clients: Sequence[Records],
    generator: torch.Generator,
) -> Tensor:
    """What clients with these records would send on average over the ways of putting them into batches.

    Args:
        view: The view.
        training: How clients train.
        item: The item whose model and round they start from.
        clients: The records of each client.
        generator: Of batches.

    Shapes:
        returns: ``(n, P)``, float64
    """
    ways = 1 if training.batches == "full" else _BATCHINGS
    pool = Records.joined(clients)
    sizes = torch.tensor([len(one.labels) for one in clients])
    starts = sizes.cumsum(0) - sizes
    made: list[Tensor] = [torch.empty(0)] * len(clients)
    for size in sorted(set(sizes.tolist())):  # clients of one size train side by side
        places = torch.nonzero(sizes == size)[:, 0]
        rows = (starts[places, None] + torch.arange(size)).repeat_interleave(ways, dim=0)
        sent = simulated_updates(view, training, item, pool, rows, EXACT, generator)
        for place, update in zip(
            places.tolist(), sent.reshape(len(places), ways, -1).mean(dim=1), strict=True
        ):
            made[place] = update
    return torch.stack(made)


def weights_in(moved: Tensor, updates: Tensor) -> Tensor:
    """Weights, not negative, of the least squares fit of what moved by the updates of clients.

    Shapes:
        moved: ``(P,)``; updates: ``(n, P)``; returns: ``(n,)``, float64
    """
    from scipy.optimize import nnls

    scale = moved.double().norm()
    columns = (updates.double() / scale).T.numpy()
    found, _ = nnls(columns, (moved.double() / scale).numpy(), maxiter=100 * columns.shape[1])
    return torch.from_numpy(found)

"""Fine-pruning: hidden units that clean records hardly use are taken out of the final model, and the rest is trained a little further."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from qflsec.base import ConfigError, DefenseCard, IncompatibleStack, Source, register
from qflsec.defenses.server_records import need_server_records
from qflsec.federation import Pipeline, ServingLayer
from qflsec.models import Classical, Hybrid, Model
from qflsec.threat import Records

__all__ = ["FinePruning", "dormant_units", "fine_pruned", "pruned"]

_PREFIXES: dict[type[Model], str] = {Hybrid: "before", Classical: "dense"}


def dormant_units(model: Model, params: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """The units of the last hidden layer, the least active first.

    A unit's activity is the mean of its magnitude over the records.

    Args:
        model: A hybrid or a classical network with a hidden layer.
        params: Its parameters.
        features: Clean records.

    Shapes:
        params: ``(P,)``; features: ``(n, F)``; returns: ``(units,)``

    Raises:
        IncompatibleStack: The model has no hidden units.
    """
    prefix, depth = _hidden(model)
    blocks = model.unflatten(params)
    active = features
    for layer in range(depth):
        weight, bias = blocks[f"{prefix}.{layer}.weight"], blocks[f"{prefix}.{layer}.bias"]
        active = torch.tanh(active @ weight.mT + bias)
    return active.abs().mean(dim=0).argsort(stable=True)


def pruned(
    model: Model, params: torch.Tensor, records: Records, *, tolerance: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The model without dormant units, one after the other, as long as it stays nearly as accurate on clean records.

    A unit is taken out by setting all weights that read it to zero. One unit stays.

    Args:
        model: A hybrid or a classical network with a hidden layer.
        params: Its parameters.
        records: Clean records.
        tolerance: How much accuracy may be lost on them.

    Returns:
        The parameters, and which of them stay zero.

    Shapes:
        params: ``(P,)``; returns: ``(P,)`` and ``(P,)``, boolean

    Raises:
        IncompatibleStack: The model has no hidden units.
    """
    prefix, depth = _hidden(model)
    name = f"{prefix}.{depth}.weight"
    columns = model.unflatten(torch.arange(len(params)))[name]

    def accuracy(candidate: torch.Tensor) -> float:
        answers = model(candidate, records.features).argmax(dim=-1)
        return float((answers == records.labels).double().mean())

    found, removed = params, torch.zeros(len(params), dtype=torch.bool)
    with torch.no_grad():
        least = accuracy(params) - tolerance
        for unit in dormant_units(model, params, records.features)[:-1].tolist():
            without = found.clone()
            without[columns[:, unit]] = 0.0
            if accuracy(without) < least:
                break
            found = without
            removed[columns[:, unit]] = True
    return found, removed


def fine_pruned(
    model: Model,
    params: torch.Tensor,
    records: Records,
    *,
    tolerance: float | None = 0.04,
    steps: int = 40,
    learning_rate: float = 0.2,
) -> torch.Tensor:
    """Prune dormant units, then take gradient steps on all clean records at once; what was pruned stays so.

    Args:
        model: A hybrid or a classical network with a hidden layer.
        params: Its parameters.
        records: Clean records.
        tolerance: How much accuracy pruning may lose on them; None to prune nothing.
        steps: How many gradient steps follow.
        learning_rate: Their length.

    Units:
        tolerance: a share of the records

    Shapes:
        params: ``(P,)``; returns the same

    Raises:
        IncompatibleStack: The model has no hidden units.

    Source:
        After Liu, Dolan-Gavitt, Garg, RAID 2018, arXiv:1805.12185 (fine-pruning), with the magnitude of tanh in place of a
        rectifier's activation.
    """
    _hidden(model)
    found, removed = params, torch.zeros(len(params), dtype=torch.bool)
    if tolerance is not None:
        found, removed = pruned(model, params, records, tolerance=tolerance)
    for _ in range(steps):
        with torch.enable_grad():
            at = found.detach().requires_grad_()
            loss = model.loss.per_sample(model(at, records.features), records.labels).mean()
            (gradient,) = torch.autograd.grad(loss, at)
        found = found - learning_rate * gradient.masked_fill(removed, 0.0)
    return found.detach()


def _hidden(model: Model) -> tuple[str, int]:
    """The name of the layers that hold hidden units, and how many of these there are."""
    prefix = _PREFIXES.get(type(model))
    depth = len(model.hidden) if isinstance(model, Hybrid | Classical) else 0
    if prefix is None or depth == 0:
        raise IncompatibleStack(
            "'fine-pruning' takes out hidden units, and this model has none",
            got=f"{model.name!r}" + ("" if prefix is None else " without hidden layers"),
            expected="'hybrid' or 'classical' with 'hidden' layers",
            fix="set 'hidden' of the model; the gates of a circuit act on all of its state, so that none can be left out alone",
        )
    return prefix, depth


@register("layer", "fine-pruning")
@dataclass(frozen=True, kw_only=True)
class FinePruning(ServingLayer):
    """The final model answers without the hidden units that the server's records hardly use, trained a little further.

    Attributes:
        records: How many records of the auxiliary split the server holds, at most.
        tolerance: How much accuracy pruning may lose on them.
        prune: Whether units are taken out; without it the steps alone, as a control.
        steps: How many gradient steps follow.
        learning_rate: Their length.

    Units:
        tolerance: a share of the records

    Raises:
        ConfigError: A value is out of range.
    """

    topologies = frozenset({"star", "hierarchy"})
    card = DefenseCard(
        name="fine-pruning",
        idea="The server takes hidden units that its clean records hardly use out of the final model, and trains on.",
        source=Source(
            paper="Liu, Dolan-Gavitt, Garg: Fine-pruning: defending against backdooring attacks on deep neural networks, "
            "RAID 2018, arXiv:1805.12185",
            year=2018,
            where="pruning in the order of mean activations on clean data, then fine-tuning, on tanh units",
        ),
        claim="heuristic: a backdoor in units that clean records do not use goes with them.",
        assumption="heuristic",
        hides="nothing",
        does_not=(
            "It does not find a backdoor in units that clean records use too.",
            "It does not reach what a circuit has learnt, which has no units.",
            "It does not help where the server's records differ from the clients'.",
            "It gives no certificate.",
        ),
        cost="an evaluation of the records for each unit, then gradient steps on them, once",
    )

    records: int = 50
    tolerance: float = 0.04
    prune: bool = True
    steps: int = 40
    learning_rate: float = 0.2

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.records < 1:
            raise ConfigError("'records' is too small", got=self.records, expected="1 or more")
        if not 0 <= self.tolerance <= 1:
            raise ConfigError("'tolerance' is a share", got=self.tolerance, expected="from 0 to 1")
        if self.steps < 0:
            raise ConfigError("'steps' is negative", got=self.steps, expected="0 or more")
        if not 0 < self.learning_rate < math.inf:
            raise ConfigError(
                "'learning_rate' is out of range", got=self.learning_rate, expected="above 0, finite"
            )

    @property
    def clean_records(self) -> int:
        """The server's own records."""
        return self.records

    def check(self, pipeline: Pipeline) -> None:
        """Refuse models without hidden units, and servers without records or without the whole model.

        Raises:
            IncompatibleStack: There is nothing to prune, or nothing to go by.
        """
        super().check(pipeline)
        _hidden(pipeline.model)
        need_server_records(self.card.name, pipeline, "tunes")
        if pipeline.kept:
            raise IncompatibleStack(
                f"{self.card.name!r} prunes one model at the server, but clients keep something to themselves",
                got=pipeline.kept,
                fix="leave out 'own_models'",
            )

    def readied(self, model: Model, params: torch.Tensor, records: Records) -> torch.Tensor:
        """The pruned and tuned parameters."""
        return fine_pruned(
            model,
            params,
            records,
            tolerance=self.tolerance if self.prune else None,
            steps=self.steps,
            learning_rate=self.learning_rate,
        )

    def serve(
        self, model: Model, params: torch.Tensor, features: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """The class of the largest logit."""
        return model(params, features).argmax(dim=-1)

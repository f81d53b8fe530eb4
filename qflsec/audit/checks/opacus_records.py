"""A training under Opacus and the records of its pipeline: what it trains on, and what its model tells of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice

import numpy as np

from qflsec.audit.adapters.records import as_array, pair_of
from qflsec.audit.check import Bench, Check, NotApplicable
from qflsec.audit.checks.records import digests
from qflsec.audit.checks.training import membership
from qflsec.audit.outcome import Finding
from qflsec.audit.parts import Array, Data, Opacus, Prediction, Training
from qflsec.base import CheckCard, DataError, Source, register

__all__ = ["EvaluatedPrivately", "PrivateModelTellsMembers"]

_DUPLICATES = 0.02
_EPOCHS, _SHARE = 20, 0.6
_TELLING = 0.1


def _records(part: Opacus) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """The records that the set-up trains on, and those of the evaluation."""
    if part.data is None or part.data.test is None:
        raise NotApplicable("the pipeline gives no records for evaluation")
    _, _, loader = part.make()
    try:
        return pair_of(loader.dataset), part.data.test
    except (DataError, TypeError) as error:
        raise NotApplicable(f"the records of the loader cannot be read: {error}") from error


@register("check", "private-evaluation")
class EvaluatedPrivately(Check):
    """Records of the evaluation that the set-up trains on."""

    looks_at = Opacus
    card = CheckCard(
        name="private-evaluation",
        idea="Compare every record of the evaluation with those of the set-up's own loader.",
        source=Source(
            paper="Kapoor, Narayanan, Leakage and the reproducibility crisis in machine-learning-based science, Patterns 4",
            year=2023,
            where="table 1",
        ),
        title="the private model is evaluated on records that it is trained on",
        severity="error",
        proves="Features of the records are equal, value by value, as numbers of 32 bits.",
        cannot=("Near copies, such as rotated images, are not seen.",),
        consequence="Accuracy under differential privacy is told too high, so that the noise seems to cost nothing.",
        remedy="Split once, before anything else, and give the engine's loader the training records alone.",
    )

    def run(self, part: Opacus, bench: Bench) -> Iterator[Finding]:
        """How many are in both."""
        (train, _), (test, _) = _records(part)
        kind = np.dtype(np.float32)
        held = set(digests(train, kind))
        both = sum(one in held for one in digests(test, kind))
        bench.measured.update({"records of evaluation": len(test), "of them in the loader": both})
        if both:
            yield Finding(
                what=f"{both} of {len(test)} records of the evaluation are in the loader's data set",
                evidence={"both": both, "test": len(test)},
                severity="error" if both > _DUPLICATES * len(test) else "warning",
            )


@register("check", "private-model-tells-members")
class PrivateModelTellsMembers(Check):
    """The loss threshold on the model that the set-up trains."""

    looks_at = Opacus
    weight = 6.0
    card = CheckCard(
        name="private-model-tells-members",
        idea="Train as the set-up does, and tell its training records from others by their loss.",
        source=Source(
            paper="Yeom et al., Privacy risk in machine learning, arXiv:1709.01604",
            year=2018,
            where="section 3.2",
        ),
        title="the model that was trained under Opacus tells who was in the training",
        severity="warning",
        proves="The lower limit of the attack's advantage, 2 AUC - 1, is above 0.1 in one training.",
        cannot=(
            "It trains for at most twenty epochs, and fewer where the budget is short.",
            "Attacks with shadow models are stronger: a clean result is no privacy.",
        ),
        consequence="The noise is too little to hide a record from whoever can ask the model, whatever epsilon is reported.",
        remedy="Raise the noise multiplier or train for fewer steps, and state the epsilon.",
    )

    def run(self, part: Opacus, bench: Bench) -> Iterator[Finding]:
        """The advantage of one training."""
        train, test = _records(part)
        until = time.monotonic() + _SHARE * bench.left
        training = Training(
            name=part.name,
            place=part.place,
            train=lambda _, __: _trained(part, until, bench),
            data=Data(name=part.name, clients=(train,), test=test),
        )
        value, low, high = membership(training, bench.seed)
        bench.measured.update({"advantage": value, "low": low, "high": high})
        if low > _TELLING:
            yield Finding(
                what=f"the loss tells members with an advantage of {value:.2f} [{low:.2f}, {high:.2f}] after "
                f"{bench.measured['epochs']} epochs",
                evidence={"advantage": value, "low": low, "high": high},
            )


def _trained(part: Opacus, until: float, bench: Bench) -> Prediction:
    """The outputs of a model that the set-up trained."""
    import torch

    module, optimiser, loader = part.make()
    module.train()
    epochs = 0
    while epochs < _EPOCHS and (not epochs or time.monotonic() < until):
        for batch in islice(loader, 100_000):
            x, y = batch[0], batch[1]
            if not len(x):
                continue
            optimiser.zero_grad()
            outputs = module(x)
            part.loss(outputs, y.long() if isinstance(part.loss, torch.nn.CrossEntropyLoss) else y).backward()
            optimiser.step()
        epochs += 1
    bench.measured["epochs"] = epochs
    module.eval()
    dtype = next(one.dtype for one in module.parameters())

    def outputs_of(features: Array) -> Array:
        with torch.no_grad():
            return as_array(module(torch.as_tensor(features, dtype=dtype)))

    return outputs_of

"""A recorded app as something that the attacks of the catalogue work on, and its scorers grade."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from qflsec.audit.check import NotApplicable
from qflsec.audit.flower.recording import SERVER, Recording, Seen, count_of
from qflsec.audit.parts import Array
from qflsec.base import QflsecError
from qflsec.data import Holdings
from qflsec.federation import FederationConfig
from qflsec.models import EXACT, LOSSES, Execution, Model, TorchModel
from qflsec.threat import Granted, Records, ThreatModel, View, recorded_transcript

__all__ = ["RecordedSubject", "subject_of"]

_LOSSES = {
    "cross_entropy": "cross-entropy",
    "nll_loss": "cross-entropy",
    "binary_cross_entropy_with_logits": "cross-entropy",
    "mse_loss": "mse",
}
_OPTIMISERS = {"SGD": "sgd", "Adam": "adam"}


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordedSubject:
    """A recorded app.

    Attributes:
        model: Its module as a pure function.
        training: How the clients train, as the steps of their optimisers show it.
        feature_range: Where the features that torch showed lie.
        models: The model before each round, and the last one.
        updates: What each client added, by round.
        participants: The clients that answered, by round.
        counts: The number of examples of each client, as it states it.
        clients: The records that each client trained on.
        others: The records that were evaluated, and that nobody trained on.
        unmodelled: Why attacks that simulate the training cannot; empty where they can.
        auxiliary: Records that the adversary has of its own; None where it has none.

    Shapes:
        models: ``(P,)`` each; updates: ``(P,)`` each.
    """

    model: Model
    training: FederationConfig
    feature_range: tuple[float, float]
    models: tuple[torch.Tensor, ...]
    updates: tuple[Mapping[int, torch.Tensor], ...]
    participants: Mapping[int, frozenset[int]]
    counts: tuple[float, ...]
    clients: tuple[Records, ...]
    others: Records
    unmodelled: str = ""
    auxiliary: Records | None = None

    @property
    def angle_features(self) -> bool:
        """Whether the model has the period 2 pi in every feature."""
        return self.model.angle_features

    @property
    def holdings(self) -> Holdings | None:
        """Which blocks of features each client holds: nothing is known of blocks."""
        return None

    @property
    def executions(self) -> tuple[Execution, ...]:
        """How each client executes circuits: exactly, as no device is told from the recording."""
        return (EXACT,) * self.training.n_clients

    def records(self, split: str) -> Records:
        """The records of a split."""
        if split == "auxiliary" and self.auxiliary is not None:
            return self.auxiliary
        if split == "member":
            return _joined(self.clients)
        return _joined([self.others]) if split in {"nonmember", "test"} else _joined([self.others], most=0)

    def client_records(self, index: int) -> Records:
        """The training records of one client."""
        return self.clients[index]

    def predict(self, features: torch.Tensor) -> torch.Tensor:
        """The class that the last model gives to each record.

        Shapes:
            features: ``(n, F)``; returns: ``(n,)``
        """
        with torch.no_grad():
            return self.model(self.models[-1], features).argmax(dim=-1)

    def view(self, threat: ThreatModel) -> View:
        """What the coalition of ``threat`` holds."""
        own = {index: self.clients[index] for index in threat.clients}
        from qflsec.threat import client

        return recorded_transcript(
            models=self.models,
            updates=self.updates,
            participants=[sorted(self.participants[index]) for index in sorted(self.participants)],
            counts=self.counts,
            granted=Granted(
                model=self.model,
                auxiliary=self.auxiliary,
                data={client(index): held for index, held in own.items()},
            ),
        ).seen_by(threat)


def subject_of(part: Recording) -> RecordedSubject:
    """The subject that a recording gives.

    Raises:
        NotApplicable: It does not show enough, or the app's module is no function of single records.
    """
    if part.module is None:
        raise NotApplicable(
            "no torch module has the arrays of the messages, so that nobody can evaluate the model"
        )
    losses = {
        batch.loss for seen in part.seen.values() for batch in seen.batches if batch.trained and batch.loss
    }
    if len(losses) != 1 or not losses <= set(_LOSSES):
        raise NotApplicable(
            f"the loss of the training is not one that attacks know: {', '.join(sorted(losses)) or 'none was seen'}"
        )
    rows = [tuple(dict.fromkeys(_trained(part, node))) for node in part.nodes]
    trained = {row for held in rows for row in held}
    others = dict.fromkeys(row for node in (*part.nodes, SERVER) for row in sorted(part.evaluated_on(node)))
    shape = _shape(part, trained)
    model = _model(part, shape, _LOSSES[losses.pop()])
    models, rounds = _models(part, model)
    features = torch.cat([_records(part, held, shape).features.reshape(-1) for held in rows])
    return RecordedSubject(
        model=model,
        training=_training(part, rounds),
        feature_range=(float(features.min()), float(features.max())),
        models=models,
        updates=tuple(
            {node: _flat(part, model, update) for node, update in part.updates(index).items()}
            for index in range(1, rounds + 1)
        ),
        participants={index: frozenset(part.replies(index + 1)) for index in range(rounds)},
        counts=tuple(_count(part, node, len(held)) for node, held in enumerate(rows)),
        clients=tuple(_records(part, held, shape) for held in rows),
        others=_records(part, [row for row in others if row not in trained], shape),
        unmodelled=_unmodelled(part),
    )


def _trained(part: Recording, node: int) -> list[bytes]:
    return [
        row for _, seen in part.steps(node) for batch in seen.batches if batch.trained for row in batch.rows
    ]


def _shape(part: Recording, trained: set[bytes]) -> tuple[int, ...]:
    shapes = {part.features[row].shape for row in trained if row in part.features and row in part.labels}
    if len(shapes) != 1 or not math.prod(next(iter(shapes))):
        raise NotApplicable("the training records that torch showed have no labels, or several shapes")
    return tuple(next(iter(shapes)))


def _model(part: Recording, shape: tuple[int, ...], loss: str) -> Model:
    dropout = any(isinstance(layer, torch.nn.modules.dropout._DropoutNd) for layer in part.module.modules())  # noqa: SLF001
    module = part.module
    try:
        return TorchModel(
            make=lambda: copy.deepcopy(module),
            n_features=math.prod(shape),
            input_shape=shape,
            dropout="off" if dropout else "refuse",
            loss=LOSSES[loss],
        )
    except QflsecError as error:
        raise NotApplicable(" ".join(str(error).split())) from None


def _models(part: Recording, model: Model) -> tuple[tuple[torch.Tensor, ...], int]:
    """The models that were shown, one more than there are rounds."""
    found = []
    for index in range(1, part.rounds + 2):
        shown = part.model(index)
        if not shown:
            break
        if any(
            part.asked(index, node) and not _same(part.asked(index, node), shown)
            for node in part.replies(index)
        ):
            raise NotApplicable("clients get different models in one round")
        found.append(_flat(part, model, shown))
    if len(found) < 2:
        raise NotApplicable("no model after a round was shown")
    return tuple(found), len(found) - 1


def _same(first: Mapping[str, Array], second: Mapping[str, Array]) -> bool:
    pairs = zip(first.values(), second.values(), strict=True)
    return all(np.array_equal(one, other, equal_nan=True) for one, other in pairs)


def _flat(part: Recording, model: Model, arrays: Mapping[str, Array]) -> torch.Tensor:
    """Arrays of a message as the model's flat parameters: by the module's own order, as names differ between apps."""
    module, values = part.module, list(arrays.values())
    state, parameters = list(module.state_dict()), [name for name, _ in module.named_parameters()]
    names = state if len(state) == len(values) else parameters
    by_name = dict(zip(names, values, strict=True))
    wanted = [name for name, value in module.named_parameters() if value.requires_grad]
    if [by_name[name].shape for name in wanted] != [shape for _, shape in model.layout]:
        raise NotApplicable("the module's parameters are not those of its model")
    return torch.cat(
        [torch.as_tensor(np.asarray(by_name[name], dtype=np.float32)).reshape(-1) for name in wanted]
    )


def _records(part: Recording, rows: Sequence[bytes], shape: tuple[int, ...]) -> Records:
    """The records of which features and a label are known."""
    known = [row for row in rows if row in part.labels and row in part.features]
    known = [row for row in known if part.features[row].shape == shape]
    labels = [part.labels[row] for row in known]
    if any(label != round(label) or label < 0 for label in labels):
        raise NotApplicable("the labels are no classes")
    features = np.array([part.features[row].reshape(-1) for row in known], dtype=np.float32)
    return Records(
        features=torch.from_numpy(features.reshape(len(known), math.prod(shape))),
        labels=torch.tensor([round(label) for label in labels], dtype=torch.long),
    )


def _joined(parts: Sequence[Records], most: int | None = None) -> Records:
    return Records(
        features=torch.cat([one.features for one in parts])[:most],
        labels=torch.cat([one.labels for one in parts])[:most],
    )


def _count(part: Recording, node: int, records: int) -> float:
    stated = (
        count_of(sent) for index in range(1, part.rounds + 1) if (sent := part.replies(index).get(node))
    )
    return next((count for count in stated if count is not None), float(max(1, records)))


def _unmodelled(part: Recording) -> str:
    steps = [step for node in part.nodes for _, seen in part.steps(node) for step in seen.steps]
    if not steps:
        return "torch showed no step of an optimiser, so that the training cannot be simulated"
    if strangers := {step.optimizer for step in steps} - set(_OPTIMISERS):
        return f"the training by {', '.join(sorted(strangers))} cannot be simulated"
    if any(dict(step.settings).get("weight_decay") for step in steps):
        return "the training decays weights, which is not simulated"
    return ""


def _training(part: Recording, rounds: int) -> FederationConfig:
    """How clients train, as the first of them does in its first round."""
    first: Seen | None = next(
        (seen for node in part.nodes for _, seen in part.steps(node) if seen.steps), None
    )
    common: dict[str, Any] = {"n_clients": part.n_nodes, "rounds": rounds, "declared_corrupted": 0}
    if first is None:
        return FederationConfig(**common)
    step, settings = first.steps[0], dict(first.steps[0].settings)
    batches = [batch for batch in first.batches if batch.trained]
    records, size, steps = len(first.rows(trained=True)), len(batches[0].rows), len(first.steps)
    per_epoch = math.ceil(records / size)
    whole: dict[str, Any] = (
        {"epochs": steps // per_epoch} if steps % per_epoch == 0 else {"local_steps": steps}
    )
    return FederationConfig(
        **common,
        **whole,
        batch_size=None if size >= records else size,
        optimizer="adam" if _OPTIMISERS.get(step.optimizer) == "adam" else "sgd",
        momentum=settings.get("momentum", 0.0) if step.optimizer == "SGD" else 0.0,
        learning_rate=settings.get("lr", 0.1),
    )

"""Trials of models, data sets, partitioners, threat models and panels."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from dataclasses import fields
from typing import Any

import numpy as np
import torch

from qflsec.base import QflsecError
from qflsec.data import DataSpec, PartitionSpec, RawData
from qflsec.lab.conformance.federation import changes, other_chance
from qflsec.lab.conformance.trial import Fault, Trial, Unchecked
from qflsec.models import Model, build_model
from qflsec.threat import ThreatModel

__all__ = ["DataTrial", "ModelTrial", "PanelTrial", "PartitionTrial", "ThreatTrial"]

_CLIENTS = 5
_RECORDS = 60


class ModelTrial(Trial):
    """A model that is built from a number of features."""

    def built(self) -> Model:
        """The model."""
        try:
            return build_model({"name": self.name, "n_features": 2})
        except QflsecError as error:
            raise Unchecked(f"it is not built from a number of features alone: {error}") from error

    def shapes(self) -> None:
        """Logits of records, of one model and of several side by side."""
        model = self.built()
        params = _first(model)
        if params.shape != (model.n_params,):
            raise Fault(f"'initial' gives {tuple(params.shape)}, and 'layout' says ({model.n_params},)")
        logits = _answer(model)
        if logits.shape != (3, model.n_classes) or not bool(torch.isfinite(logits).all()):
            raise Fault(
                f"logits of 3 records: {tuple(logits.shape)}, not finite or not (3, {model.n_classes})"
            )
        both = model(torch.stack([params, params + 1])[:, None], _records())
        if both.shape != (2, 3, model.n_classes) or not torch.allclose(both[0], logits, atol=1e-5):
            raise Fault("models side by side do not answer as one alone does: leading axes must broadcast")

    def state(self) -> None:
        """Nothing is kept from one answer to the next."""
        model = self.built()
        with changes(model, self.thing) as found:
            first, second = _answer(model), _answer(model)
        if found:
            raise Fault(f"it keeps {', '.join(found)}")
        if not torch.equal(first, second):
            raise Fault("two answers to the same records differ")

    def determinism(self) -> None:
        """All chance comes from the generator of the first parameters."""
        answers = []
        for seed in (1, 2):
            with other_chance(seed):
                answers.append(_answer(self.built()))
        if not torch.equal(*answers):
            raise Fault("two models of one generator differ: draw from the generator of 'initial' alone")

    def pickling(self) -> None:
        """It can be sent to a worker, and written down."""
        model = self.built()
        if model.to_config().get("name") != self.name:
            raise Fault(f"its configuration names {model.to_config().get('name')!r}, and not {self.name!r}")
        if build_model(model.to_config()).to_config() != model.to_config():
            raise Fault("its configuration makes another model")
        if not torch.equal(_answer(pickle.loads(pickle.dumps(model))), _answer(model)):  # noqa: S301 - pickled here
            raise Fault("what comes back from pickle answers otherwise")


def _first(model: Model) -> torch.Tensor:
    return model.initial(torch.Generator().manual_seed(0))


def _records() -> torch.Tensor:
    return torch.linspace(0.1, 1.0, 6).reshape(3, 2)


def _answer(model: Model) -> torch.Tensor:
    return model(_first(model), _records())


class _Repeated(Trial, ABC):
    """Something that gives the same arrays whenever it is asked."""

    source: str
    """Where its chance may come from, in words."""

    @abstractmethod
    def arrays(self) -> dict[str, Any]:
        """What it gives when it is asked once, by name."""

    def state(self) -> None:
        """Nothing is kept from one time to the next."""
        with changes(self.thing) as found:
            self.arrays()
        if found:
            raise Fault(f"it keeps {', '.join(found)}")

    def determinism(self) -> None:
        """The same every time."""
        both = []
        for seed in (1, 2):
            with other_chance(seed):
                both.append(self.arrays())
        first, second = both
        for name in first.keys() | second.keys():
            if name not in first or name not in second or not np.array_equal(first[name], second[name]):
                raise Fault(f"asked twice, it gives {name!r} that differ: {self.source}")


class DataTrial(_Repeated):
    """A data set that needs no file."""

    source = "a source draws nothing"

    def arrays(self) -> dict[str, Any]:
        """Every field of its records."""
        raw = self.read()
        return {field.name: getattr(raw, field.name) for field in fields(RawData)}

    def read(self) -> RawData:
        """Its records."""
        try:
            found = self.thing(DataSpec(name=self.name))
        except QflsecError as error:
            raise Unchecked(f"it cannot be read by its name alone: {error}") from error
        if not isinstance(found, RawData):
            raise Fault(f"it gives {type(found).__name__}, and no RawData")
        return found

    def shapes(self) -> None:
        """Features, labels and names belong together."""
        raw = self.read()
        columns = raw.features.shape[-1]
        promises = {
            "features are no finite table": raw.features.ndim == 2 and bool(np.isfinite(raw.features).all()),
            "there is not one label for each record": raw.labels.shape == raw.features.shape[:1],
            "labels do not number the class names": raw.labels.dtype.kind in "iu"
            and set(np.unique(raw.labels).tolist()) == set(range(len(raw.class_names))),
            "there is not one name for each column": len(raw.feature_names) == columns,
            "there is not one range for each column": raw.ranges is None or len(raw.ranges) == columns,
            "there is not one person for each record": raw.persons is None
            or raw.persons.shape == raw.labels.shape,
        }
        for fault, holds in promises.items():
            if not holds:
                raise Fault(fault)


class PartitionTrial(_Repeated):
    """A partitioner, on 60 records of three classes and five clients."""

    source = "draw from the generator alone"

    def arrays(self) -> dict[str, Any]:
        """The parts, client by client."""
        return {f"parts of client {client}": part for client, part in enumerate(self.spread())}

    def spread(self) -> list[Any]:
        """The parts."""
        labels = np.arange(_RECORDS) % 3
        generator = np.random.default_rng(0)
        return list(self.thing(labels, PartitionSpec(kind=self.name), _CLIENTS, generator))

    def shapes(self) -> None:
        """Every client has a part, and no record two."""
        parts = [np.asarray(part) for part in self.spread()]
        if len(parts) != _CLIENTS:
            raise Fault(f"{len(parts)} parts for {_CLIENTS} clients")
        taken = np.concatenate(parts)
        if taken.dtype.kind not in "iu" or not set(taken.tolist()) <= set(range(_RECORDS)):
            raise Fault("a position is that of no record")
        if len(np.unique(taken)) != len(taken):
            raise Fault("a record is in two parts")


class ThreatTrial(Trial):
    """What makes a threat model, with its defaults."""

    def shapes(self) -> str:
        """A threat model, which says in a sentence what it is."""
        made = self.thing()
        if not isinstance(made, ThreatModel):
            raise Fault(f"it makes {type(made).__name__}, and no ThreatModel")
        return str(made)

    def determinism(self) -> None:
        """The same one every time."""
        if self.thing() != self.thing():
            raise Fault("it makes two threat models that differ")


class PanelTrial(Trial):
    """A panel, without a result to show."""

    def shapes(self) -> None:
        """It has a heading and a place, and knows what is no result."""
        if not isinstance(self.thing.title, str) or not isinstance(self.thing.order, int | float):
            raise Fault("'title' is no text, or 'order' no number")
        if self.thing().applies(object()) is not False:
            raise Fault("it applies to what is no result: let 'applies' look at the type")

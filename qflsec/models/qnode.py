"""A user's own QNode as a model."""

from __future__ import annotations

import hashlib
import inspect
import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor

from qflsec.base import finite
from qflsec.base.errors import ConfigError
from qflsec.base.notices import notice
from qflsec.base.registry import register
from qflsec.circuits import Circuit, NoiseModel, NotAffine, weight_periods
from qflsec.circuits.converted import check_conversions
from qflsec.circuits.from_pennylane import read_qnode, returns_probabilities, roles_of
from qflsec.circuits.roles import Roles
from qflsec.models.base import Execution, Generators, Model, leading_shape
from qflsec.models.encoding import angle_features, measures_alone
from qflsec.models.execute import measure
from qflsec.models.fields import Fields, ModelKeys, configured_by
from qflsec.models.losses import CROSS_ENTROPY, Loss
from qflsec.models.qnode_call import Probe, QNodeCall, probe, qnode_call
from qflsec.models.qnode_file import load_qnode
from qflsec.models.vqc import probabilities_to_logits, scores_to_logits

__all__ = ["QNodeModel"]

MORE_VALUES = "return as many values from the QNode as there are classes (for two, one will do)"


@finite
@dataclass(frozen=True, kw_only=True)
class QNodeModel(Model):
    """A PennyLane QNode of features and weights.

    The features' argument is called ``inputs``, ``features``, ``x``, ``data`` or ``sample``, or is the one that
    ``features_argument`` names; nothing is told by position. The others take weights.

    A QNode whose angles are sums, products and functions of weights and features runs in the batched kernel. Of any other whose gates the
    kernel has, the kernel runs the gates at the angles that the QNode's function gives. Where the function branches on its
    inputs, each branch is such a QNode, and the records that take it are one batch. Of what is left PennyLane builds
    the tapes, and they are executed here: for a batch by broadcasting if it gives the same as single calls, else by
    ``torch.func.vmap``, else record by record. Many channels and what is no function of the state run in PennyLane, in the
    same three ways. Values that the function takes out of torch stay in it (:mod:`qflsec.circuits.staying`), so that weights among
    them have a derivative. A warning says so once, with the measured cost. Noise channels that are a noise model become
    the execution's. Logits are those of
    :func:`~qflsec.models.vqc.scores_to_logits`; where the QNode returns probabilities
    and the loss is cross entropy, those of :func:`~qflsec.models.vqc.probabilities_to_logits`. The parameters are the weights, flattened.

    Args:
        qnode: The QNode, without shots of its own.
        n_features: Features per record.
        weight_shape: The shape in which the QNode takes its weights, where one argument takes them.
        weight_shapes: The shape of each weight argument, where there are several.
        features_argument: The features' argument, where its name does not say so.
        scale: What measured values are multiplied by, the loss's own factor if None; probabilities take none
            under cross entropy.
        n_classes: Classes, where the QNode returns the probabilities of more outcomes: the first ones are
            taken. None: as many as it returns values, and two for one value.
        loss: What training minimises.
        path: ``"file.py:name"`` where the QNode came from a file.
        digest: SHA-256 of that file and of what it imports; of the circuit or the source where there is none.

    Raises:
        ConfigError: The QNode cannot be used.
    """

    name = "qnode"
    qnode: Any = field(compare=False, repr=False)
    n_features: int
    weight_shape: tuple[int, ...] | None = None
    weight_shapes: tuple[tuple[str, tuple[int, ...]], ...] | None = None
    features_argument: str | None = None
    scale: float | None = None
    loss: Loss = CROSS_ENTROPY
    path: str | None = None
    digest: str = ""
    n_classes: int = 0
    probabilities: bool = field(init=False)
    angle_features: bool = field(init=False)
    circuit: Circuit | None = field(init=False, compare=False, repr=False)
    noise: NoiseModel | None = field(init=False, compare=False, repr=False)
    probe: Probe | None = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Read the circuit, or find out how to call the QNode."""
        if self.qnode.shots.total_shots is not None:
            raise ConfigError(
                "the QNode has shots of its own",
                got=self.qnode.shots.total_shots,
                fix="remove them and set the shots of the execution",
            )
        check_conversions(self.qnode.func)
        circuit, noise, reason = self._read()
        object.__setattr__(self, "circuit", circuit)
        found = None if circuit else probe(self.call, self.n_params, self.n_features)
        n_values = found.n_values if found else len(circuit.observables) if circuit else 0
        probabilities = returns_probabilities(self.qnode, self._roles, self.n_features)
        derived = {
            "noise": noise,
            "probe": found,
            "probabilities": probabilities,
            "n_classes": self._classes(n_values, probabilities=probabilities),
            "scale": self._factor(probabilities=probabilities),
            "angle_features": circuit is not None and angle_features(circuit),
            "digest": self.digest or (circuit.digest() if circuit else _source_digest(self.qnode)),
        }
        for attribute, value in derived.items():
            object.__setattr__(self, attribute, value)
        if found:
            _warn(self.qnode, found, reason, self.digest)

    def _classes(self, n_values: int, *, probabilities: bool) -> int:
        own = max(2, n_values)
        asked = self.n_classes or own
        if asked != own and not (probabilities and 2 <= asked < own):
            raise ConfigError(
                f"the QNode returns {n_values} value{'s' if n_values > 1 else ''}",
                got=f"n_classes = {asked}",
                expected=f"2 to {own}" if probabilities else own,
                fix=None if probabilities else MORE_VALUES,
            )
        return asked

    def _factor(self, *, probabilities: bool) -> float | None:
        if not probabilities or self.loss != CROSS_ENTROPY:
            return self.scale or self.loss.scale
        if self.scale is not None:
            raise ConfigError(
                "probabilities take no scale under cross entropy: their logarithms are the logits",
                got=self.scale,
                fix="remove 'scale'",
            )
        return None

    @cached_property
    def call(self) -> QNodeCall:
        """The QNode as a function of flat weights and features."""
        if self.circuit is None:
            return qnode_call(self.qnode, self._roles, self.n_features)
        return QNodeCall(self.qnode, self._roles, self.n_features)

    def _shapes(self) -> dict[str, Any]:
        """What the configuration says of the QNode's arguments."""
        shapes = self.weight_shapes
        return {
            "weight_shape": self.weight_shape,
            "weight_shapes": None if shapes is None else dict(shapes),
            "features_argument": self.features_argument,
        }

    def _read(self) -> tuple[Circuit | None, NoiseModel | None, str]:
        try:
            found = read_qnode(self.qnode, self._roles, self.n_features)
        except NotAffine as error:
            return None, None, error.what
        return found.circuit, found.noise, ""

    @cached_property
    def _roles(self) -> Roles:
        return roles_of(self.qnode, **self._shapes())

    @property
    def only_measures(self) -> bool:
        """True where the QNode is a circuit that multiplies no feature with a weight."""
        return self.circuit is not None and measures_alone(self.circuit)

    @property
    def classes_fix(self) -> str:
        """The QNode's own values are the classes."""
        if self.probabilities:
            return "set 'n_classes' of the model to take the first outcomes only"
        return MORE_VALUES

    @property
    def layout(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """The weight arguments in the QNode's own shapes; a single one is called ``weights``."""
        blocks = self._roles.weights
        return blocks if self.weight_shape is None else (("weights", blocks[0][1]),)

    @property
    def periods(self) -> tuple[float | None, ...]:
        """The periods of the circuit's weights; None for each if the QNode is not read."""
        return weight_periods(self.circuit) if self.circuit else (None,) * self.n_params

    def initial(self, generator: torch.Generator) -> Tensor:
        """Uniform in [0, 2 pi), as in PennyLane."""
        return 2 * math.pi * torch.rand(self.n_params, generator=generator)

    def to_config(self) -> dict[str, object]:
        """The configuration; it can be built again if the QNode came from a file."""
        return {
            "name": self.name,
            "path": self.path,
            "digest": self.digest,
            "n_params": self.n_params,
            **{key: _listed(value) for key, value in self._shapes().items() if value is not None},
            "n_features": self.n_features,
            "n_classes": self.n_classes,
            "scale": self.scale,
            **self.loss.to_config(),
        }

    def __reduce__(self) -> str | tuple[Any, ...]:
        """A QNode does not pickle; one that came from a file is loaded again."""
        if self.path is None:
            raise pickle.PicklingError("a QNode that was not loaded from a file cannot be pickled")
        return (build_qnode, (self.to_config(),))

    def _logits(
        self, params: Tensor, features: Tensor, execution: Execution, generator: Generators | None
    ) -> Tensor:
        if self.circuit is not None:
            values = measure(self.circuit, params, features, self._noisy(execution), generator)
        else:
            values = self._through_pennylane(params, features, execution)
        values = values[..., : self.n_classes]
        if self.scale is None:
            return probabilities_to_logits(values)
        return scores_to_logits(values, self.scale, self.loss)

    def _noisy(self, execution: Execution) -> Execution:
        """The execution with the noise that the QNode's own channels are."""
        if self.noise is None:
            return execution
        if execution.noise is not None:
            raise ConfigError(
                "the QNode has noise channels of its own", got=execution.noise, fix="remove one of them"
            )
        return replace(execution, noise=self.noise)

    def _through_pennylane(self, params: Tensor, features: Tensor, execution: Execution) -> Tensor:
        if execution != Execution(dtype=execution.dtype) or execution.evaluator is not None:
            raise ConfigError(
                "this QNode does not fit the kernel, so it runs exactly and by autograd only",
                got=execution,
                fix="write it as a circuit of the supported gates",
            )
        assert self.probe is not None
        lead = leading_shape(params, features)
        rows = params.expand(*lead, -1).reshape(-1, self.n_params)
        records = features.expand(*lead, -1).reshape(-1, self.n_features)
        values = self.call.rows(rows, records, self.probe.mode)
        return values.reshape(*lead, -1).to(execution.real_dtype)


def _warn(qnode: Any, found: Probe, reason: str, digest: str) -> None:  # noqa: ANN401 - a user's object
    how = {
        "angles": "its own function computes its angles, and the kernel runs its gates, exactly and by autograd only",
        "branches": "it branches on its inputs; each branch is read when the first record takes it, and records of one "
        "branch run together, exactly and by autograd only",
        "tapes": "PennyLane builds its gates for a batch by broadcasting, and they are run here, exactly and by autograd only",
        "tapes-vmap": "PennyLane builds its gates for a batch by torch.func.vmap, and they are run here, exactly and by "
        "autograd only",
        "tapes-kept": "PennyLane builds its gates for a batch by torch.func.vmap, of values that it would take out of "
        "torch, and they are run here, exactly and by autograd only",
        "tapes-rows": "PennyLane builds its gates record by record, which is slow, and equal ones are run here together, "
        "exactly and by autograd only",
        "broadcast": "batches run in PennyLane by broadcasting",
        "vmap": "batches run in PennyLane by torch.func.vmap",
        "loop": "records run in PennyLane one by one, which is slow",
    }[found.mode]
    notice(
        f"QNode {qnode.func.__name__!r} does not run in the batched kernel ({reason}); {how}: measured "
        f"{found.milliseconds:.3g} ms of CPU time for a record's value and gradient",
        about=f"{digest} {qnode.func.__name__}",
    )


def _listed(value: Any) -> object:  # noqa: ANN401 - shapes and names
    """Tuples as lists, as JSON and TOML have them."""
    if isinstance(value, dict):
        return {name: list(shape) for name, shape in value.items()}
    return value if isinstance(value, str) else list(value)


def _source_digest(qnode: Any) -> str:  # noqa: ANN401 - a user's object
    try:
        source = inspect.getsource(qnode.func)
    except (OSError, TypeError) as error:
        raise ConfigError(
            "the QNode's source is not available, so it cannot be identified",
            fix='load it from a file: path = "file.py:name"',
        ) from error
    return hashlib.sha256(source.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class QNodeKeys(ModelKeys):
    """The keys of a QNode of your own.

    Attributes:
        path: The QNode's place, as ``"file.py:name"``.
        digest: SHA-256 of its file, as a stored configuration holds it.
        n_params: How many weights it takes, where these are one vector.
        weight_shape: The shape of its weights.
        weight_shapes: Several arguments of weights, each with its shape, as in ``{ weights = [2, 4, 3], bias = [2] }``.
        features_argument: The name of its argument for a record, where names do not tell.
        n_classes: The number of classes; what the measured values say by default.
        scale: What measured values are multiplied by; what suits the loss by default.
    """

    path: str
    digest: str | None = None
    n_params: int | None = None
    weight_shape: tuple[int, ...] | None = None
    weight_shapes: Mapping[str, tuple[int, ...]] | None = None
    features_argument: str | None = None
    n_classes: int | None = None
    scale: float | None = None


@lru_cache(maxsize=16)
def _model(**options: Any) -> QNodeModel:  # noqa: ANN401 - those of the model
    """A model, read once in a process: a QNode in memory stands for one content of its file."""
    return QNodeModel(**options)


@register("model", "qnode")
@configured_by(QNodeKeys)
def build_qnode(config: Mapping[str, object]) -> QNodeModel:
    """A PennyLane QNode of your own, from the file that a configuration names.

    Raises:
        ConfigError: The configuration or the file cannot be used, or the file is not the one of ``digest``.
    """
    fields = Fields(config, QNodeKeys)
    if "path" not in fields:
        raise ConfigError(
            "a model 'qnode' is built from a file", got="no path", fix='add path = "file.py:name"'
        )
    shapes = _read_shapes(fields)
    path = fields.text("path")
    stored = fields.text("digest") if "digest" in fields else None
    qnode, digest = load_qnode(path, digest=stored)
    loss = fields.loss()
    return _model(
        qnode=qnode,
        **shapes,
        n_features=fields.integer("n_features"),
        n_classes=fields.integer("n_classes", minimum=2) if "n_classes" in fields else 0,
        scale=fields.number("scale") if "scale" in fields else None,
        loss=loss,
        path=path,
        digest=digest,
    )


def _read_shapes(fields: Fields) -> dict[str, Any]:
    """What a configuration says of the QNode's arguments."""
    named = None
    if "weight_shapes" in fields:
        table = Fields({"name": "qnode", **fields.mapping("weight_shapes")}, fields.mapping("weight_shapes"))
        named = tuple((key, table.integers(key)) for key in fields.mapping("weight_shapes"))
    elif "weight_shape" not in fields and "n_params" not in fields:
        raise ConfigError(
            "model 'qnode' does not say how many weights its QNode takes",
            fix="add n_params = 12, weight_shape = [2, 6] or weight_shapes = { weights = [2, 4, 3], bias = [2] }",
        )
    shape = None
    if "weight_shape" in fields:
        shape = fields.integers("weight_shape")
    elif named is None:
        shape = (fields.integer("n_params"),)
    held = math.prod(shape) if shape is not None else sum(math.prod(own) for _, own in named or ())
    if "n_params" in fields and held != fields.integer("n_params"):
        raise ConfigError(
            f"{'weight_shape does' if shape else 'weight_shapes do'} not hold n_params weights",
            got=f"{shape or dict(named or ())} for {fields.integer('n_params')}",
        )
    return {
        "weight_shape": shape,
        "weight_shapes": named,
        "features_argument": fields.text("features_argument") if "features_argument" in fields else None,
    }

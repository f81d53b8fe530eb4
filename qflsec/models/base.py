"""What a model is: a pure function of parameters and features, and how it is executed."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import zip_longest
from typing import ClassVar, Literal, Protocol, final, runtime_checkable

import torch
from torch import Tensor

from qflsec.base import finite
from qflsec.base.errors import ConfigError
from qflsec.circuits import Circuit, DeviceNoise, NoiseModel
from qflsec.circuits.executors import Executor, check_executor, executor_name
from qflsec.models.losses import CROSS_ENTROPY, Loss

__all__ = ["EXACT", "Evaluator", "Execution", "Generators", "Model", "check_classes", "leading_shape"]

Generators = torch.Generator | Sequence[torch.Generator]
_DTYPES = {
    "complex64": (torch.float32, torch.complex64),
    "complex128": (torch.float64, torch.complex128),
}


def leading_shape(params: Tensor, features: Tensor) -> tuple[int, ...]:
    """The shape to which the leading axes of ``params`` ``(..., P)`` and ``features`` ``(..., F)`` broadcast.

    Raises:
        ConfigError: They do not broadcast.
    """
    first, second = params.shape[:-1], features.shape[:-1]
    pairs = list(zip_longest(reversed(first), reversed(second), fillvalue=1))
    if any(a != b and 1 not in (a, b) for a, b in pairs):
        raise ConfigError(
            "leading axes of parameters and features do not broadcast",
            got=f"{tuple(params.shape)} and {tuple(features.shape)}",
            fix="insert an axis of size 1, as in params[..., None, :]",
        )
    return tuple(b if a == 1 else a for a, b in reversed(pairs))


def check_classes(n_classes: int) -> None:
    """Refuse fewer than two classes.

    Raises:
        ConfigError: There are fewer.
    """
    if n_classes < 2:
        raise ConfigError("too few classes", got=n_classes, expected="at least 2")


@runtime_checkable
class Evaluator(Protocol):
    """Somebody who evaluates a party's circuits on its behalf, such as a quantum server."""

    def evaluate(
        self, circuit: Circuit, weights: Tensor, features: Tensor, *, wanted: tuple[bool, bool]
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The observables, and their Jacobians in weights and features where they are wanted.

        Shapes:
            weights: ``(..., P)``; features: ``(..., F)``; leading axes broadcast.
            returns: ``(..., K)``, ``(..., K, P)`` and ``(..., K, F)``.

        Args:
            circuit: The circuit.
            weights: Its weights.
            features: Its features.
            wanted: Whether the Jacobian in the weights, and in the features, is wanted.
        """


@finite
@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a model's circuit is executed; a value, so that parties may differ in it.

    Attributes:
        shots: Measurements per observable group; None for exact expectations.
        noise: The noise of the circuit, by one channel or by a device's calibration; None for no noise.
        dtype: ``"complex64"``, or ``"complex128"`` for validation.
        gradient: ``"autograd"``, or ``"parameter-shift"`` to differentiate the circuit in its weights by
            shifted evaluations, as hardware does (with shots where shots are set).
        mitigation: ``"zero-noise"`` to extrapolate every value to no noise by Richardson's rule at two noise scales:
            1.5 E(1) - 0.5 E(3), where at scale 3 each noisy channel acts three times. Both are measured with ``shots``.
            Without noise in the execution there is nothing to extrapolate from, and it does nothing.
        executor: Which kernel computes exact values, with noise or without: ``"compiled"``, ``"torch"``, or ``"auto"``
            for the compiled one wherever it is installed and can; shots, and noise on more than 8 qubits, are always
            computed by the torch kernels.
        evaluator: Who evaluates the circuit in the party's place, values and parameter-shift gradients; it is
            bound to a run as that goes, and no part of a configuration.

    Raises:
        ConfigError: A value is out of range.
    """

    shots: int | None = None
    noise: NoiseModel | DeviceNoise | None = None
    dtype: str = "complex64"
    gradient: Literal["autograd", "parameter-shift"] = "autograd"
    mitigation: Literal["zero-noise"] | None = None
    executor: Executor = "auto"
    evaluator: Evaluator | None = field(default=None, compare=False, repr=False, metadata={"internal": True})

    def __post_init__(self) -> None:
        if self.shots is not None and (isinstance(self.shots, bool) or self.shots < 1):
            raise ConfigError("shots out of range", got=self.shots, expected="a whole number >= 1, or None")
        if self.noise is not None and not isinstance(self.noise, NoiseModel | DeviceNoise):
            raise ConfigError(
                "not a noise model",
                got=repr(self.noise),
                expected="a NoiseModel or a DeviceNoise, or in a specification a table with its fields",
                fix="write noise = { kind = 'global-depolarizing', p = 0.1, where = 'measurement' }",
            )
        if self.dtype not in _DTYPES:
            raise ConfigError("unknown dtype", got=repr(self.dtype), expected=f"one of {', '.join(_DTYPES)}")
        if self.gradient not in ("autograd", "parameter-shift"):
            raise ConfigError(
                "unknown gradient method", got=repr(self.gradient), expected="'autograd' or 'parameter-shift'"
            )
        if self.mitigation not in (None, "zero-noise"):
            raise ConfigError(
                "unknown mitigation", got=repr(self.mitigation), expected="'zero-noise' or none"
            )
        check_executor(self.executor)

    def to_config(self) -> dict[str, object]:
        """Every parameter, JSON-able: what an id is made from; the executor by its own name, whose last bits differ."""
        config = asdict(replace(self, evaluator=None, executor=executor_name(self.executor)))
        del config["evaluator"]
        if isinstance(self.noise, DeviceNoise):
            config["noise"] = self.noise.to_config()
        if self.mitigation is None:  # what is not there is no part of an id
            del config["mitigation"]
        return config

    @property
    def shots_in_all(self) -> int | None:
        """Measurements for one value of an observable group: at all noise scales together; None for exact values."""
        twice = self.mitigation is not None and self.noise is not None
        return None if self.shots is None else self.shots * (2 if twice else 1)

    @property
    def real_dtype(self) -> torch.dtype:
        """The dtype of angles, expectations and logits."""
        return _DTYPES[self.dtype][0]

    @property
    def complex_dtype(self) -> torch.dtype:
        """The dtype of amplitudes."""
        return _DTYPES[self.dtype][1]


EXACT = Execution()


class Model(ABC):
    """A classifier as a pure function of one flat parameter vector and features.

    Implementations are frozen values: they hold no parameters, so that one object serves every client,
    run and shadow model, and leading axes of parameters and features broadcast as in NumPy.

    Attributes:
        name: The registry name.
        n_features: Features per record, F.
        n_classes: Classes, K >= 2.
        angle_features: Whether logits have the period 2 pi in every feature, so that errors of
            reconstructed features are taken modulo 2 pi.
        loss: What training minimises.
        noise: The noise that the model's own circuit has under every execution.
    """

    name: ClassVar[str]
    n_features: int
    n_classes: int
    angle_features: bool
    loss: Loss = CROSS_ENTROPY
    noise: NoiseModel | None = None

    @property
    def only_measures(self) -> bool:
        """Whether a record's features reach logits and gradients through measured values alone; not stated means no."""
        return False

    @property
    def classes_fix(self) -> str:
        """How a user changes the number of classes."""
        return "set 'n_classes' of the model"

    @property
    @abstractmethod
    def layout(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """The blocks of the flat parameter vector in order: name and shape of each."""

    @property
    @abstractmethod
    def periods(self) -> tuple[float | None, ...]:
        """The period of each parameter in radians; None where it has none."""

    @abstractmethod
    def initial(self, generator: torch.Generator) -> Tensor:
        """Random initial parameters.

        Shapes:
            returns: ``(P,)``, float32.
        """

    @abstractmethod
    def to_config(self) -> dict[str, object]:
        """The JSON-able configuration that :func:`qflsec.models.build_model` takes, defaults written out."""

    @abstractmethod
    def _logits(
        self, params: Tensor, features: Tensor, execution: Execution, generator: Generators | None
    ) -> Tensor:
        """Logits for checked arguments in the real dtype of ``execution``."""

    @property
    def n_params(self) -> int:
        """Length of the flat parameter vector, P."""
        return sum(math.prod(shape) for _, shape in self.layout)

    @final
    def __call__(
        self,
        params: Tensor,
        features: Tensor,
        *,
        execution: Execution = EXACT,
        generator: Generators | None = None,
    ) -> Tensor:
        """Logits of the classes.

        Shapes:
            params: ``(..., P)``.
            features: ``(..., F)``; leading axes broadcast against those of ``params``.
            returns: ``(..., K)``, float32 (float64 where ``execution.dtype`` is ``"complex128"``).

        Args:
            params: Flat parameters.
            features: Records.
            execution: How the circuit is executed.
            generator: The stream of measurement outcomes, needed where ``execution.shots`` is set; or one
                stream for each entry of the first leading axis, so that a lane draws what it draws alone.

        Raises:
            ConfigError: Shapes do not fit, or the execution is not available.
        """
        if params.shape[-1:] != (self.n_params,):
            raise ConfigError(
                f"parameters do not fit the model {self.name!r}",
                got=f"shape {tuple(params.shape)}",
                expected=f"(..., {self.n_params})",
            )
        if features.shape[-1:] != (self.n_features,):
            raise ConfigError(
                f"features do not fit the model {self.name!r}",
                got=f"shape {tuple(features.shape)}",
                expected=f"(..., {self.n_features})",
            )
        leading_shape(params, features)
        dtype = execution.real_dtype
        return self._logits(params.to(dtype), features.to(dtype), execution, generator)

    def unflatten(self, params: Tensor) -> dict[str, Tensor]:
        """The named blocks of flat parameters.

        Shapes:
            params: ``(..., P)``.
            returns: each block as ``(..., *shape)`` with the shapes of :attr:`layout`.
        """
        sizes = [math.prod(shape) for _, shape in self.layout]
        blocks = torch.split(params, sizes, dim=-1)
        return {
            name: block.reshape((*block.shape[:-1], *shape))
            for (name, shape), block in zip(self.layout, blocks, strict=True)
        }

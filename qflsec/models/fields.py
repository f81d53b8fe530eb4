"""Reading a model's configuration, with a clear error for every mistake."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from qflsec.base.errors import ConfigError
from qflsec.models.losses import CROSS_ENTROPY, LOSSES, Loss
from qflsec.models.own_loss import load_loss

__all__ = ["Fields", "ModelKeys", "configured_by"]

_B = TypeVar("_B", bound=Callable[..., object])


@dataclass(frozen=True, kw_only=True)
class ModelKeys:
    """The keys of every model. What a subclass declares is what its builder reads, with these defaults.

    Attributes:
        n_features: Features of a record; in a matrix those of the data by default.
        n_classes: The number of classes.
        loss: What training minimises: ``"cross-entropy"``, ``"mse"``, ``"mse-plus-minus"``, ``"hinge"``, or
            ``"file.py:function"`` of your own.
        loss_digest: SHA-256 of the loss's file, as a stored configuration holds it.
    """

    n_features: int | None = None
    n_classes: int | None = 2
    loss: str = CROSS_ENTROPY.name
    loss_digest: str | None = None


def configured_by(keys: type[ModelKeys]) -> Callable[[_B], _B]:
    """Say which keys a builder of models reads, for ``qflsec show`` and the reference.

    Args:
        keys: A dataclass whose docstring has a sentence for each.
    """

    def mark(builder: _B) -> _B:
        builder.keys = keys  # type: ignore[attr-defined]
        return builder

    return mark


class Fields:
    """The fields of one configuration.

    Args:
        config: The configuration; its ``"name"`` is the model's registry name.
        keys: The keys that it may hold, with their defaults; names alone for a table inside it.

    Raises:
        ConfigError: It holds an unknown key.
    """

    def __init__(self, config: Mapping[str, object], keys: type[ModelKeys] | Collection[str]) -> None:
        self._config = config
        self._defaults: dict[str, object] = (
            {
                part.name: None if part.default is dataclasses.MISSING else part.default
                for part in dataclasses.fields(keys)
            }
            if isinstance(keys, type)
            else dict.fromkeys(keys)
        )
        known = list(self._defaults)
        self._model = config.get("name")
        for key in config:
            if key != "name" and key not in known:
                near = difflib.get_close_matches(str(key), known, n=1)
                raise ConfigError(
                    f"unknown key in the configuration of model {self._model!r}",
                    got=repr(key),
                    expected=f"one of {', '.join(sorted(known))}",
                    fix=f"did you mean {near[0]!r}?" if near else None,
                )

    def __contains__(self, key: str) -> bool:
        return self._config.get(key) is not None

    def integer(self, key: str, *, minimum: int = 1) -> int:
        """A whole number."""
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise self._wrong(key, value, f"a whole number >= {minimum}")
        return value

    def number(self, key: str) -> float:
        """A finite positive number."""
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise self._wrong(key, value, "a finite number > 0")
        return float(value)

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self._get(key)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def text(self, key: str) -> str:
        """A string."""
        value = self._get(key)
        if not isinstance(value, str):
            raise self._wrong(key, value, "a string")
        return value

    def integers(self, key: str) -> tuple[int, ...]:
        """A list of whole numbers >= 1."""
        value = self._get(key)
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise self._wrong(key, value, "a list of whole numbers >= 1")
        for item in value:
            if isinstance(item, bool) or not isinstance(item, int) or item < 1:
                raise self._wrong(key, value, "a list of whole numbers >= 1")
        return tuple(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings."""
        value = self._get(key)
        if (
            not isinstance(value, Sequence)
            or isinstance(value, str)
            or not all(isinstance(v, str) for v in value)
        ):
            raise self._wrong(key, value, "a list of strings")
        return tuple(value)

    def mapping(self, key: str) -> Mapping[str, object]:
        """A table."""
        value = self._get(key)
        if not isinstance(value, Mapping):
            raise self._wrong(key, value, "a table")
        return value

    def loss(self) -> Loss:
        """The loss; cross entropy where none is named."""
        name = self.text("loss")
        if ".py:" in name:
            return load_loss(name, self.text("loss_digest") if "loss_digest" in self else None)
        if name not in LOSSES:
            raise self._wrong("loss", name, f"one of {', '.join(LOSSES)}, or 'file.py:name' of your own")
        return LOSSES[name]

    def _get(self, key: str) -> object:
        """The value or the declared default; a key that is not declared is a bug, and raises."""
        default = self._defaults[key]
        value = self._config.get(key)
        value = default if value is None else value
        if value is None:
            raise ConfigError(f"model {self._model!r} needs {key!r}", fix=f"add {key!r} to its configuration")
        return value

    def _wrong(self, key: str, value: object, expected: str) -> ConfigError:
        return ConfigError(f"{key!r} of model {self._model!r} is wrong", got=repr(value), expected=expected)

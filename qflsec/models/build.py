"""Building a model from its configuration."""

from __future__ import annotations

from collections.abc import Mapping

from qflsec.base.errors import ConfigError
from qflsec.base.registry import find
from qflsec.models.base import Model

__all__ = ["build_model"]


def build_model(config: Mapping[str, object]) -> Model:
    """The model that a configuration describes; ``Model.to_config`` is the inverse.

    Args:
        config: ``{"name": registry name, ...}``, for example ``{"name": "vqc", "n_qubits": 4, "layers": 3}``.

    Raises:
        ConfigError: The configuration cannot be used.
        UnknownName: No model has this name.
    """
    name = config.get("name")
    if not isinstance(name, str):
        raise ConfigError(
            "a model's configuration needs a name", got=repr(name), fix='for example name = "vqc"'
        )
    builder = find("model", name)
    model = builder(config)
    if not isinstance(model, Model):
        raise TypeError(f"the builder of model {name!r} returned {type(model).__name__}")
    model.loss.check(model.n_classes)
    return model

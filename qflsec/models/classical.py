"""Classical baselines: a linear classifier or a small tanh network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qflsec.base.registry import register
from qflsec.models.affine import affine_layout, dense, draw_affine
from qflsec.models.base import Execution, Generators, Model, check_classes
from qflsec.models.fields import Fields, ModelKeys, configured_by
from qflsec.models.losses import CROSS_ENTROPY, Loss

__all__ = ["Classical", "classical_like"]


@dataclass(frozen=True, kw_only=True)
class Classical(Model):
    """A classical classifier: affine layers with tanh between them.

    The parameters are, layer by layer, ``dense.i.weight`` ``(out, in)`` and ``dense.i.bias`` ``(out,)``.

    Args:
        n_features: Features per record.
        n_classes: Classes.
        hidden: Widths of the hidden layers; none for a linear classifier.
        loss: What training minimises.
    """

    name = "classical"
    n_features: int
    n_classes: int = 2
    hidden: tuple[int, ...] = ()
    loss: Loss = CROSS_ENTROPY
    angle_features: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        """Refuse fewer than two classes."""
        check_classes(self.n_classes)

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths from the features to the logits."""
        return (self.n_features, *self.hidden, self.n_classes)

    @property
    def layout(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """The blocks of the flat parameter vector in order."""
        return affine_layout("dense", self.widths)

    @property
    def periods(self) -> tuple[float | None, ...]:
        """None for every parameter."""
        return (None,) * self.n_params

    def initial(self, generator: torch.Generator) -> Tensor:
        """Uniform in +-1/sqrt(in), as in ``torch.nn.Linear``."""
        return draw_affine(self.widths, generator)

    def to_config(self) -> dict[str, object]:
        """The configuration, defaults written out."""
        return {
            "name": self.name,
            "n_features": self.n_features,
            "n_classes": self.n_classes,
            "hidden": list(self.hidden),
            **self.loss.to_config(),
        }

    def _logits(
        self, params: Tensor, features: Tensor, execution: Execution, generator: Generators | None
    ) -> Tensor:
        return dense(features, self.unflatten(params), "dense", len(self.hidden) + 1)


def classical_like(model: Model, *, report: Callable[[str], None] = print) -> Classical:
    """The classical baseline whose number of parameters is nearest to that of ``model``.

    The choice is between the linear classifier and networks with one hidden layer; of two equally near,
    the smaller is taken.

    Args:
        model: The model to match.
        report: Receives one line with both counts.
    """
    per_unit = model.n_features + 1 + model.n_classes
    around = max(1, (model.n_params - model.n_classes) // per_unit)
    candidates = [
        Classical(n_features=model.n_features, n_classes=model.n_classes, hidden=hidden, loss=model.loss)
        for hidden in ((), (around,), (around + 1,))
    ]
    best = min(candidates, key=lambda c: (abs(c.n_params - model.n_params), c.n_params))
    report(
        f"{model.name}: {model.n_params} parameters; classical baseline: {best.n_params}, hidden {best.hidden}"
    )
    return best


@dataclass(frozen=True, kw_only=True)
class ClassicalKeys(ModelKeys):
    """The keys of a classical network.

    Attributes:
        hidden: Widths of the hidden layers; none for a linear classifier.
    """

    hidden: tuple[int, ...] = ()


@register("model", "classical")
@configured_by(ClassicalKeys)
def _build(config: Mapping[str, object]) -> Classical:
    """A classical network, as a baseline of equal size."""
    fields = Fields(config, ClassicalKeys)
    return Classical(
        n_features=fields.integer("n_features"),
        n_classes=fields.integer("n_classes", minimum=2),
        hidden=fields.integers("hidden"),
        loss=fields.loss(),
    )

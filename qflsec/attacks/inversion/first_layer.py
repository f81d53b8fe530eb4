"""First layer: a record in closed form from the gradient of a classical layer with a bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from qflsec.attacks.base import Inference
from qflsec.attacks.challenges import InversionChallenge, InversionClaim
from qflsec.attacks.inversion.observation import Observation, missing_observation, observe_rounds
from qflsec.attacks.inversion.reconstruction import into_range
from qflsec.attacks.needs import missing_architecture
from qflsec.base import AttackCard, ConfigError, IncompatibleAttack, Source, register
from qflsec.federation import Pipeline
from qflsec.models import Model
from qflsec.threat import ThreatModel, View

__all__ = ["FirstLayer", "first_layer", "mixtures"]


@register("attack", "first-layer")
@dataclass(frozen=True, kw_only=True)
class FirstLayer(Inference):
    """Divide the gradient of the first layer's weights by that of its bias.

    For a layer ``W x + b`` the gradient of row i of W is ``d_i x`` and that of b_i is ``d_i``, whatever comes
    behind: a circuit does not protect what a classical layer in front of it gives away. One record comes out exactly,
    also after several steps of gradient descent on it, with momentum or without, since every step adds a multiple of the same x. Of
    several records each unit gives a weighted mean, with weights that may be negative; the attack claims the
    means of the units whose bias moved most, inside the feature range, and nothing says that they are records. The rounds of a run give
    the same record of one, and other mixtures of several.

    Args:
        rounds: How many rounds are read, the earliest ones.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Phong et al.: Privacy-preserving deep learning via additively homomorphic encryption, IEEE TIFS 2018, section
        III; Geiping et al., NeurIPS 2020, proposition 3.1.
    """

    card = AttackCard(
        name="first-layer",
        idea="The first layer's gradient is the record times the bias's gradient.",
        source=Source(
            paper="Geiping et al.: Inverting gradients, NeurIPS 2020, arXiv:2003.14053",
            year=2020,
            where="proposition 3.1",
        ),
        family="inversion",
        goal="confidentiality",
        needs=(
            "an update of the target, or a sum that contains it",
            "the model that the update starts from",
            "a model whose first layer is classical, with a bias",
        ),
    )
    challenge_type = InversionChallenge
    rounds: int = 1

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        if self.rounds < 1:
            raise ConfigError("'rounds' is too small", got=self.rounds, expected="at least 1")

    def check(self, pipeline: Pipeline, threat: ThreatModel) -> None:
        """Refuse models without a classical first layer.

        Raises:
            IncompatibleAttack: There is none.
        """
        super().check(pipeline, threat)
        if first_layer(pipeline.model) is None:
            raise IncompatibleAttack(
                f"{self.card.name!r} needs a classical first layer with a bias",
                got=f"model {pipeline.model.name!r}",
                fix="use 'dlg', or a hybrid or classical model",
            )

    def missing(self, view: View, challenge: InversionChallenge) -> str | None:
        """The architecture, its first layer, or an update that contains the target."""
        reason = missing_architecture(view) or missing_observation(view, challenge.target)
        if reason is None and first_layer(view.granted.model) is None:
            reason = "the model has no classical first layer with a bias"
        return reason

    def run(self, view: View, challenge: InversionChallenge) -> InversionClaim:
        """The means of the units that moved most."""
        seen = observe_rounds(view, challenge.target)[: self.rounds]
        features, moved = mixtures(view.granted.model, seen)
        order = moved.argsort(descending=True, stable=True)
        turn = order.repeat(-(-challenge.n_records // len(order)))[: challenge.n_records]
        claimed = into_range(
            features[turn], challenge.feature_range, angles=view.granted.model.angle_features
        )
        return InversionClaim(features=claimed.float())


def first_layer(model: Model) -> tuple[str, str] | None:
    """The names of weights and bias of the layer that takes the features; None where none is known to."""
    shapes = dict(model.layout)
    weights, bias = "before.0.weight", "before.0.bias"
    if weights in shapes and bias in shapes and shapes[weights][-1] == model.n_features:
        return weights, bias
    return None


def mixtures(model: Model, seen: Sequence[Observation]) -> tuple[torch.Tensor, torch.Tensor]:
    """What each unit of each round mixes, and how far its bias moved.

    Shapes:
        returns: ``(units, F)`` and ``(units,)``
    """
    names = first_layer(model)
    assert names is not None  # missing() said so
    found = [model.unflatten(one.update.double()) for one in seen]
    weights = torch.cat([blocks[names[0]] for blocks in found])
    bias = torch.cat([blocks[names[1]] for blocks in found])
    size = bias.abs().clamp_min(1e-300)
    return weights / torch.copysign(size, bias)[:, None], size

"""Parts of a model: who trains and sends which parameters, where clients are not alike.

A part that few clients send is the mean of few: it hides each of them less, and fewer corrupted ones decide it. Which
parts a client sent is said in the clear, and counts as known to everybody.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import Any, ClassVar, final

import torch

from qflsec.base import ConfigError, finite, stream
from qflsec.models import Layered, Model
from qflsec.models.layered import POLES, layer_name

__all__ = ["Depths", "Parts", "Slimmable", "poles_of"]


@dataclass(frozen=True, kw_only=True)
class Parts(ABC):
    """Which parameters each client trains and sends, as a frozen configuration.

    Attributes:
        name: What a configuration calls it.
        unset: Values of later options with which they change nothing, and are no part of an id.
    """

    name: ClassVar[str]
    unset: ClassVar[Mapping[str, object]] = {}

    @property
    def training_rounds(self) -> int:
        """After how many rounds what a client trains is ready to be sent: within the same one by default."""
        return 0

    def discount(self, age: int) -> float:
        """What an update is multiplied with that was trained from a model so many rounds old; 1 by default."""
        return 1.0

    @abstractmethod
    def check(self, model: Model, n_clients: int) -> None:
        """Refuse a model without these parts, or another number of clients.

        Raises:
            ConfigError: They do not fit.
        """

    def trained(self, model: Model, index: int) -> tuple[Model, ...]:
        """The models whose mean loss a client minimises, all of the same parameters; the pipeline's by default."""
        return (model,)

    @abstractmethod
    def sent(self, model: Model, n_clients: int, round_index: int, seed: int) -> torch.Tensor:
        """Which parameters of each client arrive; a client without any takes no part in the round.

        Shapes:
            returns: ``(client, P)``, boolean
        """

    @abstractmethod
    def choices(self, model: Model) -> torch.Tensor:
        """What a client may say that it sends, least first.

        Shapes:
            returns: ``(c, P)``, boolean
        """

    def groups(self, model: Model, n_clients: int) -> tuple[tuple[int, ...], ...]:
        """For each part, the clients that may send it: everybody by default."""
        return (tuple(range(n_clients)),)

    @final
    def to_config(self) -> dict[str, Any]:
        """The name and every parameter, JSON-able."""
        found = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
            if key not in self.unset or value != self.unset[key]
        }
        return {"name": self.name, **found}


@finite
@dataclass(frozen=True, kw_only=True)
class Depths(Parts):
    """Clients with circuits of different depths: each trains and sends the first layers alone.

    With all depths equal to the model's, and ``layerwise = False``, it is federated averaging, bit for bit.

    Attributes:
        depths: How many layers each client has.
        layerwise: Whether a client minimises the mean of the losses behind each of its layers; of the last one alone
            where not.

    Source:
        Park, Son, Jung and Kim: IEEE TVT 74, 8158, 2025; Han et al. (Quorus), ICLR 2026, arXiv:2510.06228. Layers are
        averaged over the clients that have them, weighted by their records; distillation between exits is not done.

    Raises:
        ConfigError: A depth is none.
    """

    name = "depths"
    depths: tuple[int, ...]
    layerwise: bool = True

    def __post_init__(self) -> None:
        """Refuse what is no depth."""
        depths: object = self.depths  # as a specification may have it
        listed = list(depths) if isinstance(depths, list | tuple) else []
        if not listed or not all(
            isinstance(one, int) and not isinstance(one, bool) and one >= 1 for one in listed
        ):
            raise ConfigError(
                "'depths' is wrong", got=repr(depths), expected="a whole number >= 1 for each client"
            )
        object.__setattr__(self, "depths", tuple(listed))
        if not isinstance(self.layerwise, bool):
            raise ConfigError("'layerwise' is wrong", got=repr(self.layerwise), expected="true or false")

    def check(self, model: Model, n_clients: int) -> None:
        """Refuse a model without exits, and depths that are not one for each client or deeper than it."""
        layered = _layered(model, "depths")
        if len(self.depths) != n_clients:
            raise ConfigError(
                "there is not one depth for each client", got=len(self.depths), expected=n_clients
            )
        if max(self.depths) > layered.layers:
            raise ConfigError(
                "a client is deeper than the model",
                got=max(self.depths),
                expected=f"{layered.layers} at most",
            )
        if layered.poles:
            raise ConfigError(
                "poles behind which layer? clients of different depths share none",
                got="poles = true",
                fix="leave out 'poles'",
            )

    def trained(self, model: Model, index: int) -> tuple[Model, ...]:
        """The model behind each layer of the client, or behind its last."""
        layered, depth = _layered(model, "depths"), self.depths[index]
        return tuple(layered.at(one) for one in range(1 if self.layerwise else depth, depth + 1))

    def sent(self, model: Model, n_clients: int, round_index: int, seed: int) -> torch.Tensor:
        """The layers that each client has."""
        return self.choices(model)[[depth - 1 for depth in self.depths]]

    def choices(self, model: Model) -> torch.Tensor:
        """The first layer, the first two, and so on."""
        layers = _layered(model, "depths").layers
        return torch.stack(
            [
                _places(model, [layer_name(one) for one in range(1, depth + 1)])
                for depth in range(1, layers + 1)
            ]
        )

    def groups(self, model: Model, n_clients: int) -> tuple[tuple[int, ...], ...]:
        """The clients with each layer."""
        everybody = range(n_clients)
        deepest = range(1, max(self.depths) + 1)
        return tuple(tuple(i for i in everybody if self.depths[i] >= layer) for layer in deepest)


@finite
@dataclass(frozen=True, kw_only=True)
class Slimmable(Parts):
    """Channels that are good, poor or down in each round: all parameters arrive, the angles without the poles, or nothing.

    Attributes:
        whole: The probability that all of a client's update arrives.
        angles: The probability that its angles arrive, and its poles do not.

    Source:
        After Yun et al. (SlimQFL), ICML workshop DyNN 2022, arXiv:2207.10221: each part is averaged over those from whom
        it came. Its superposition coding is reduced to what arrives, and its alternation of parts in local training to
        training both.

    Raises:
        ConfigError: These are no probabilities of different outcomes.
    """

    name = "slimmable"
    whole: float = 0.5
    angles: float = 0.35

    def __post_init__(self) -> None:
        """Refuse what are no probabilities."""
        if not (self.whole > 0 <= self.angles and self.whole + self.angles <= 1 + 1e-12):
            raise ConfigError(
                "'whole' and 'angles' are no probabilities of different outcomes",
                got=f"{self.whole} and {self.angles}",
                expected="whole > 0, angles >= 0, and at most 1 together",
            )

    def check(self, model: Model, n_clients: int) -> None:
        """Refuse a model without poles."""
        if not _layered(model, "slimmable parts").poles:
            raise ConfigError(
                "the model has no poles to leave out", got=model.to_config(), fix="set 'poles = true'"
            )

    def sent(self, model: Model, n_clients: int, round_index: int, seed: int) -> torch.Tensor:
        """What each client's channel lets through in this round."""
        drawn = torch.rand(n_clients, generator=stream(seed, "channel", round_index), dtype=torch.float64)
        slim, everything = self.choices(model)
        nothing = torch.zeros_like(slim)
        rows = [
            everything if one < self.whole else slim if one < self.whole + self.angles else nothing
            for one in drawn.tolist()
        ]
        return torch.stack(rows)

    def choices(self, model: Model) -> torch.Tensor:
        """The angles, and everything."""
        poles = _places(model, [POLES])
        return torch.stack([~poles, torch.ones_like(poles)])


def poles_of(model: Model) -> torch.Tensor:
    """Which parameters are the poles of a slimmable model; none of another.

    Shapes:
        returns: ``(P,)``, boolean
    """
    return _places(model, [POLES] if isinstance(model, Layered) else [])


def _layered(model: Model, what: str) -> Layered:
    if not isinstance(model, Layered):
        raise ConfigError(
            f"{what} need a model that can be cut",
            got=model.name,
            fix="use model = { name = 'layered', ... }",
        )
    return model


def _places(model: Model, names: list[str]) -> torch.Tensor:
    """Where blocks of these names stand.

    Shapes:
        returns: ``(P,)``, boolean
    """
    return torch.cat([torch.full((prod(shape),), name in names) for name, shape in model.layout])

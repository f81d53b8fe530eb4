"""Free riders: clients that take the model and train nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from qflsec.attacks.base import Manipulation
from qflsec.attacks.values import check_choice
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.federation import Hands, Moved

__all__ = ["FreeRider"]


@register("attack", "free-rider")
@dataclass(frozen=True, kw_only=True)
class FreeRider(Manipulation):
    """Send an update without any training.

    Args:
        kind: ``"plain"`` sends zero, so that the model comes back as it was; ``"delta"`` sends how the model moved
            since the last round, which looks like an honest update; it is zero in the first round.
        noise: The standard deviation of normal noise on it in the first round.
        decay: In round t, counted from 1, the noise is ``noise * t**-decay``, as honest updates shrink.

    Units:
        noise: that of the parameters, radians for rotation angles

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Fraboni, Vidal, Lorenzi: Free-rider attacks on model aggregation in federated learning, AISTATS 2021,
        arXiv:2006.11901 (plain and disguised); Lin, Du, Liu: Free-riders in federated learning, 2019,
        arXiv:1911.12560 (delta weights, and with noise).
    """

    card = AttackCard(
        name="free-rider",
        idea="Corrupted clients take the model and send an update without training.",
        source=Source(
            paper="Fraboni, Vidal, Lorenzi: Free-rider attacks on model aggregation in federated learning, "
            "AISTATS 2021, arXiv:2006.11901",
            year=2021,
            where="sections 3.2 and 3.3, plain and disguised free-riding",
        ),
        family="poisoning",
        goal="availability",
        needs=("corrupted clients",),
    )
    kind: Literal["plain", "delta"] = "plain"
    noise: float = 0.0
    decay: float = 1.0

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        check_choice("kind", self.kind, ("plain", "delta"))
        for name in ("noise", "decay"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name!r} is negative", got=getattr(self, name), expected="0 or more")

    def run(self, hands: Hands) -> Moved:
        """Zero or the last step, with noise; and the model that was received."""
        sent = torch.zeros_like(hands.honest)
        for lane, before in enumerate(hands.states):
            if self.kind == "delta" and before is not None:
                sent[lane] = hands.base[lane] - before
        if self.noise:
            shape = hands.honest.shape[1:]
            drawn = [torch.randn(shape, generator=generator) for generator in hands.generators]
            sent += self.noise * (hands.round + 1.0) ** -self.decay * torch.stack(drawn).to(sent)
        return sent, list(hands.base.clone())

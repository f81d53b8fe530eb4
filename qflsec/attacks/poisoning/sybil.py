"""Sybils: many identities with one goal, and what hides that they are one."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.attacks.base import Manipulation
from qflsec.attacks.poisoning.label_flip import flipped_labels
from qflsec.attacks.values import check_positive
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.federation import Hands

__all__ = ["Sybil"]


@register("attack", "sybil")
@dataclass(frozen=True, kw_only=True)
class Sybil(Manipulation):
    """All corrupted clients are one adversary: they send one poisoned update, each with noise that cancels out.

    The update is the mean of what they would send after training on reversed labels, weighted by their records. The
    noise of all of them adds up to zero, so that it makes them look unlike each other and changes no mean.

    Args:
        noise: The length of each one's noise, as a multiple of the update's own length.
        boost: The factor on the update.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Fung, Yoon, Beschastnikh: The limitations of federated learning in sybil settings, RAID 2020,
        arXiv:1808.04866, section 7 (adaptive attacks: intelligent perturbations).
    """

    card = AttackCard(
        name="sybil",
        idea="Many identities send one poisoned update, with noise between them that cancels out.",
        source=Source(
            paper="Fung, Yoon, Beschastnikh: The limitations of federated learning in sybil settings, RAID 2020, "
            "arXiv:1808.04866",
            year=2020,
            where="sybil poisoning, and sybils with intelligent perturbations",
        ),
        family="poisoning",
        goal="availability",
        needs=("corrupted clients with records of their own",),
    )
    noise: float = 0.0
    boost: float = 1.0

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        if self.noise < 0:
            raise ConfigError("'noise' is negative", got=self.noise, expected="0 or more")
        check_positive("boost", self.boost)

    def run(self, hands: Hands) -> torch.Tensor:
        """The common update, and the noise between them."""
        wrong = flipped_labels(hands.labels, hands.model.n_classes, "reverse", list(hands.generators))
        trained = hands.train(hands.features, wrong)
        weights = hands.mask.sum(dim=-1)
        weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1.0)
        common: torch.Tensor = (trained * weights[..., None]).sum(dim=1)
        drawn = torch.stack(
            [torch.randn(trained.shape[1:], generator=generator) for generator in hands.generators]
        )
        # weighted by records, as the mean is; so that it cancels there
        centred = drawn - (drawn * weights[..., None]).sum(dim=1, keepdim=True)
        lengths = centred.norm(dim=-1, keepdim=True).mean(dim=1, keepdim=True).clamp(min=1e-12)
        hidden = self.noise * common.norm(dim=-1)[:, None, None] * centred / lengths
        sent: torch.Tensor = self.boost * common[:, None, :] + hidden.to(trained.dtype)
        return sent

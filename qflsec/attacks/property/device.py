"""Device fingerprint: whose updates were made on the noisier device?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qflsec.attacks.challenges import DeviceChallenge, PropertyChallenge
from qflsec.attacks.inversion.observation import disjoint_items
from qflsec.attacks.property.probe import PropertyProbe
from qflsec.attacks.simulated_clients import mixed_updates
from qflsec.base import AttackCard, Source, register
from qflsec.threat import Item, Records, View

__all__ = ["DeviceFingerprint"]


@register("attack", "device-fingerprint")
@dataclass(frozen=True, kw_only=True)
class DeviceFingerprint(PropertyProbe):
    """Read off every update and sum how much of it was trained on the device in question, and attribute it to clients.

    Noise shrinks expectation values and with them gradients; few shots spread them. The adversary simulates clients on
    either device with auxiliary records, from the model that was sent, and learns what the device does to an update: its
    direction, and the logarithm of its length.

    Args:
        simulated: Simulated mixtures for each model and number of clients.
        rounds: The most rounds that are read, the earliest ones.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Melis, Song, De Cristofaro, Shmatikov: Exploiting unintended feature leakage in collaborative learning, IEEE S&P 2019,
        section V (a property classifier on simulated updates); that the property is the device is this package's.
    """

    card = AttackCard(
        name="device-fingerprint",
        idea="Learn from simulated clients what a device's noise does to an update, and read it off.",
        source=Source(
            paper="Melis et al.: Exploiting unintended feature leakage in collaborative learning, IEEE S&P 2019, "
            "arXiv:1805.04049",
            year=2019,
            where="section V; the property is the device here",
        ),
        family="property",
        goal="confidentiality",
        needs=(
            "updates or sums of known clients",
            "the models that they start from",
            "the model's architecture",
            "auxiliary records, and what the devices are like",
        ),
    )
    challenge_type = DeviceChallenge
    simulated: int = 192

    @property
    def spread(self) -> float:
        """The variance of a fair coin."""
        return 1 / 4

    def features(self, updates: Tensor) -> Tensor:
        """The direction of an update and the logarithm of its length, which say the same of it as the update does."""
        length = updates.norm(dim=-1, keepdim=True).clamp_min(1e-30)
        return torch.cat([updates / length, length.log()], dim=-1)

    def simulate(
        self,
        view: View,
        challenge: DeviceChallenge,
        auxiliary: Records,
        item: Item,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Mixtures of clients on the device and on others."""
        count, n = self.simulated, len(auxiliary.labels)
        share = torch.rand(count, generator=generator)
        counts = dict(zip(challenge.clients, challenge.counts, strict=True))
        sizes = [counts[client] for client in sorted(item.named)]
        total, held = torch.zeros((), dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
        for size in sizes:
            rows = torch.randint(n, (count, size), generator=generator)
            on = torch.rand(count, generator=generator) < share
            other = torch.randint(len(challenge.others), (count,), generator=generator)
            place = torch.where(on, 0, 1 + other)
            updates = torch.zeros(count, item.vector.shape[0], dtype=torch.float64)
            for index, execution in enumerate((challenge.device, *challenge.others)):
                at = torch.nonzero(place == index)[:, 0]
                if len(at):
                    made = [(rows[at], execution)]
                    updates[at] = mixed_updates(view, challenge.training, item, auxiliary, made, generator)
            total, held = total + size * updates, held + size * on.double()
        return self.features(total / sum(sizes)), held / sum(sizes)

    def _items(self, view: View, challenge: PropertyChallenge) -> list[Item]:
        """Updates of zeros too: who sends none says what device it has."""
        return disjoint_items(view, challenge.clients, challenge.training, rounds=self.rounds)

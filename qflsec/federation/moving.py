"""Clients that move: vehicles that sleep and fade, and satellites that pass over ground stations.

Who is heard in a round follows from chains, channels and orbits that everybody may know. It is therefore no secret sampling:
rosters are public, and no epsilon is made smaller by it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import torch

from qflsec.base import ConfigError, finite, stream
from qflsec.federation.parts import Parts, poles_of
from qflsec.models import Model

__all__ = ["Satellites", "Vehicles"]

_EARTH_KM = 6371.0
"""The mean radius of the Earth."""
_MU = 398600.4418
"""The Earth's gravitational parameter, in km^3 / s^2 (WGS 84)."""


@finite
@dataclass(frozen=True, kw_only=True)
class _Moving(Parts):
    """Clients of which whole updates, their angles alone or nothing arrives, at once or late.

    Poles of a slimmable model need a good link. A model without poles arrives whole or, where the link is not good, not
    at all. A client that trains for rounds gets no other model meanwhile, and everybody keeps these times, corrupted
    clients too; what a corrupted client sends it may make at the last moment.
    """

    unset: ClassVar[Mapping[str, object]] = {"train_rounds": 0, "staleness_power": 0.0}
    train_rounds: int = 0
    staleness_power: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no number of rounds, and updates that grow with age."""
        if (
            not isinstance(self.train_rounds, int)
            or isinstance(self.train_rounds, bool)
            or self.train_rounds < 0
        ):
            raise ConfigError(
                "'train_rounds' is wrong", got=repr(self.train_rounds), expected="0 or more rounds"
            )
        if self.staleness_power < 0:
            raise ConfigError("'staleness_power' is negative", got=self.staleness_power, expected="0 or more")
        if self.staleness_power and not self.train_rounds:
            raise ConfigError(
                "no update is old where training takes no round",
                got=f"staleness_power={self.staleness_power}, train_rounds=0",
                fix="leave out 'staleness_power', or set 'train_rounds'",
            )

    @property
    def training_rounds(self) -> int:
        """As configured."""
        return self.train_rounds

    def discount(self, age: int) -> float:
        """``(1 + age)^-staleness_power``."""
        return float((1 + age) ** -self.staleness_power)

    def check(self, model: Model, n_clients: int) -> None:
        """Every model fits, and every number of clients."""

    def choices(self, model: Model) -> torch.Tensor:
        """The angles, where the model has poles, and everything."""
        poles = poles_of(model)
        everything = torch.ones_like(poles)
        return torch.stack([~poles, everything]) if bool(poles.any()) else everything[None]

    def _rows(self, model: Model, links: torch.Tensor) -> torch.Tensor:
        """What arrives over links that are down (0), poor (1) or good (2).

        Shapes:
            links: ``(client,)``; returns: ``(client, P)``, boolean
        """
        poles = poles_of(model)
        poor = ~poles if bool(poles.any()) else torch.zeros_like(poles)
        return torch.stack([torch.zeros_like(poles), poor, torch.ones_like(poles)])[links]


@finite
@dataclass(frozen=True, kw_only=True)
class Vehicles(_Moving):
    """Vehicles that are awake or asleep by a two-state chain, on a fading channel.

    In every round an awake one falls asleep with the probability ``sleep``, and a sleeping one wakes with ``wake``; the chain
    begins with its stationary share, wake / (sleep + wake), and is correlated by 1 - sleep - wake from round to round. The
    signal-to-noise ratio is its mean times an exponential variable (Rayleigh fading), drawn anew in every round: at
    ``whole_db`` all of an update arrives, at ``angles_db`` its angles without the poles, below nothing.

    Attributes:
        sleep: The probability to fall asleep (of a round); 0 is always awake.
        wake: The probability to wake (of a round).
        snr_db: The mean signal-to-noise ratio (dB).
        whole_db: Where whole updates arrive (dB).
        angles_db: Where angles arrive (dB).
        fading: ``"rayleigh"``, or ``"none"`` for the mean in every round.
        train_rounds: After how many rounds an update is ready; it is sent in the first round from then on in which the vehicle is
            heard, and what was not sent by the last round is lost. 0 sends it in the round of its model.
        staleness_power: The server multiplies an update from a model s rounds old by (1 + s)^-staleness_power.

    Source:
        After QV-FEDCOM (vehicles that are active or asleep; its policy is learned, this one is a chain) and Yun et al.
        (SlimQFL), arXiv:2207.10221 (what arrives over which channel). Rayleigh fading: a power with exponential law, so that
        whole updates arrive with probability exp(-10^((whole_db - snr_db) / 10)), which the tests check.

    Raises:
        ConfigError: A value is out of range.
    """

    name = "vehicles"
    sleep: float = 0.2
    wake: float = 0.4
    snr_db: float = 10.0
    whole_db: float = 8.0
    angles_db: float = 0.0
    fading: Literal["rayleigh", "none"] = "rayleigh"

    def __post_init__(self) -> None:
        """Refuse what are no probabilities, and thresholds in the wrong order."""
        super().__post_init__()
        if not (0 <= self.sleep <= 1 and 0 < self.wake <= 1):
            raise ConfigError(
                "'sleep' and 'wake' are no probabilities",
                got=f"{self.sleep} and {self.wake}",
                expected="0 <= sleep <= 1 and 0 < wake <= 1",
            )
        if self.angles_db > self.whole_db:
            raise ConfigError(
                "angles need a better channel than whole updates",
                got=f"angles_db={self.angles_db}, whole_db={self.whole_db}",
                expected="angles_db <= whole_db",
            )
        if self.fading not in {"rayleigh", "none"}:
            raise ConfigError("unknown 'fading'", got=repr(self.fading), expected="'rayleigh' or 'none'")

    @property
    def share(self) -> float:
        """The stationary share of awake vehicles."""
        return self.wake / (self.sleep + self.wake)

    def awake(self, n_clients: int, round_index: int, seed: int) -> torch.Tensor:
        """Who is awake in a round.

        Shapes:
            returns: ``(client,)``, boolean
        """
        chain = _chain(self, n_clients, seed)
        for index in range(len(chain), round_index + 1):
            drawn = _drawn(n_clients, seed, index)
            chain.append(torch.where(chain[-1], drawn >= self.sleep, drawn < self.wake))
        return chain[round_index]

    def sent(self, model: Model, n_clients: int, round_index: int, seed: int) -> torch.Tensor:
        """What of each vehicle arrives."""
        power = torch.ones(n_clients, dtype=torch.float64)
        if self.fading == "rayleigh":
            generator = stream(seed, "fading", round_index)
            power = -torch.log1p(-torch.rand(n_clients, generator=generator, dtype=torch.float64))
        snr = power * 10 ** (self.snr_db / 10)
        links = (snr >= 10 ** (self.angles_db / 10)).long() + (snr >= 10 ** (self.whole_db / 10)).long()
        return self._rows(model, torch.where(self.awake(n_clients, round_index, seed), links, 0))


@lru_cache(maxsize=256)
def _chain(vehicles: Vehicles, n_clients: int, seed: int) -> list[torch.Tensor]:
    """Who was awake in the rounds so far; it grows, as rounds that begin at the first would make runs quadratic."""
    return [_drawn(n_clients, seed, 0) < vehicles.share]


def _drawn(n_clients: int, seed: int, round_index: int) -> torch.Tensor:
    generator = stream(seed, "vehicles", round_index)
    return torch.rand(n_clients, generator=generator, dtype=torch.float64)


@finite
@dataclass(frozen=True, kw_only=True)
class Satellites(_Moving):
    """Satellites of one circular orbit, evenly spaced, that pass over ground stations evenly spaced below it.

    Who is heard follows from the round alone, for every seed. The Earth does not turn under the orbit, and a satellite that no
    station sees takes no part. Where training takes rounds, a satellite gets a model, trains out of sight, and sends what it made
    of it when it is next heard.

    Attributes:
        altitude_km: Above the ground (km).
        elevation_deg: The least elevation at which a station hears a satellite (degrees).
        whole_elevation_deg: Where whole updates arrive (degrees); below angles without the poles.
        round_minutes: How long a round takes (minutes).
        stations: Ground stations.
        train_rounds: After how many rounds an update is ready; it is sent in the first round from then on in which the satellite
            is heard, and what was not sent by the last round is lost. 0 sends it in the round of its model.
        staleness_power: The server multiplies an update from a model s rounds old by (1 + s)^-staleness_power.

    Source:
        Two-body motion on a circle (period 2 pi sqrt(r^3 / mu)) and the triangle of the Earth's centre, station and
        satellite; both are derived in the tests. What arrives over which link after Park, Jung, Kim, IEEE Access 12, 58239,
        2024 (slimmable quantum federated learning for satellites), abstract. Steps that are smaller for age after Xie, Koyejo,
        Gupta: Asynchronous federated optimization, arXiv:1903.03934, abstract, and this power as others implement it: there a
        server takes models in one at a time, here it averages what arrives in a round.

    Raises:
        ConfigError: A value is out of range.
    """

    name = "satellites"
    altitude_km: float = 550.0
    elevation_deg: float = 10.0
    whole_elevation_deg: float = 25.0
    round_minutes: float = 7.0
    stations: int = 4

    def __post_init__(self) -> None:
        """Refuse orbits below the ground, elevations that are none, and no station."""
        super().__post_init__()
        if self.altitude_km <= 0 or self.round_minutes <= 0:
            raise ConfigError(
                "'altitude_km' and 'round_minutes' must be positive",
                got=f"{self.altitude_km} and {self.round_minutes}",
            )
        if not 0 <= self.elevation_deg <= self.whole_elevation_deg < 90:
            raise ConfigError(
                "the elevations are out of range",
                got=f"elevation_deg={self.elevation_deg}, whole_elevation_deg={self.whole_elevation_deg}",
                expected="0 <= elevation_deg <= whole_elevation_deg < 90",
            )
        if not isinstance(self.stations, int) or isinstance(self.stations, bool) or self.stations < 1:
            raise ConfigError("'stations' is wrong", got=repr(self.stations), expected="at least 1")

    @property
    def period_minutes(self) -> float:
        """The time of one orbit (minutes)."""
        return 2 * math.pi * math.sqrt((_EARTH_KM + self.altitude_km) ** 3 / _MU) / 60

    def half_window(self, elevation_deg: float) -> float:
        """The angle at the Earth's centre within which a satellite stands at least so high (radians).

        Args:
            elevation_deg: How high above the horizon of a station (degrees).
        """
        elevation = math.radians(elevation_deg)
        return math.acos(_EARTH_KM / (_EARTH_KM + self.altitude_km) * math.cos(elevation)) - elevation

    @property
    def share(self) -> float:
        """The share of the time in which some station hears a satellite."""
        return min(1.0, self.stations * self.half_window(self.elevation_deg) / math.pi)

    def links(self, n_clients: int, round_index: int) -> torch.Tensor:
        """Which links are down (0), poor (1) or good (2) in a round.

        Shapes:
            returns: ``(client,)``, integers
        """
        turn = round_index * self.round_minutes / self.period_minutes
        places = (torch.arange(n_clients, dtype=torch.float64) / n_clients + turn) * self.stations
        # from the nearest station, as an angle at the Earth's centre
        apart = (places - places.round()).abs() * 2 * math.pi / self.stations
        seen, high = (
            apart <= self.half_window(elevation) + 1e-12
            for elevation in (self.elevation_deg, self.whole_elevation_deg)
        )
        return seen.long() + high.long()

    def sent(self, model: Model, n_clients: int, round_index: int, seed: int) -> torch.Tensor:
        """What of each satellite arrives."""
        return self._rows(model, self.links(n_clients, round_index))

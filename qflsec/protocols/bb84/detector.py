"""Bob's detectors: which of the two click, for each kind of pulse."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from qflsec.base import ConfigError, finite

__all__ = [
    "BLINDED",
    "BRIGHT",
    "FOCK",
    "MAX_PHOTONS",
    "PERFECT_DETECTORS",
    "ClickTable",
    "DetectorModel",
    "click_table",
    "slot_efficiencies",
]

# Codes of what a pulse is made of: 0..15 number a coherent intensity, FOCK + n is exactly n photons, and the
# last two are the bright light of a blinding attack without and with a trigger pulse.
FOCK = 64
MAX_PHOTONS = 180
BLINDED = 254
BRIGHT = 255
_N_ANGLES = 8
_N_SLOTS = 3
ClickTable = npt.NDArray[np.float64]


@finite
@dataclass(frozen=True, kw_only=True)
class DetectorModel:
    """Two gated threshold detectors behind an active choice of basis.

    Attributes:
        efficiency: Probability that a photon that reaches Bob makes its detector click.
        dark_count: Probability of a dark count for each gate and detector.
        afterpulse: Probability that a click is followed by a false one.
        afterpulse_model: ``"lim2014"`` gives the false clicks the intensity and basis of the click that
            caused them, so that the gain is D (1 + afterpulse); ``"memory"`` fires the same detector in
            the next gate, whatever pulse arrives there.
        shift_ratio: Efficiency of the disfavoured detector over that of the favoured one for a pulse that
            arrives early (which favours detector 0) or late (detector 1); 1 is no mismatch.
        monitor: Whether a photocurrent monitor reports bright light.
        random_assignment: Whether Bob secretly chooses, pulse by pulse, which detector stands for 0.

    Source:
        Channel model: Lim, Curty, Walenta, Xu, Zbinden, Phys. Rev. A 89, 022307 (2014), section IV.
    """

    efficiency: float = 0.1
    dark_count: float = 6e-7
    afterpulse: float = 0.0
    afterpulse_model: Literal["lim2014", "memory"] = "lim2014"
    shift_ratio: float = 1.0
    monitor: bool = False
    random_assignment: bool = False

    def __post_init__(self) -> None:
        for name, top in (("efficiency", 1.0), ("shift_ratio", 1.0)):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 < value <= top):
                raise ConfigError(f"impossible {name}", got=value, expected="more than 0 and at most 1")
        for name in ("dark_count", "afterpulse"):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 <= value < 1):
                raise ConfigError(f"impossible {name} probability", got=value, expected="at least 0, below 1")
        if self.afterpulse_model not in ("lim2014", "memory"):
            raise ConfigError(
                "unknown afterpulse model", got=self.afterpulse_model, expected="lim2014 or memory"
            )


PERFECT_DETECTORS = DetectorModel(efficiency=1.0, dark_count=0.0)


def slot_efficiencies(model: DetectorModel) -> npt.NDArray[np.float64]:
    """Efficiency of detectors 0 and 1 for a pulse on time, early and late; shape (3, 2)."""
    full, low = model.efficiency, model.efficiency * model.shift_ratio
    return np.array([(full, full), (full, low), (low, full)])


@lru_cache(maxsize=64)
def click_table(
    model: DetectorModel, means: tuple[float, ...], transmittance: float, misalignment: float
) -> ClickTable:
    """Probabilities that only detector 0, only detector 1, or both click.

    Args:
        model: The detectors.
        means: Mean photon number of each coherent intensity, as sent.
        transmittance: Of the line so far.
        misalignment: Probability that a photon goes to the wrong detector.

    Shapes:
        Result (256, 3, 8, 3): pulse code, arrival slot, Bloch angle to Bob's axis in eighths of a turn,
        outcome.
    """
    aligned = (1 + np.cos(np.arange(_N_ANGLES) * math.pi / 4)) / 2
    to_zero = aligned + misalignment * (1 - 2 * aligned)
    routes = np.stack([to_zero, 1 - to_zero], axis=-1)
    hit = transmittance * slot_efficiencies(model)[:, None, :] * routes
    a, b = hit[..., 0], hit[..., 1]
    silent = np.ones((256, 3, _N_SLOTS, _N_ANGLES))
    for code, mean in enumerate(means):
        silent[code] = np.exp(-mean * np.stack([a, b, a + b]))
    n = np.arange(MAX_PHOTONS + 1)[:, None, None, None]
    silent[FOCK : FOCK + MAX_PHOTONS + 1] = np.clip(1 - np.stack([a, b, a + b]), 0, 1) ** n
    quiet = 1 - model.dark_count
    no_zero, no_one, none = silent[:, 0] * quiet, silent[:, 1] * quiet, silent[:, 2] * quiet**2
    table = np.stack([no_one - none, no_zero - none, 1 - no_zero - no_one + none], axis=-1)
    if model.afterpulse_model == "lim2014":
        click = 1 - none
        table[..., :2] += (model.afterpulse * click * none / 2)[..., None]
    _blind(table)
    table.clip(0, 1, out=table)
    table.flags.writeable = False
    return table


def _blind(table: ClickTable) -> None:
    """A blinded detector clicks only for a trigger that reaches it whole: in Eve's own basis."""
    table[BLINDED:] = 0
    table[BRIGHT, :, 0, 0] = 1
    table[BRIGHT, :, _N_ANGLES // 2, 1] = 1

"""Light from a sender through a line to a pair of detectors.

A :class:`PulseTrain` is a handle: it can be acted on and measured once, and never read. Every operation
spends it and returns another, so that what an object can learn of a train is what the laws of physics let
it learn: the result of one measurement.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from qflsec.protocols.bb84.bits import Bits, take
from qflsec.protocols.bb84.detector import BLINDED, DetectorModel, click_table
from qflsec.protocols.bb84.light import Light, Nature, PulseTrain, SignalError, handle, spend

__all__ = [
    "Clicks",
    "Detectors",
    "Nature",
    "PulseTrain",
    "SignalError",
    "attenuate",
    "emit",
    "measure",
]

_SKIP_BELOW = 0.1


def emit(
    nature: Nature,
    *,
    n: int,
    sign: Bits,
    x: Bits,
    code: Bits | int,
    means: tuple[float, ...] = (),
    isolation_db: float | None = None,
) -> PulseTrain:
    """Send ``n`` BB84 pulses.

    Args:
        nature: Where the outcomes of measuring them will come from.
        n: How many.
        sign: The bits, packed.
        x: 1 for basis X and 0 for Z, packed.
        code: What each pulse is made of (see :mod:`qflsec.protocols.bb84.detector`).
        means: Mean photon numbers of the coherent intensities.
        isolation_db: By how much the sender's device attenuates light that is sent in and reflected; None
            if no light can come back.
    """
    light = Light(n=n, sign=sign, x=x, half=None, code=code, means=means, nature=nature)
    return handle(replace(light, isolation_db=isolation_db))


def attenuate(train: PulseTrain, transmittance: float, *, misalignment: float = 0.0) -> PulseTrain:
    """Send a train through a line that loses photons and turns some to the wrong detector."""
    light = spend(train)
    turned = light.misalignment + misalignment - 2 * light.misalignment * misalignment
    return handle(
        replace(
            light, transmittance=light.transmittance * transmittance, misalignment=turned, isolation_db=None
        )
    )


@dataclass(frozen=True, kw_only=True)
class Clicks:
    """What the detectors of one block did.

    Attributes:
        n: Gates opened.
        positions: The gates in which something clicked, ascending.
        pattern: 1 for detector 0, 2 for detector 1, 3 for both.
        bright: Gates in which a photocurrent monitor would have seen bright light.
    """

    n: int
    positions: npt.NDArray[np.int64]
    pattern: Bits
    bright: int


class Detectors:
    """A pair of detectors, which remember a false click that is still to come.

    Args:
        model: What they are.
    """

    def __init__(self, model: DetectorModel) -> None:
        self.model = model
        self.pending = 0


def measure(
    train: PulseTrain, detectors: Detectors, *, x: Bits, half: Bits | None = None, swap: Bits | None = None
) -> Clicks:
    """Measure a train, which spends it.

    Args:
        train: The pulses.
        detectors: What measures them.
        x: The basis of each gate, 1 for X and 0 for Z, packed.
        half: Where the basis is turned by a further eighth of a turn (0 + 1/8 is Breidbart's), packed.
        swap: Where detector 1 stands for bit 0, packed.
    """
    light = spend(train)
    table = click_table(detectors.model, light.means, light.transmittance, light.misalignment)
    reach = table.cumsum(axis=-1)
    some = reach[..., 2]
    present = light.present()
    top = float(some[present].max()) if present.size else 0.0
    positions = _candidates(light.rng, light.n, top)

    state = _states(light, positions, x=x, half=half, swap=swap)
    u = light.rng.random(state.size) * (1.0 if positions is None else top)
    clicked = np.flatnonzero(u < some.ravel()[state])
    if clicked.size < u.size:
        u, state = u[clicked], state[clicked]
    pattern = np.uint8(1) + (u >= reach[..., 0].ravel()[state]) + (u >= reach[..., 1].ravel()[state])
    positions = clicked if positions is None else positions[clicked]
    if detectors.model.afterpulse_model == "memory" and detectors.model.afterpulse:
        positions, pattern = _afterpulse(light, detectors, positions, pattern)
    bright = light.n if present.size and present[-1] >= BLINDED else 0
    return Clicks(n=light.n, positions=positions, pattern=pattern, bright=bright)


def _states(
    light: Light, positions: npt.NDArray[np.int64] | None, *, x: Bits, half: Bits | None, swap: Bits | None
) -> npt.NDArray[np.integer]:
    """Row of the click table, flattened over code, slot and angle, for each gate in question."""

    def plane(packed: Bits | None) -> Bits | int:
        return 0 if packed is None else take(packed, positions, light.n)

    sign = take(light.sign if swap is None else light.sign ^ swap, positions, light.n)
    angle = sign * np.uint8(4) + plane(light.half) - plane(half)
    angle += take(light.x, positions, light.n) * np.uint8(2) - take(x, positions, light.n) * np.uint8(2)
    state = (angle & 7).astype(np.int16)
    if light.slot is not None:
        state += 8 * (light.slot if positions is None else light.slot[positions])
    if isinstance(light.code, int):
        return state + np.int16(24 * light.code)
    return state + (light.code if positions is None else light.code[positions]) * np.int16(24)


def _candidates(rng: np.random.Generator, n: int, probability: float) -> npt.NDArray[np.int64] | None:
    """Gates in which an event of this probability happens; None stands for all, where most might.

    The gaps between events are geometric, so that gates without one cost nothing.
    """
    if probability > _SKIP_BELOW:
        return None
    found: list[npt.NDArray[np.int64]] = []
    last = -1
    while probability > 0 and last < n:
        expected = (n - last) * probability
        gaps = rng.geometric(probability, int(expected + 6 * expected**0.5) + 8)
        found.append(last + np.cumsum(np.minimum(gaps, n + 1)))
        last = int(found[-1][-1])
    positions = np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
    return positions[positions < n]


def _afterpulse(
    light: Light, detectors: Detectors, positions: npt.NDArray[np.int64], pattern: Bits
) -> tuple[npt.NDArray[np.int64], Bits]:
    """Fire the detectors that clicked again in the next gate, and so on until none does."""
    gates = np.zeros(light.n + 1, dtype=np.uint8)
    gates[positions] = pattern
    gates[0] |= detectors.pending
    at = positions if not detectors.pending else np.union1d(positions, [0])
    fired = gates[at]
    probability = detectors.model.afterpulse
    while at.size:
        again = (light.rng.random((2, at.size)) < probability).astype(np.uint8)
        fired &= again[0] | again[1] << 1
        at, fired = at[fired > 0] + 1, fired[fired > 0]
        fired &= ~gates[at]
        gates[at] |= fired
        inside = (fired > 0) & (at < light.n)
        at, fired = at[inside], fired[inside]
    detectors.pending = int(gates[-1])
    positions = np.flatnonzero(gates[:-1])
    return positions, gates[positions]

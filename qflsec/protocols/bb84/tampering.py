"""What an adversary may do to light on its way, beyond letting it pass and measuring it.

Each operation is one that physics allows: counting photons, taking some out, switching pulses between lines,
delaying them, sending one's own, and looking at what a sender's device reflects.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from qflsec.protocols.bb84.bits import Bits, pack, take, unpack
from qflsec.protocols.bb84.detector import BLINDED, BRIGHT, FOCK, MAX_PHOTONS
from qflsec.protocols.bb84.light import Light, Nature, PulseTrain, SignalError, handle, spend

__all__ = [
    "Mask",
    "count_photons",
    "divert",
    "emit_blinding",
    "emit_photons",
    "insert",
    "probe_modulator",
    "select",
    "shift",
    "split",
]

Mask = npt.NDArray[np.bool_]


def emit_photons(
    nature: Nature, *, photons: npt.NDArray[np.integer], sign: Bits, x: Bits, half: Bits
) -> PulseTrain:
    """Send pulses of exactly the given photon numbers, in any of the eight states."""
    code = (FOCK + np.minimum(photons, MAX_PHOTONS)).astype(np.uint8)
    return handle(Light(n=code.size, sign=sign, x=x, half=half, code=code, means=(), nature=nature))


def emit_blinding(nature: Nature, *, trigger: Mask, sign: Bits, x: Bits) -> PulseTrain:
    """Send light that blinds Bob's detectors, with a trigger pulse where asked."""
    code = np.where(trigger, BRIGHT, BLINDED).astype(np.uint8)
    return handle(Light(n=code.size, sign=sign, x=x, half=None, code=code, means=(), nature=nature))


def count_photons(train: PulseTrain) -> tuple[Bits, PulseTrain]:
    """Count the photons of each pulse without touching their polarisation.

    Phase-randomised light is a mixture of photon numbers, so that this disturbs nothing.
    """
    light = spend(train)
    codes = light.codes()
    mean = np.zeros(256)
    mean[: len(light.means)] = light.means
    photons = light.rng.poisson(mean[codes] * light.transmittance)
    counted = (codes >= FOCK) & (codes < BLINDED)
    held = np.where(counted, codes.astype(np.int64) - FOCK, 0)
    photons[counted] = light.rng.binomial(held[counted], light.transmittance)
    found: Bits = np.minimum(photons, MAX_PHOTONS).astype(np.uint8)
    code = np.where(codes >= BLINDED, codes, FOCK + found).astype(np.uint8)
    return found, handle(replace(light, code=code, transmittance=1.0))


def split(train: PulseTrain, removed: Bits) -> tuple[PulseTrain, PulseTrain]:
    """Take photons out of counted pulses; returns (what was taken, what is left).

    Raises:
        SignalError: More photons were asked of a pulse than it has, or they were not counted.
    """
    light = spend(train)
    codes = light.codes()
    if light.transmittance != 1.0 or np.any(codes < FOCK) or np.any(FOCK + removed.astype(np.int64) > codes):
        raise SignalError("photons can be taken only from pulses counted to hold them")
    taken = replace(light, code=(FOCK + removed).astype(np.uint8))
    return handle(taken), handle(replace(light, code=(codes - removed).astype(np.uint8)))


def divert(train: PulseTrain, where: Mask) -> tuple[PulseTrain, PulseTrain]:
    """Switch some pulses to another line; returns (those pulses, the others), vacuum in their places."""
    light = spend(train)
    codes = light.codes()
    aside = replace(light, code=np.where(where, codes, FOCK).astype(np.uint8), isolation_db=None)
    return handle(aside), handle(replace(light, code=np.where(where, FOCK, codes).astype(np.uint8)))


def insert(train: PulseTrain, other: PulseTrain, where: Mask) -> PulseTrain:
    """Put the pulses of ``other`` in the places of a train that were diverted.

    Raises:
        SignalError: The two do not fit: other lengths, other losses, or intensities in ``other``.
    """
    light, new = spend(train), spend(other)
    codes = new.codes()
    if light.n != new.n or light.transmittance != new.transmittance or np.any(codes[where] < FOCK):
        raise SignalError("only counted photons of an equally long train on the same line can be inserted")
    mask = pack(where)
    merged = replace(
        light,
        sign=light.sign & ~mask | new.sign & mask,
        x=light.x & ~mask | new.x & mask,
        half=_merge(light.half, new.half, mask),
        code=np.where(where, codes, light.codes()).astype(np.uint8),
    )
    return handle(merged)


def _merge(old: Bits | None, new: Bits | None, mask: Bits) -> Bits | None:
    if old is None and new is None:
        return None
    zero = np.zeros_like(mask)
    return (zero if old is None else old) & ~mask | (zero if new is None else new) & mask


def select(train: PulseTrain, positions: npt.NDArray[np.int64]) -> PulseTrain:
    """Keep only the pulses at these positions, and let the others go."""
    light = spend(train)

    def plane(packed: Bits) -> Bits:
        return pack(take(packed, positions, light.n))

    return handle(
        replace(
            light,
            n=int(positions.size),
            sign=plane(light.sign),
            x=plane(light.x),
            half=None if light.half is None else plane(light.half),
            code=light.code if isinstance(light.code, int) else light.code[positions],
            slot=None if light.slot is None else light.slot[positions],
        )
    )


def shift(train: PulseTrain, slot: Bits) -> PulseTrain:
    """Delay pulses: slot 0 arrives on time, 1 early and 2 late."""
    return handle(replace(spend(train), slot=slot))


def probe_modulator(train: PulseTrain, injected: float) -> tuple[Mask, Bits, PulseTrain]:
    """Shine light into the sender's device while it sets its basis, and look at the reflection.

    The reflection is one of two coherent states, one for each basis, whose overlap is exp(-mu) for mu
    reflected photons. Telling them apart without error succeeds with probability 1 - exp(-mu).

    Args:
        train: The pulses, fresh from the sender.
        injected: Mean photons sent in for each pulse.

    Returns:
        Where the basis was found; the basis there (1 for X, 0 elsewhere); and the train, undisturbed.

    Raises:
        SignalError: The train does not come straight out of a device that reflects light.

    Source:
        Lucamarini et al., Phys. Rev. X 5, 031030 (2015), Eq. (5) for the states; Ivanovic, Dieks, Peres
        for discriminating two states without error (1987-88).
    """
    light = spend(train)
    if light.isolation_db is None:
        raise SignalError("no light is reflected", fix="probe the sender's own pulses at its door")
    reflected = injected * 10 ** (-light.isolation_db / 10)
    found = light.rng.random(light.n) < -np.expm1(-reflected)
    x = unpack(light.x, light.n) & found
    return found, x, handle(light)

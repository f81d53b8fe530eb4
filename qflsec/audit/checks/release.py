"""Clipping and noise by hand: run on known vectors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qflsec.audit.check import Bench, Check, NotApplicable
from qflsec.audit.outcome import Finding
from qflsec.audit.parts import Array, Release
from qflsec.base import CheckCard, Source, register

__all__ = ["NoNoise", "NoiseBeforeClip", "NoiseOnSome", "Unclipped"]

_LENGTH, _CALLS = 24, 200
_FAR = 1e6
_DWORK = Source(
    paper="Dwork, Roth, The algorithmic foundations of differential privacy",
    year=2014,
    where="definition 3.8, theorem 3.22",
)


def _calls(part: Release, vector: Array, n: int = _CALLS) -> Array:
    """What is released of one vector, time after time.

    Shapes:
        returns: ``(n, d)``.
    """
    found = np.stack([np.asarray(part.privatise(vector.copy()), dtype=float).ravel() for _ in range(n)])
    if found.shape[1] != vector.size:
        raise NotApplicable(f"{vector.size} values are released as {found.shape[1]}")
    return found


def _vector(bench: Bench) -> Array:
    return bench.rng("update").normal(size=_LENGTH)


@register("check", "no-noise")
class NoNoise(Check):
    """Two releases that are equal."""

    looks_at = Release
    card = CheckCard(
        name="no-noise",
        idea="Release the same update twice.",
        source=_DWORK,
        title="the release has no noise, or the same every time",
        severity="error",
        proves="Two releases of one update are equal, value by value.",
        cannot=("Noise that repeats only from one process to the next is found by reading the code.",),
        consequence="Whoever sees the releases sees the update: there is no differential privacy.",
        remedy="Add noise that is drawn anew each time, from a generator whose seed nobody knows.",
    )

    def run(self, part: Release, bench: Bench) -> Iterator[Finding]:
        """Whether two releases are equal."""
        one, two = _calls(part, _vector(bench), 2)
        if np.array_equal(one, two):
            yield Finding(what="two releases of one update are equal")


@register("check", "noise-on-some")
class NoiseOnSome(Check):
    """Values that are released as they are."""

    looks_at = Release
    card = CheckCard(
        name="noise-on-some",
        idea="Release one update many times and look for values that never change.",
        source=_DWORK,
        title="some values get no noise",
        severity="error",
        proves="The named values were the same in every release while others changed.",
        cannot=("Values that get too little noise are compared with a claim, not here.",),
        consequence="Those parameters are released in the clear: the claimed epsilon does not hold for the update.",
        remedy="Add noise to every value that leaves the client, layers that are not trained included.",
    )

    def run(self, part: Release, bench: Bench) -> Iterator[Finding]:
        """Which values never change."""
        spread = np.ptp(_calls(part, _vector(bench), 8), axis=0)
        still = np.flatnonzero(spread == 0)
        bench.measured["values without noise"] = len(still)
        if 0 < len(still) < len(spread):
            yield Finding(
                what=f"{len(still)} of {len(spread)} values get no noise, among them value {still[0]}",
                evidence={"without": len(still), "of": len(spread)},
            )


@register("check", "unclipped-release")
class Unclipped(Check):
    """A release that follows an update however long it is."""

    looks_at = Release
    card = CheckCard(
        name="unclipped-release",
        idea="Release an update that is a million times as long, and see whether the mean release follows.",
        source=_DWORK,
        title="the update is not clipped",
        severity="error",
        proves="The mean of the releases grows with the update: one record can move it without bound.",
        cannot=("A clip that is too wide for the noise is compared with a claim, not here.",),
        consequence="The sensitivity is not bounded, so that no amount of noise gives an epsilon.",
        remedy="Scale the update to at most the clip norm before the noise is added.",
    )

    def run(self, part: Release, bench: Bench) -> Iterator[Finding]:
        """How far the release follows."""
        vector = _vector(bench)
        near = float(np.linalg.norm(_calls(part, vector, 20).mean(axis=0)))
        far = float(np.linalg.norm(_calls(part, _FAR * vector, 20).mean(axis=0)))
        bench.measured.update({"length of the release": near, f"of {_FAR:g} times the update": far})
        if not np.isfinite(far) or far > 1e-2 * _FAR * max(near, float(np.linalg.norm(vector))):
            yield Finding(
                what=f"an update {_FAR:g} times as long is released with length {far:.3g} in place of {near:.3g}",
                evidence={"far": far, "near": near},
            )


@register("check", "noise-before-clip")
class NoiseBeforeClip(Check):
    """Releases that all have the same length: what was added was cut again."""

    looks_at = Release
    card = CheckCard(
        name="noise-before-clip",
        idea="Release one long update many times and look at the lengths of the releases.",
        source=_DWORK,
        title="the noise is clipped away",
        severity="error",
        proves="Releases differ but never exceed one length, as only a clip after the noise does.",
        cannot=("A clip after the noise that seldom binds is not seen; it does no harm then.",),
        consequence="The noise was scaled to a sensitivity that was not yet bounded: the claimed epsilon does not hold.",
        remedy="Clip first, then add noise, and do not touch the release afterwards.",
    )

    def run(self, part: Release, bench: Bench) -> Iterator[Finding]:
        """Whether all releases have one length."""
        found = _calls(part, 1e3 * _vector(bench))
        lengths = np.linalg.norm(found, axis=1)
        spread = float(np.ptp(lengths) / max(lengths.max(), 1e-300))
        bench.measured["spread of the lengths"] = spread
        if float(np.ptp(found, axis=0).max()) > 0 and spread < 1e-5:
            yield Finding(
                what=f"{_CALLS} different releases all have the length {lengths[0]:.4g}",
                evidence={"length": float(lengths[0])},
            )

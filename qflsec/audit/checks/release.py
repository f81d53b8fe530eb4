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
_LONG, _FARTHER = 1e4, 1e3
_UPDATES, _LEVELS = 5, 3
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
    """Releases of one update that are equal."""

    looks_at = Release
    card = CheckCard(
        name="no-noise",
        idea="Release the same update eight times, and another one.",
        source=_DWORK,
        title="the release has no noise, or the same every time",
        severity="error",
        proves="Eight releases of one update are equal, value by value, and that of another update is not the same.",
        cannot=("Noise that repeats only from one process to the next is found by reading the code.",),
        consequence="Whoever sees the releases sees the update: there is no differential privacy.",
        remedy="Add noise that is drawn anew each time, from a generator whose seed nobody knows.",
    )

    def run(self, part: Release, bench: Bench) -> Iterator[Finding]:
        """Whether releases of one update are equal, and tell it from another."""
        found = _calls(part, _vector(bench), 8)
        other = _calls(part, bench.rng("another").normal(size=_LENGTH), 1)
        if (found == found[0]).all() and not np.array_equal(found[0], other[0]):
            yield Finding(what="eight releases of one update are equal")


@register("check", "noise-on-some")
class NoiseOnSome(Check):
    """Values that are released as they are."""

    looks_at = Release
    card = CheckCard(
        name="noise-on-some",
        idea="Release five updates eight times each, and look for values that are the same in every release and others for each update.",
        source=_DWORK,
        title="some values get no noise",
        severity="error",
        proves="The named values were the same in every release of an update while others changed, and told the updates apart.",
        cannot=(
            "Values that get too little noise are compared with a claim, not here.",
            "Values without noise that are rounded to three levels or fewer, as signs are, look like noise that seldom changes them.",
        ),
        consequence="Those parameters are released in the clear: the claimed epsilon does not hold for the update.",
        remedy="Add noise to every value that leaves the client, layers that are not trained included.",
    )

    def run(self, part: Release, bench: Bench) -> Iterator[Finding]:
        """Which values never change for an update, and change with it."""
        updates = bench.rng("updates").normal(size=(_UPDATES, _LENGTH))
        found = np.stack([_calls(part, one, 8) for one in (_vector(bench), *updates[1:])])
        still = (np.ptp(found, axis=1) == 0).all(axis=0)
        levels = np.array([len(np.unique(column)) for column in found[:, 0].T])
        bench.measured["values that stay the same"] = int(still.sum())
        told = np.flatnonzero(still & (levels > _LEVELS))
        if len(told) and not still.all():
            yield Finding(
                what=f"{len(told)} of {len(still)} values get no noise, among them value {told[0]}",
                evidence={"without": len(told), "of": len(still)},
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
    """Releases of one length whose direction follows a long update: nothing was clipped before the noise."""

    looks_at = Release
    card = CheckCard(
        name="noise-before-clip",
        idea="Release a long update and one a thousand times as long, and see whether releases of one length lose the noise in their "
        "direction.",
        source=_DWORK,
        title="the noise is clipped away",
        severity="error",
        proves="Releases differ and all have one length, and the directions of two of them are closer for the longer update than for the "
        "shorter, in every one of a hundred pairs: a clip before the noise would have made both updates the same. Where such a clip binds, "
        "chance does so in less than one of 1e58 audits.",
        cannot=(
            "A clip after the noise that seldom binds is not seen; it does no harm then.",
            "A clip before the noise that lets updates of ten thousand times the release's length pass is taken for none.",
            "Noise that is lost in the rounding of a long update is not seen.",
        ),
        consequence="The noise was scaled to a sensitivity that was not yet bounded: the claimed epsilon does not hold.",
        remedy="Clip first, then add noise; a second clip of the noisy update does no harm.",
    )

    def run(self, part: Release, bench: Bench) -> Iterator[Finding]:
        """Whether releases of one length have the direction of a long update."""
        vector = _vector(bench)
        found = _calls(part, 1e3 * vector)
        lengths = np.linalg.norm(found, axis=1)
        spread = float(np.ptp(lengths) / max(lengths.max(), 1e-300))
        bench.measured["spread of the lengths"] = spread
        if not (float(np.ptp(found, axis=0).max()) > 0 and spread < 1e-5):
            return
        near = _LONG * max(1.0, float(lengths[0] / np.linalg.norm(vector)))
        angles = [_between(_calls(part, far * vector)) for far in (near, _FARTHER * near)]
        first, second = (float(np.median(one)) for one in angles)
        bench.measured.update({"angle of two releases": first, f"of {_FARTHER:g} times the update": second})
        # where a clip before the noise binds both are draws of one law: all of one are below all of the other in 1 of 200 over 100
        if angles[1].max() < angles[0].min():
            yield Finding(
                what=f"different releases all have the length {lengths[0]:.4g}, and their directions, {first:.2g} apart, are {second:.2g} "
                f"apart where the update is {_FARTHER:g} times as long",
                evidence={"length": float(lengths[0]), "angle": first, "angle of the longer": second},
            )


def _between(found: Array) -> Array:
    """How far apart the directions of two releases are, of each pair; pairs have no release in common.

    Shapes:
        found: ``(2 n, d)``; returns: ``(n,)``.
    """
    ways = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-300)
    return np.asarray(np.linalg.norm(ways[::2] - ways[1::2], axis=1))

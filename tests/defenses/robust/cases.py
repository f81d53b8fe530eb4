"""Every rule and filter under one signature, with what it is an exception to; inputs that are hard for some of them."""

# ruff: noqa: ARG005 - one signature for all
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from qflsec.defenses import robust

Call = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """``call(updates, f, generator, shift)``: what is beside the updates, such as a broadcast model, moves with them.

    ``unlike`` names the properties that the rule does not have; each is shown to fail.
    """

    name: str
    call: Call
    unlike: frozenset[str] = frozenset()
    filters: bool = False


def near(updates: Any, vector: Any) -> Any:
    """A vector of the same kind as the updates."""
    if isinstance(updates, torch.Tensor):
        return torch.from_numpy(np.asarray(vector)).to(updates)
    return np.asarray(vector).astype(updates.dtype)


def slope(updates: Any, scale: float) -> Any:
    """A direction that is no row: 1, 2, 3, ... at a length that scales with the rows."""
    return near(updates, scale * np.arange(1.0, updates.shape[-1] + 1))


def case(name: str, call: Call, *unlike: str, filters: bool = False) -> Case:
    return Case(name, call, frozenset(unlike), filters)


R = robust
CASES = [
    case("mean", lambda u, f, g, s: R.mean(u, f=f)),
    case("median", lambda u, f, g, s: R.coordinate_median(u, f=f)),
    case("trimmed-mean", lambda u, f, g, s: R.trimmed_mean(u, f=f)),
    case("mean-around-median", lambda u, f, g, s: R.mean_around_median(u, f=f)),
    case("geometric-median", lambda u, f, g, s: R.geometric_median(u, f=f)),
    case("krum", lambda u, f, g, s: R.krum(u, f=f)),
    case("multi-krum", lambda u, f, g, s: R.multi_krum(u, f=f)),
    case("minimum-diameter", lambda u, f, g, s: R.minimum_diameter(u, f=f)),
    case("smea", lambda u, f, g, s: R.smallest_eigenvalue(u, f=f)),
    case("bulyan", lambda u, f, g, s: R.bulyan(u, f=f)),
    case("centred-clipping", lambda u, f, g, s: R.centred_clipping(u, f=f, iterations=2), "translation"),
    case(
        "centred-clipping-at-a-radius",
        lambda u, f, g, s: R.centred_clipping(u, f=f, radius=1.0),
        "translation",
        "scale",
        "same",
    ),
    case("dnc", lambda u, f, g, s: R.divide_and_conquer(u, f=f)),
    case("dnc-drawn", lambda u, f, g, s: R.divide_and_conquer(u, f=f, generator=g, coordinates=3)),
    case("fltrust", lambda u, f, g, s: R.fltrust(u, f=f, trusted=slope(u, s)), "translation", "same"),
    case("foolsgold", lambda u, f, g, s: R.foolsgold(u, f=f), "translation", "same"),
    case("flame", lambda u, f, g, s: R.flame(u, f=f, generator=g), "translation", "same"),
    case(
        "weak-dp",
        lambda u, f, g, s: R.weak_dp(u, f=f, generator=g, noise_std=0.1),
        "translation",
        "scale",
        "same",
    ),
    case(
        "crfl",
        lambda u, f, g, s: R.crfl(u, f=f, broadcast=slope(u, s), generator=g),
        "translation",
        "scale",
        "same",
    ),
    case("nnm", lambda u, f, g, s: R.nearest_neighbour_mixing(u, f=f), filters=True),
    case("bucketing", lambda u, f, g, s: R.bucketing(u, f=f, generator=g), "permutation", filters=True),
    case("arc", lambda u, f, g, s: R.adaptive_clipping(u, f=f), "translation", filters=True),
    case("cosine-filter", lambda u, f, g, s: R.cosine_filter(u, f=f), "translation", filters=True),
]


def named(name: str) -> Case:
    return next(one for one in CASES if one.name == name)


KINDS = ("normal", "ties", "duplicates", "collinear", "far", "colluding", "common", "zeros")


def rows(kind: str, n: int, d: int, f: int, seed: int) -> np.ndarray[Any, Any]:
    """Rows of which the last ``f`` may be hostile."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(n, d))
    if kind == "ties":
        found = rng.integers(-2, 3, size=(n, d)).astype(float)
    elif kind == "duplicates":
        found = found[rng.integers(0, max(1, n // 2), size=n)]
    elif kind == "collinear":
        found = rng.normal(size=(n, 1)) * found[:1] + found[1 % n]
    elif kind == "far":
        found[n - f :] = 1e6 * rng.normal(size=(f, d))
    elif kind == "colluding":
        found[n - f :] = found[: n - f].mean(axis=0) - 1.5 * found[: n - f].std(axis=0)
        found[n - f :] *= 1 + 1e-3 * rng.normal(size=(f, d))  # close together, but not equal
    elif kind == "common":
        found += 1e4
    elif kind == "zeros":
        found[rng.integers(0, n)] = 0.0
    return found


def most(name: str, n: int) -> int:
    """The largest f for which a function is defined, and at which it still has something to choose."""
    if name == "bulyan":
        return (n - 1) // 4
    if name in {"krum", "multi-krum"}:
        return max(0, min(n - 3, (n - 1) // 2))
    return (n - 1) // 2

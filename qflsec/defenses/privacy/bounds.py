"""What all Gaussian layers share: bounds on epsilon, their ledger rows, and noise for a target epsilon."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from qflsec.accounting import Adjacency, LedgerRow
from qflsec.accounting.accountants import DpBound, epsilon_prv, epsilon_rdp
from qflsec.accounting.calibrate import calibrate_noise
from qflsec.accounting.rows import joined
from qflsec.base import Assumption, BackendError, ConfigError

__all__ = [
    "GaussianNoise",
    "check_noise",
    "gaussian_bounds",
    "gaussian_rows",
    "multiplier_for",
    "needs_noise",
]


@lru_cache(maxsize=4096)
def gaussian_bounds(
    noise_multiplier: float, sample_rate: float, steps: int, delta: float
) -> tuple[DpBound, ...]:
    """The bounds that a ledger prints: by RDP, and by PRV where it gives a number.

    Args:
        noise_multiplier: Standard deviation of the noise over the sensitivity.
        sample_rate: The Poisson rate; 1 for no sampling.
        steps: Releases.
        delta: The delta at which epsilon is stated.
    """
    renyi = epsilon_rdp(noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=steps, delta=delta)
    if math.isinf(renyi.epsilon):
        return (renyi,)
    try:
        loss = epsilon_prv(
            noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=steps, delta=delta
        )
    except BackendError:
        return (renyi,)
    return (renyi,) if math.isinf(loss.epsilon) else (renyi, loss)


@lru_cache(maxsize=4096)
def multiplier_for(target_epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """The least noise multiplier whose tightest bound does not exceed the target.

    Args:
        target_epsilon: The budget of the whole run.
        delta: Its delta.
        sample_rate: The Poisson rate; 1 for no sampling.
        steps: Releases.

    Raises:
        ConfigError: No noise that the accountants can tell reaches the target.
    """
    return calibrate_noise(
        target_epsilon=target_epsilon,
        delta=delta,
        sample_rate=sample_rate,
        steps=steps,
        accountant="tightest",
        tolerance=4e-3,
    )


def check_noise(
    *, clip_norm: float, noise_multiplier: float | None, target_epsilon: float | None, delta: float
) -> None:
    """Refuse values that no Gaussian layer can use.

    Raises:
        ConfigError: A value is out of range, or both noise and target are set.
    """
    if not 0 < clip_norm < math.inf:
        raise ConfigError("'clip_norm' is out of range", got=clip_norm, expected="positive and finite")
    if noise_multiplier is not None and not 0 <= noise_multiplier < math.inf:
        raise ConfigError(
            "'noise_multiplier' is out of range", got=noise_multiplier, expected="0 or more, finite"
        )
    if target_epsilon is not None and not 0 < target_epsilon < math.inf:
        raise ConfigError(
            "'target_epsilon' is out of range", got=target_epsilon, expected="positive and finite"
        )
    if noise_multiplier is not None and target_epsilon is not None:
        raise ConfigError(
            "'noise_multiplier' and 'target_epsilon' exclude each other",
            got=f"noise_multiplier={noise_multiplier}, target_epsilon={target_epsilon}",
            fix="leave out one: a target sets the noise",
        )
    if not 0 < delta < 1:
        raise ConfigError("'delta' is out of range", got=delta, expected="between 0 and 1")


def needs_noise(layer: str, noise_multiplier: float | None) -> float:
    """The noise multiplier of a layer that acts, or the reason why it cannot.

    Raises:
        ConfigError: The layer has a target and was not calibrated for a run.
    """
    if noise_multiplier is None:
        raise ConfigError(
            f"'{layer}' has a target epsilon and no noise yet",
            fix="use it in a run, or call calibrated(pipeline, counts) first",
        )
    return noise_multiplier


@dataclass(frozen=True, kw_only=True)
class GaussianNoise:
    """Gaussian noise whose ledger rows :func:`gaussian_rows` writes.

    Attributes:
        layer: The layer that adds it.
        noise_multiplier: Standard deviation of the noise over the sensitivity.
        delta: The delta at which epsilon is stated.
        mechanism: The mechanism and its sensitivity, in words.
    """

    layer: str
    noise_multiplier: float
    delta: float
    mechanism: str


def gaussian_rows(
    noise: GaussianNoise,
    *,
    observer: str,
    rate: float = 1.0,
    steps: int,
    unit: Literal["example", "client"],
    units: int,
    adjacency: Adjacency,
    protects: str,
    alone: bool = False,
    assumption: Assumption = "information-theoretic",
    trusted: str,
    released: str,
    sampling: str,
    notes: Sequence[str] = (),
) -> tuple[LedgerRow, ...]:
    """The rows of Gaussian noise against one observer, one for each accountant.

    Args:
        noise: The noise.
        observer: Against whom.
        rate: The Poisson rate; 1 for no sampling.
        steps: Releases.
        unit: The protected unit.
        units: How many there are.
        adjacency: What neighbouring runs differ in.
        protects: Whom, in words.
        alone: Whether to state the epsilon of one message as well.
        assumption: What the guarantee rests on.
        trusted: Who is trusted.
        released: What the observer gets to see.
        sampling: How the units are sampled.
        notes: What a reader must not overlook; empty ones are left out.
    """
    z, delta = noise.noise_multiplier, noise.delta
    known = {b.accountant: b.epsilon for b in gaussian_bounds(z, 1.0, steps, delta)} if rate < 1 else {}
    single = {b.accountant: b.epsilon for b in gaussian_bounds(z, 1.0, 1, delta)} if alone else {}
    rows = []
    for bound in gaussian_bounds(z, rate, steps, delta):
        statement = f"epsilon {bound.epsilon:.4g} at delta {bound.delta:g} {protects}"
        if bound.accountant in single:
            statement += f", {single[bound.accountant]:.4g} for one message alone"
        statement += f", by {bound.accountant}"
        if math.isinf(bound.epsilon):
            statement = "no noise, so epsilon is infinite: nothing is guaranteed"
        rows.append(
            LedgerRow(
                observer=observer,
                layer=noise.layer,
                guarantee="differential privacy",
                statement=statement,
                assumption=assumption,
                trusted=trusted,
                released=released,
                bound="upper bound",
                epsilon=bound.epsilon,
                delta=bound.delta,
                epsilon_unsampled=known.get(bound.accountant),
                unit=unit,
                adjacency=adjacency,
                mechanism=noise.mechanism,
                sampling=sampling,
                steps=steps,
                accountant=f"{bound.accountant} ({bound.version})",
                note=joined(*notes, _delta_note(delta, units, unit)),
            )
        )
    return tuple(rows)


def _delta_note(delta: float, units: int, unit: str) -> str:
    """A warning where delta is too large for the number of protected units; empty otherwise."""
    if delta * units < 1:
        return ""
    return f"delta {delta:g} is not below 1/{units}, one over the number of protected {unit}s"

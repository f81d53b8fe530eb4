"""Upper bounds on epsilon for the Poisson-sampled Gaussian mechanism (DP-SGD, DP-FedAvg).

Every bound here holds for add-or-remove-one adjacency of the sampled unit, Poisson sampling at
``sample_rate``, Gaussian noise of standard deviation ``noise_multiplier * clip_norm`` on the *sum*, and all
``steps`` outputs released. So it does for zero-out adjacency, where the unit's contribution is taken away and
numbers of units stay: what is released is the same as without the unit. Fixed-size batches and replace-one
adjacency need other proofs.

The accountants are Opacus' (and Google's dp-accounting, where it is installed); none is written here.
Gaussian DP by the central limit theorem can fall below the true epsilon, so :func:`epsilon_gdp` is labelled
an approximation and nothing else here uses it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from typing import Literal

import numpy as np

from qflsec.base import BackendError, ConfigError, MissingExtra

__all__ = [
    "DpBound",
    "epsilon_bound",
    "epsilon_gdp",
    "epsilon_pld",
    "epsilon_prv",
    "epsilon_rdp",
]

# Opacus stops at order 63; larger orders tighten the bound where the noise is strong.
_LARGE_ORDERS = (64, 80, 96, 128, 192, 256, 384, 512)
_PRV_ERROR = 0.01


@dataclass(frozen=True, kw_only=True)
class DpBound:
    """An epsilon with all that it depends on; a proved upper bound unless its kind says otherwise.

    Attributes:
        epsilon: The bound; infinite where nothing is guaranteed.
        delta: The delta it holds at.
        accountant: What computed it.
        version: The accountant's library and version.
        kind: The kind of bound.
        adjacency: The neighbouring relation it holds for.
        sampling: The sampling it assumes.
        estimate: The accountant's own best estimate, below the bound, where it has one (PRV): no guarantee.
    """

    epsilon: float
    delta: float
    accountant: str
    version: str
    kind: Literal["upper bound", "approximation"] = "upper bound"
    adjacency: Literal["add/remove", "replace-one"] = "add/remove"
    sampling: Literal["Poisson", "none"] = "Poisson"
    estimate: float | None = None

    def __str__(self) -> str:
        sampled = "Poisson sampling" if self.sampling == "Poisson" else "no sampling"
        return (
            f"epsilon {self.epsilon:.4f} at delta {self.delta:g}, {self.adjacency} adjacency, {sampled}: "
            f"{self.kind} by {self.accountant} ({self.version})"
        )


def epsilon_rdp(*, noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> DpBound:
    """Epsilon by Rényi differential privacy: fast, and looser than PRV by a tenth or so, more below epsilon 1.

    Args:
        noise_multiplier: Noise standard deviation over clip norm; 0 gives an infinite epsilon.
        sample_rate: Probability that a unit takes part in a step.
        steps: Noisy releases.
        delta: Target delta.

    Raises:
        ConfigError: An argument is out of range.

    Source:
        Mironov, Talwar, Zhang: Rényi differential privacy of the sampled Gaussian mechanism,
        arXiv:1908.10530, 2019, section 3; Opacus' implementation.
    """
    _check(noise_multiplier, sample_rate, steps, delta)
    epsilon = _trivial(noise_multiplier, steps)
    if epsilon is None:
        epsilon = _opacus_rdp(noise_multiplier, sample_rate, steps, delta)
    return _bound(epsilon, delta, "RDP", "opacus", sample_rate)


def epsilon_prv(*, noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> DpBound:
    """Epsilon by privacy random variables: the upper end of the numerical error, about 0.01 above the value.

    The error grows to a thousandth of epsilon above 10, which bounds the memory. From about 700 the
    accountant overflows and the bound is infinite: :func:`epsilon_rdp` still gives a number there.

    Args:
        noise_multiplier: Noise standard deviation over clip norm; 0 gives an infinite epsilon.
        sample_rate: Probability that a unit takes part in a step.
        steps: Noisy releases.
        delta: Target delta.

    Raises:
        ConfigError: An argument is out of range.
        BackendError: Opacus could not compute it, for example because delta is too small for its arithmetic.

    Source:
        Gopi, Lee, Wutschitz: Numerical composition of differential privacy, arXiv:2106.02848, 2021,
        algorithm 1; Opacus' implementation.
    """
    _check(noise_multiplier, sample_rate, steps, delta)
    epsilon = _trivial(noise_multiplier, steps)
    if epsilon is not None:
        return _bound(epsilon, delta, "PRV", "opacus", sample_rate)
    rough = _opacus_rdp(noise_multiplier, sample_rate, steps, delta)
    estimate, epsilon = _opacus_prv(
        noise_multiplier, sample_rate, steps, delta, max(_PRV_ERROR, rough / 1000)
    )
    return replace(_bound(epsilon, delta, "PRV", "opacus", sample_rate), estimate=estimate)


def epsilon_pld(
    *,
    noise_multiplier: float,
    sample_rate: float,
    steps: int,
    delta: float,
    adjacency: Literal["add/remove", "replace-one"] = "add/remove",
) -> DpBound:
    """Epsilon by privacy loss distributions, rounded up; the only one here for replace-one adjacency.

    Two units clipped to norm S differ by up to 2 S, so that replace-one adjacency halves the multiplier that counts:
    dp-accounting's PLD accountant does so itself, while its RDP accountant takes the multiplier as given.

    Args:
        noise_multiplier: Noise standard deviation over clip norm S, for both adjacencies; 0 gives an infinite epsilon.
        sample_rate: Probability that a unit takes part in a step.
        steps: Noisy releases.
        delta: Target delta.
        adjacency: The neighbouring relation.

    Raises:
        ConfigError: An argument is out of range.
        MissingExtra: dp-accounting is not installed.

    Source:
        Koskela, Jälkö, Honkela: Computing tight differential privacy guarantees using FFT, AISTATS 2020;
        Doroshenko et al.: Connect the dots, PoPETs 2022; Google's dp-accounting.
    """
    _check(noise_multiplier, sample_rate, steps, delta)
    relations = {"add/remove": "ADD_OR_REMOVE_ONE", "replace-one": "REPLACE_ONE"}
    if adjacency not in relations:
        raise ConfigError("unknown adjacency", got=repr(adjacency), expected=f"one of {', '.join(relations)}")
    try:
        import dp_accounting
        from dp_accounting import pld
    except ImportError as error:
        raise MissingExtra(
            "the PLD accountant needs dp-accounting, which is not installed",
            fix="pip install 'qflsec[dp-accounting]', or use the PRV or RDP accountant",
        ) from error
    epsilon = _trivial(noise_multiplier, steps)
    if epsilon is None:
        rough = _opacus_rdp(noise_multiplier, sample_rate, steps, delta)
        accountant = pld.PLDAccountant(
            getattr(dp_accounting.NeighboringRelation, relations[adjacency]),
            value_discretization_interval=max(1e-4, rough * 1e-5),
        )
        event = dp_accounting.GaussianDpEvent(noise_multiplier)
        accountant.compose(dp_accounting.PoissonSampledDpEvent(sample_rate, event), steps)
        epsilon = float(accountant.get_epsilon(delta))
    return _bound(epsilon, delta, "PLD", "dp-accounting", sample_rate, adjacency)


def epsilon_gdp(*, noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> DpBound:
    """Epsilon by Gaussian differential privacy and the central limit theorem: an approximation, no guarantee.

    It can fall below the true epsilon, and is here to be compared with.

    Args:
        noise_multiplier: Noise standard deviation over clip norm; 0 gives an infinite epsilon.
        sample_rate: Probability that a unit takes part in a step.
        steps: Noisy releases.
        delta: Target delta.

    Raises:
        ConfigError: An argument is out of range.

    Source:
        Dong, Roth, Su: Gaussian differential privacy, JRSS B 84, 2022; Bu et al.: Deep learning with Gaussian
        differential privacy, HDSR 2(3), 2020; Opacus' implementation.
    """
    _check(noise_multiplier, sample_rate, steps, delta)
    epsilon = _trivial(noise_multiplier, steps)
    if epsilon is None:
        from opacus.accountants.analysis.gdp import compute_eps_poisson

        epsilon = float(
            compute_eps_poisson(
                steps=steps, noise_multiplier=noise_multiplier, sample_rate=sample_rate, delta=delta
            )
        )
    return replace(_bound(epsilon, delta, "GDP", "opacus", sample_rate), kind="approximation")


def epsilon_bound(
    accountant: str, *, noise_multiplier: float, sample_rate: float, steps: int, delta: float
) -> DpBound:
    """Epsilon by the accountant called ``"rdp"``, ``"prv"``, ``"pld"`` or ``"tightest"``.

    ``"tightest"`` is the lower of RDP and PRV, which are both proved; RDP alone where PRV fails. The result
    names the accountant whose bound it is.

    Raises:
        ConfigError: No such accountant gives a guarantee, or an argument is out of range.
        MissingExtra: ``"pld"`` without dp-accounting.
        BackendError: ``"prv"`` could not be computed.
    """
    if accountant == "gdp":
        raise ConfigError(
            "accountant 'gdp' is a central-limit approximation that can fall below the true epsilon "
            "(1.6177 against 1.8282 at sigma 1, q 0.01, 1000 steps, delta 1e-5), so it guarantees nothing",
            fix="use 'prv', 'rdp' or 'pld'",
        )
    known: dict[str, Callable[..., DpBound]] = {
        "rdp": epsilon_rdp,
        "prv": epsilon_prv,
        "pld": epsilon_pld,
        "tightest": _tightest,
    }
    if accountant not in known:
        raise ConfigError("unknown accountant", got=repr(accountant), expected=f"one of {', '.join(known)}")
    return known[accountant](
        noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=steps, delta=delta
    )


def _tightest(*, noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> DpBound:
    renyi = epsilon_rdp(noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=steps, delta=delta)
    try:
        loss = epsilon_prv(
            noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=steps, delta=delta
        )
    except BackendError:
        return renyi
    return min(renyi, loss, key=lambda bound: bound.epsilon)


# A search for noise asks for each of its points twice, and ledgers ask for the last one again.
@lru_cache(maxsize=4096)
def _opacus_rdp(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    from qflsec.accounting.opacus_arithmetic import RDPAccountant

    accountant = RDPAccountant()
    accountant.history = [(noise_multiplier, sample_rate, steps)]
    orders = [*RDPAccountant.DEFAULT_ALPHAS, *_LARGE_ORDERS]
    with warnings.catch_warnings():
        # An optimum at the edge of the orders is a looser bound, not a wrong one.
        warnings.filterwarnings("ignore", message="Optimal order is the", category=UserWarning)
        return max(0.0, float(accountant.get_epsilon(delta=delta, alphas=orders)))


@lru_cache(maxsize=4096)
def _opacus_prv(
    noise_multiplier: float, sample_rate: float, steps: int, delta: float, error: float
) -> tuple[float, float]:
    """Opacus' estimate, and the upper end that its accountant reports."""
    from qflsec.accounting.opacus_arithmetic import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(noise_multiplier, sample_rate, steps)]
    try:
        # log(1 - q) is minus infinity at q = 1, as the formula wants it; exp may overflow to infinity.
        with warnings.catch_warnings(), np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            warnings.filterwarnings("ignore", message="Optimal order is the", category=UserWarning)
            composed = accountant._get_dprv(eps_error=error, delta_error=delta / 1000)  # noqa: SLF001
            _, estimate, upper = composed.compute_epsilon(delta, delta / 1000, error)
    except (ArithmeticError, RuntimeError, ValueError) as failure:
        raise BackendError(
            "Opacus' PRV accountant failed", got=failure, fix="use the RDP accountant or a larger delta"
        ) from failure
    if math.isnan(upper):
        return math.inf, math.inf
    return max(0.0, float(estimate)), max(0.0, float(upper))


def _check(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> None:
    if not 0 <= noise_multiplier < math.inf:
        raise ConfigError(
            "noise_multiplier is out of range", got=noise_multiplier, expected="0 or more, finite"
        )
    if not 0 < sample_rate <= 1:
        raise ConfigError("sample_rate is out of range", got=sample_rate, expected="above 0, at most 1")
    if not isinstance(steps, int) or steps < 0:
        raise ConfigError("steps is out of range", got=steps, expected="a whole number from 0")
    if not 0 < delta < 1:
        raise ConfigError("delta is out of range", got=delta, expected="between 0 and 1")


def _trivial(noise_multiplier: float, steps: int) -> float | None:
    """Epsilon where nothing is released, or nothing is hidden."""
    if steps == 0:
        return 0.0
    return math.inf if noise_multiplier == 0 else None


def _bound(
    epsilon: float,
    delta: float,
    accountant: str,
    package: str,
    sample_rate: float,
    adjacency: Literal["add/remove", "replace-one"] = "add/remove",
) -> DpBound:
    return DpBound(
        epsilon=epsilon,
        delta=delta,
        accountant=accountant,
        version=f"{package} {version(package)}",
        adjacency=adjacency,
        sampling="none" if sample_rate == 1 else "Poisson",
    )

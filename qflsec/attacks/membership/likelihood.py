"""Likelihood ratios of confidences: how surely does a confidence come from models that saw a record?

Of every record some shadow models saw it and some did not. Either kind gives a sample of confidences, and the ratio of
the two densities at the confidence of the model under attack is the score. What differs is how the spread of a sample
is estimated, which decides where shadow models are few.

The Bayesian spread: let confidences of record i be N(mu_i, s_i^2), with a flat prior on mu_i and the scaled inverse
chi-squared prior d0 s0^2 / chi^2(d0) on s_i^2, the same for all records. From m values with mean c and variance v
(d = m - 1 degrees of freedom) the posterior of s_i^2 is again scaled inverse chi-squared, with d0 + d degrees of
freedom and scale t^2 = (d0 s0^2 + d v) / (d0 + d), that of mu_i given s_i^2 is N(c, s_i^2 / m), and a new confidence
is c + t sqrt(1 + 1/m) times a Student variable with d0 + d degrees of freedom. With d0 = 0 that is one variance for
each record, with d0 infinite one for all. The prior follows from the records: log v is log s0^2 plus the logarithm of
an F(d, d0) variable, whose mean is psi(d/2) - log(d/2) - psi(d0/2) + log(d0/2) and whose variance is
psi'(d/2) + psi'(d0/2).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Variance", "likelihood_ratio", "resolved_variance"]

Variance = Literal["auto", "record", "shared", "bayes"]

_LEAST_VARIANCE = 1e-12
_ENOUGH = 64
_MOST_FREEDOM = 1e6
"""Beyond so many degrees of freedom a Student variable is a normal one to six digits."""


def resolved_variance(variance: Variance, n_shadows: int) -> Variance:
    """The estimator that ``"auto"`` stands for: one variance for each record from 64 shadow models on.

    Source:
        Carlini et al., IEEE S&P 2022, section VI, which advises a global variance where shadow models are few; the
        limit of 64 is that of LeakPro.
    """
    return variance if variance != "auto" else "record" if n_shadows >= _ENOUGH else "shared"


def likelihood_ratio(observed: Tensor, shadows: Tensor, inside: Tensor, *, variance: Variance) -> Tensor:
    """The logarithm of density_in(observed) / density_out(observed) of every record.

    Where no shadow model saw a record (offline), the one-sided test of the outside density takes its place: the
    number of standard deviations above its mean, which orders records as the tail probability does.

    Args:
        observed: The confidence of the model under attack in each record.
        shadows: That of each shadow model.
        inside: Whether the shadow model saw the record; for each record all, none, or at least two.
        variance: ``"record"`` estimates one for each record, ``"shared"`` one for all, ``"bayes"`` shrinks the former
            towards what all records have in common; ``"auto"`` is :func:`resolved_variance`.

    Shapes:
        observed: ``(n,)``; shadows, inside: ``(s, n)``; returns: ``(n,)``, float64
    """
    kind = resolved_variance(variance, len(shadows))
    observed, shadows = observed.double(), shadows.double()
    outside = _Density(shadows, ~inside, kind)
    if not bool(inside.any()):
        return outside.standardised(observed)
    return _Density(shadows, inside, kind).log(observed) - outside.log(observed)


class _Density:
    """The density of confidences of the chosen shadow models, for every record; up to a constant where normal.

    Args:
        shadows: Confidences.
        chosen: Whose.
        kind: How the spread is estimated.

    Shapes:
        shadows, chosen: ``(s, n)``
    """

    def __init__(self, shadows: Tensor, chosen: Tensor, kind: Variance) -> None:
        weight = chosen.double()
        counts = weight.sum(dim=0)
        self._mean = (weight * shadows).sum(dim=0) / counts
        squares = (weight * (shadows - self._mean).square()).sum(dim=0)
        freedom = counts - 1  # one mean is estimated for each record
        self._freedom: Tensor | None = None
        if kind == "shared":
            variance = squares.sum() / freedom.sum()
        elif kind == "record":
            variance = squares / freedom
        else:
            prior, scale = _prior((squares / freedom).clamp_min(_LEAST_VARIANCE), freedom)
            self._freedom = prior + freedom
            variance = (prior * scale + squares) / self._freedom * (1 + 1 / counts)
        self._spread = variance.clamp_min(_LEAST_VARIANCE).sqrt().expand_as(self._mean)

    def standardised(self, observed: Tensor) -> Tensor:
        """How many standard deviations above the mean."""
        return (observed - self._mean) / self._spread

    def log(self, observed: Tensor) -> Tensor:
        """The logarithm of the density."""
        z = self.standardised(observed)
        if self._freedom is None:
            return -z.square() / 2 - self._spread.log()
        half = self._freedom / 2
        norm = torch.lgamma(half + 0.5) - torch.lgamma(half) - 0.5 * (2 * half).log()
        return norm - (half + 0.5) * torch.log1p(z.square() / self._freedom) - self._spread.log()


def _prior(variances: Tensor, freedom: Tensor) -> tuple[float, float]:
    """Degrees of freedom and scale of the prior, by the mean and variance of log variances over the records.

    Source:
        Smyth: Linear models and empirical Bayes methods, Statistical Applications in Genetics and Molecular Biology 3,
        2004, section 6.2; derived in the head of this module.

    Shapes:
        variances, freedom: ``(n,)``
    """
    from scipy.optimize import brentq
    from scipy.special import digamma, polygamma

    half = freedom.numpy() / 2
    centred = variances.log().numpy() - digamma(half) + torch.log(freedom / 2).numpy()
    level = float(centred.mean())
    more = float(centred.var(ddof=1) - polygamma(1, half).mean()) if len(centred) > 1 else 0.0
    if more <= float(polygamma(1, _MOST_FREEDOM / 2)):
        return _MOST_FREEDOM, math.exp(level)  # the records differ no more than their samples make them
    prior = 2 * float(brentq(lambda at: float(polygamma(1, at)) - more, 1e-6, _MOST_FREEDOM / 2))
    return prior, math.exp(level + float(digamma(prior / 2)) - math.log(prior / 2))

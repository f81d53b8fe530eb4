"""Scoring reconstructions."""

from __future__ import annotations

import math

import torch

from qflsec.accounting.statistics import clopper_pearson
from qflsec.attacks import InversionClaim
from qflsec.lab.scoring.trial import InversionTruth, Raw, TrialScore, point, ratio

__all__ = ["SUCCESS_BELOW", "angle_difference", "score_inversion"]

SUCCESS_BELOW = 1e-3
"""A record counts as reconstructed where the mean squared error of its features is below this."""


def angle_difference(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The difference of angles, in [-pi, pi)."""
    return torch.remainder(first - second + math.pi, 2 * math.pi) - math.pi


def score_inversion(claim: InversionClaim, truth: InversionTruth) -> TrialScore:
    """Advantage 1 - error / error of guessing, for the best assignment of reconstructions to records.

    The error is the mean squared error over features and records, modulo 2 pi for rotation angles. Guessing
    says the same for every record: the mean of the adversary's auxiliary records, or the middle of the
    range, whichever turns out nearer. That is the stronger baseline, so the advantage is no larger than the
    attack deserves.

    Source:
        Kuhn, Naval Research Logistics Quarterly 2, 1955 (assignment), as SciPy implements it.
    """
    from scipy.optimize import linear_sum_assignment

    originals = truth.records.features.double()
    errors = _errors(claim.features.double()[:, None, :], originals[None, :, :], truth)
    rows, columns = linear_sum_assignment(errors.numpy())
    order = torch.as_tensor(rows)[torch.as_tensor(columns).argsort()]
    matched = errors[order, torch.arange(len(originals))]
    guesses = _guess_errors(originals, truth)
    error, guess = float(matched.mean()), min(guesses.values())
    advantage, reason = ratio(guess - error, guess, "guessing makes no error: every record is the guess")
    n = len(originals)
    found = int((matched < SUCCESS_BELOW).sum())
    unit = "rad^2" if truth.angle_features else "1"
    metrics = {
        "mse": point("mse", error, n=n, baseline=guess, ideal=0.0, unit=unit),
        "success_rate": clopper_pearson(found, n).score(name="success_rate", baseline=0.0, ideal=1.0),
    }
    raw: Raw = {
        "originals": originals.tolist(),
        "reconstructions": claim.features.double()[order].tolist(),
        "errors": matched.tolist(),
        "reconstructed": float(found),
        **{f"guess_error_{name}": value for name, value in guesses.items()},
        "original_labels": truth.records.labels.tolist(),
    }
    if math.isfinite(claim.objective):
        raw["objective"] = claim.objective
    if claim.labels is not None:
        labels = claim.labels[order]
        raw["labels"] = labels.tolist()
        right = int((labels == truth.records.labels).sum())
        metrics["label_accuracy"] = clopper_pearson(right, n).score(
            name="label_accuracy", baseline=0.0, ideal=1.0
        )
    return TrialScore(advantage=advantage, metrics=metrics, raw=raw, reason=reason)


def _errors(guesses: torch.Tensor, originals: torch.Tensor, truth: InversionTruth) -> torch.Tensor:
    difference = angle_difference(guesses, originals) if truth.angle_features else guesses - originals
    return difference.square().mean(dim=-1)


def _guess_errors(originals: torch.Tensor, truth: InversionTruth) -> dict[str, float]:
    middle = torch.full_like(originals, sum(truth.feature_range) / 2)
    found = {"middle": float(_errors(middle, originals, truth).mean())}
    if truth.auxiliary is not None and len(truth.auxiliary.labels):
        mean = truth.auxiliary.features.double().mean(dim=0)
        found["auxiliary_mean"] = float(_errors(mean.expand_as(originals), originals, truth).mean())
    return found

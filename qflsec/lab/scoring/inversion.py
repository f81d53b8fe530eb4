"""Scoring reconstructions."""

from __future__ import annotations

import math

import torch

from qflsec.accounting.statistics import clopper_pearson
from qflsec.attacks import InversionClaim
from qflsec.attacks.inversion import typical_records
from qflsec.base import stream
from qflsec.lab.scoring.reasons import FOUND
from qflsec.lab.scoring.trial import InversionTruth, Raw, TrialScore, point, ratio

__all__ = ["SUCCESS_BELOW", "angle_difference", "score_inversion"]

SUCCESS_BELOW = 1e-3
"""A record counts as reconstructed where the mean squared error of its features is below this."""
_DRAWS = 16
_EXPLAINED = 1e-8
"""Updates in single precision are explained to about 1e-12; beyond this something else is in them."""
_SEARCH = 0.99


def angle_difference(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The difference of angles, in [-pi, pi)."""
    return torch.remainder(first - second + math.pi, 2 * math.pi) - math.pi


def score_inversion(claim: InversionClaim, truth: InversionTruth) -> TrialScore:
    """Advantage 1 - error / error of guessing, for the best assignment of reconstructions to records.

    The error is the mean squared error over features and records, modulo 2 pi for rotation angles. Guessing
    says the same for every record (the mean of the adversary's auxiliary records, or the middle of the
    range), draws records (auxiliary ones, or uniform ones), or says the set that is nearest to drawn ones on average
    (:func:`qflsec.attacks.inversion.typical_records`), assigned as reconstructions are. The nearest of these counts, chosen
    with the truth in hand, so that the advantage is no larger than the attack deserves: whoever says one of these guesses
    has at most 0, and less where another came nearer.

    Where the attack says how badly any records would explain what it saw, ``raw["why"]`` says why it did not find them. A failed
    inversion is never privacy by itself.

    Source:
        Kuhn, Naval Research Logistics Quarterly 2, 1955 (assignment), as SciPy implements it.
    """
    originals = truth.records.features.double()
    order, matched = _matched(claim.features.double(), originals, truth)
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
    if claim.steps:
        raw["search_steps"] = float(claim.steps)
    raw |= _why(claim, truth, found == n)
    if claim.labels is not None:
        labels = claim.labels[order]
        raw["labels"] = labels.tolist()
        right = int((labels == truth.records.labels).sum())
        metrics["label_accuracy"] = clopper_pearson(right, n).score(
            name="label_accuracy", baseline=0.0, ideal=1.0
        )
    return TrialScore(advantage=advantage, metrics=metrics, raw=raw, reason=reason)


def _why(claim: InversionClaim, truth: InversionTruth, success: bool) -> Raw:
    """Why records were not found, by what the true ones would explain; nothing where the attack cannot tell.

    The objective of the true records is compared with the claim's: a search that ended above it has failed, whatever the
    defense. Where neither explains what was seen, something else is in it. Where both do, it does not single them out.
    """
    if claim.misfit is None:
        return {}
    misfit = claim.misfit(truth.records.features, truth.records.labels)
    if success:
        why = FOUND
    elif misfit < _SEARCH * claim.objective - _EXPLAINED:
        why = (
            f"the search failed: the true records explain what was seen better ({misfit:.1e}) than what was found "
            f"({claim.objective:.1e}), so a longer search may find them"
        )
    elif misfit > _EXPLAINED:
        why = (
            f"what was seen is not the effect of these records alone (misfit {misfit:.1e}): noise, clipping, other clients' "
            "shares or another training than the attack models is in it; that is no guarantee, and the ledger says whether "
            "there is one"
        )
    else:
        why = (
            f"other records explain what was seen as well as the true ones do ({misfit:.1e}): it does not single them out, but "
            "more rounds, or better knowledge of what records look like, may"
        )
    return {"misfit_of_truth": misfit, "why": [why]}


def _matched(
    guesses: torch.Tensor, originals: torch.Tensor, truth: InversionTruth
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best assignment of guesses to originals, and the errors under it."""
    from scipy.optimize import linear_sum_assignment

    errors = _errors(guesses[:, None, :], originals[None, :, :], truth)
    rows, columns = linear_sum_assignment(errors.numpy())
    order = torch.as_tensor(rows)[torch.as_tensor(columns).argsort()]
    return order, errors[order, torch.arange(len(originals))]


def _errors(guesses: torch.Tensor, originals: torch.Tensor, truth: InversionTruth) -> torch.Tensor:
    difference = angle_difference(guesses, originals) if truth.angle_features else guesses - originals
    return difference.square().mean(dim=-1)


def _guess_errors(originals: torch.Tensor, truth: InversionTruth) -> dict[str, float]:
    middle = torch.full_like(originals, sum(truth.feature_range) / 2)
    found = {"middle": float(_errors(middle, originals, truth).mean())}
    generator = stream(0, "scoring", "random-guesses")
    low, high = truth.feature_range
    uniform = low + (high - low) * torch.rand((_DRAWS, *originals.shape), generator=generator).double()
    found["random"] = _mean_error(uniform, originals, truth)
    known = uniform.reshape(-1, originals.shape[1])
    if truth.auxiliary is not None and len(truth.auxiliary.labels):
        known = truth.auxiliary.features
        mean = truth.auxiliary.features.double().mean(dim=0)
        found["auxiliary_mean"] = float(_errors(mean.expand_as(originals), originals, truth).mean())
        rows = torch.randint(len(truth.auxiliary.labels), (_DRAWS, len(originals)), generator=generator)
        found["auxiliary_records"] = _mean_error(truth.auxiliary.features.double()[rows], originals, truth)
    typical = typical_records(known, len(originals))
    found["typical"] = _mean_error(typical[None], originals, truth)
    return found


def _mean_error(draws: torch.Tensor, originals: torch.Tensor, truth: InversionTruth) -> float:
    """The mean error of drawn records, each draw under its best assignment."""
    return float(torch.stack([_matched(draw, originals, truth)[1].mean() for draw in draws]).mean())

"""A user's training under attack with shadow models: whatever it gives, its answers to the known records are its parameters."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qflsec.attacks import Blocked, MembershipChallenge
from qflsec.attacks.membership import Lira
from qflsec.attacks.trainer import OneByOne
from qflsec.audit.check import Bench, NotApplicable
from qflsec.audit.checks.training import wordy
from qflsec.audit.parts import Array, Prediction, Training
from qflsec.lab.challenges import draw_candidates
from qflsec.lab.scoring import TrialScore, score_claim
from qflsec.lab.scoring.trial import MembershipTruth
from qflsec.threat import Granted, Records, public_final_model, recorded_transcript

__all__ = ["shadowed_membership"]

_FEWEST_RECORDS, _FEWEST_SHADOWS = 10, 8
_SHARE = 0.8
_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class _Answers:
    """Answers as a model: parameters are the logits of all known records, and a record's feature is its number.

    Attributes:
        n: Known records.
        classes: Classes.
    """

    n: int
    classes: int

    def __call__(self, params: Tensor, features: Tensor) -> Tensor:
        """The logits of records.

        Shapes:
            params: ``(..., n K)``; features: ``(..., 1)``; returns: ``(..., K)``
        """
        rows = features[..., 0].long()
        shape = (params[..., 0] + features[..., 0]).shape
        table = params.reshape(*params.shape[:-1], self.n, self.classes).expand(*shape, self.n, self.classes)
        places = rows.expand(shape)[..., None, None].expand(*shape, 1, self.classes)
        return torch.gather(table, -2, places)[..., 0, :]


def shadowed_membership(part: Training, bench: Bench, shadows: int) -> tuple[TrialScore, int]:
    """The score of LiRA on one training, and how many shadow models the time allowed.

    The training that is attacked and each shadow model have as many records as there are on the smaller side, so that
    every set is half of what is in question.

    Args:
        part: The training.
        bench: Seed and time.
        shadows: The most shadow models.

    Raises:
        NotApplicable: There are too few records, too little time, or the training's outputs are labels alone.
    """
    if part.data.test is None:
        raise NotApplicable("the pipeline gives no records that were not trained on")
    (x, y), (x_test, y_test) = part.data.train, part.data.test
    m = min(len(x), len(x_test))
    if m < _FEWEST_RECORDS:
        raise NotApplicable(f"{m} records on a side are too few, {_FEWEST_RECORDS} are needed")
    order = bench.rng("members").permutation(len(x))[:m]
    features, labels = np.concatenate([x[order], x_test[:m]]), np.concatenate([y[order], y_test[:m]])
    if wordy(labels):
        raise NotApplicable("the labels are words, and nothing says which output is which")
    classes = np.asarray(labels).astype(int).ravel()
    book = _Answers(n=2 * m, classes=int(classes.max()) + 1)

    def answers(rows: Array, seed: int) -> Tensor:
        return _logits(part.train((features[rows], labels[rows]), seed), features, book)

    begun, allowed = time.monotonic(), _SHARE * bench.left
    target = answers(np.arange(m), bench.seed)
    each = time.monotonic() - begun
    count = 2 * int(min(shadows, (allowed - each) / max(each, 1e-9)) // 2)
    if count < _FEWEST_SHADOWS:
        raise NotApplicable(
            f"the budget allows {max(count, 0)} shadow models, and {_FEWEST_SHADOWS} are needed"
        )
    known = Records(features=torch.arange(2.0 * m)[:, None], labels=torch.from_numpy(classes))
    trainer = OneByOne(
        train=lambda chosen, seed: answers(chosen.features[:, 0].long().numpy(), seed), seed=bench.seed
    )
    return _attacked(book, target, known, m, Lira(shadows=count), trainer, bench.seed), count


def _attacked(
    book: _Answers, target: Tensor, known: Records, m: int, attack: Lira, trainer: OneByOne, seed: int
) -> TrialScore:
    """The lab's score of an attack by whoever reads the last model."""
    inside, outside = known.at(torch.arange(m)), known.at(torch.arange(m, 2 * m))
    candidates, member = draw_candidates([inside], outside, seed, canaries=known.at(torch.arange(0)))
    right = book(target, known.features).argmax(dim=-1) == known.labels
    view = recorded_transcript(
        models=[torch.zeros_like(target), target], counts=[m], granted=Granted(model=book)
    ).seen_by(public_final_model())
    challenge = MembershipChallenge(
        seed=seed, attack=attack.card.name, candidates=candidates, n_members=m, trainer=trainer
    )
    claim = attack(view, challenge)
    if isinstance(claim, Blocked):
        raise NotApplicable(claim.reason)
    truth = MembershipTruth(
        member=member,
        train_correct=int(right[:m].sum()),
        n_train=m,
        test_correct=int(right[m:].sum()),
        n_test=m,
    )
    return score_claim(claim, truth)


def _logits(predict: Prediction, features: Array, book: _Answers) -> Tensor:
    """Outputs of whatever kind as logits.

    Raises:
        NotApplicable: They are labels, which say nothing of how sure the model is.

    Shapes:
        returns: ``(n K,)``
    """
    said = np.asarray(predict(features), dtype=float)
    said = said[:, 0] if said.ndim > 1 and said.shape[1] == 1 else said
    if said.ndim == 1:
        if np.array_equal(said, said.round()):
            raise NotApplicable("the training gives labels, which say nothing of how sure the model is")
        sure = said if said.min() >= 0 and said.max() <= 1 else 1 / (1 + np.exp(-said))
        said = np.stack([1 - sure, sure], axis=1)
    if said.shape[1] < book.classes:
        raise NotApplicable(f"the training gives {said.shape[1]} outputs for {book.classes} classes")
    if said.min() >= 0 and np.allclose(said.sum(axis=1), 1, atol=1e-4):
        said = np.log(np.clip(said, _TINY, None))
    return torch.from_numpy(said[:, : book.classes].astype(np.float32)).reshape(-1)

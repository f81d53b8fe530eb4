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
from qflsec.audit.classes import Classes, Reading, answers_of, reading_of
from qflsec.audit.parts import Array, Training
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
    names = Classes.of(part.data.train[1], y_test)
    if names.words:
        raise NotApplicable("the labels are words, and nothing says which output is which")
    if len(names) < 2:
        raise NotApplicable("all records have one label")
    classes = names.numbers(labels)
    book = _Answers(n=2 * m, classes=len(names))
    reading: list[Reading] = []

    def answers(rows: Array, seed: int) -> Tensor:
        said = answers_of(part.train((features[rows], labels[rows]), seed), features)
        if not reading:  # of the first training, which is on the first records
            reading.append(reading_of(said, names, classes[:m]))
        return _logits(said, reading[0])

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


def _logits(said: Array, reading: Reading) -> Tensor:
    """Outputs as logits.

    Raises:
        NotApplicable: They are labels, which say nothing of how sure the model is.

    Shapes:
        returns: ``(n K,)``
    """
    if said.ndim == 1 and np.array_equal(said, said.round()):
        raise NotApplicable("the training gives labels, which say nothing of how sure the model is")
    logits = np.log(np.clip(reading.chances(said), _TINY, None))
    return torch.from_numpy(logits.astype(np.float32)).reshape(-1)

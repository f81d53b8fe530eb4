"""From labels to classes, and from what a model puts out to the class that it says.

Classes are the sorted distinct labels of training and evaluation together. Of two, the larger label is the positive class.
What a model puts out is told apart by rules that :class:`Reading` states; where no rule matches, or two that disagree do,
nothing is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from qflsec.audit.check import NotApplicable
from qflsec.audit.parts import Array, Prediction

__all__ = ["Classes", "Reading", "answers_of", "like_labels", "reading_of"]

_TINY, _LARGE = 1e-12, 500.0
_MANY_LABELS = 20
Kind = Literal["labels", "probability", "score", "probabilities", "scores"]
_SAID: dict[Kind, str] = {
    "labels": "labels",
    "probability": "probabilities of the larger label",
    "score": "real numbers whose sign decides",
    "probabilities": "a probability for each class",
    "scores": "a score for each class",
}


def _wordy(values: Array) -> bool:
    return values.dtype.kind in "US"


def _one_hot(labels: Array) -> bool:
    """Whether labels have a column for each class: one 1 in each row, and else 0."""
    if labels.ndim != 2 or labels.shape[1] < 2 or _wordy(labels):
        return False
    return bool(np.isin(labels, (0, 1)).all() and (labels.astype(float).sum(axis=1) == 1).all())


def like_labels(values: Array) -> bool:
    """Whether an array looks like labels and not like features: words, one-hot rows, or few whole numbers.

    Shapes:
        values: ``(n, ...)``.
    """
    if _wordy(values) or _one_hot(values):
        return True
    flat = values.astype(float).ravel()
    return (
        flat.size == len(values)
        and bool((flat == np.round(flat)).all())
        and len(np.unique(flat)) <= min(_MANY_LABELS, max(2, len(flat) // 2))
    )


def _flat(labels: Array) -> Array:
    """One label for each record.

    Raises:
        NotApplicable: There are several that are not one-hot, or some are missing.
    """
    if _one_hot(labels):
        return np.asarray(labels.argmax(axis=1).astype(float))
    if labels.size != len(labels):
        raise NotApplicable(
            f"labels of the shape {labels.shape[1:]} for each record are neither one label nor one-hot"
        )
    flat = labels.ravel()
    if _wordy(flat):
        return flat
    if flat.dtype.kind not in "biuf":
        raise NotApplicable(f"labels of the type {flat.dtype} are neither numbers nor words")
    numbers = flat.astype(float)
    if np.isnan(numbers).any():
        raise NotApplicable("some labels are missing (NaN)")
    return np.asarray(numbers)


@dataclass(frozen=True, kw_only=True)
class Classes:
    """The classes of a pipeline.

    Attributes:
        values: Their labels, sorted; the columns of one-hot labels, also those that no record has.

    Shapes:
        values ``(K,)``.
    """

    values: Array

    @classmethod
    def of(cls, *labels: Array) -> Classes:
        """The classes of labels of training and evaluation together.

        Raises:
            NotApplicable: They are no classes, or differ in kind.
        """
        given = [np.asarray(one) for one in labels if len(one)]
        if not given:
            raise NotApplicable("the pipeline gives no labels")
        flat = [_flat(one) for one in given]
        if len({_wordy(one) for one in flat}) > 1:
            raise NotApplicable("labels are words here and numbers there")
        widths = {one.shape[1] for one in given if _one_hot(one)}
        if not widths:
            return cls(values=np.unique(np.concatenate(flat)))
        columns = np.arange(float(max(widths)))
        if len(widths) > 1 or not all(np.isin(one, columns).all() for one in flat):
            raise NotApplicable("labels are one-hot, and not all with the same classes")
        return cls(values=columns)

    @property
    def words(self) -> bool:
        """Whether labels are words."""
        return _wordy(self.values)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.values)

    def numbers(self, labels: Array) -> Array:
        """Labels as classes, 0 to K - 1; -1 for one that is none of them.

        Shapes:
            labels: ``(n,)``, ``(n, 1)`` or one-hot ``(n, K)``; returns: ``(n,)``
        """
        if not len(labels):
            return np.zeros(0, dtype=int)
        flat = _flat(np.asarray(labels))
        place = np.minimum(np.searchsorted(self.values, flat), len(self) - 1)
        return np.where(self.values[place] == flat, place, -1)


def answers_of(predict: Prediction, features: Array) -> Array:
    """What a model puts out: one value for each record, or one for each record and class.

    Raises:
        NotApplicable: It has another shape, is no number and no word, or is missing.

    Shapes:
        features: ``(n, ...)``; returns: ``(n,)`` or ``(n, K)``.
    """
    said = np.asarray(predict(features))
    n = len(features)
    if said.shape not in {(n,), (n, 1)} and not (said.ndim == 2 and len(said) == n and said.shape[1]):
        raise NotApplicable(f"outputs have the shape {said.shape} for {n} records")
    said = said[:, 0] if said.ndim == 2 and said.shape[1] == 1 else said
    if _wordy(said):
        return said
    if said.dtype.kind not in "biuf":
        raise NotApplicable(f"outputs of the type {said.dtype} are neither numbers nor words")
    numbers = said.astype(float)
    if np.isnan(numbers).any():
        raise NotApplicable("some outputs are no number (NaN)")
    return np.asarray(numbers)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the outputs of a model are read.

    Attributes:
        kind: What they are. ``labels``: every output is a label. ``probability``: one number for each record, all from 0 to
            1, of the larger of two labels. ``score``: one real number for each record and two classes; above 0 is the larger.
            ``probabilities`` and ``scores``: a column for each class.
        classes: The classes.
        columns: The column of each class.
    """

    kind: Kind
    classes: Classes
    columns: tuple[int, ...] = ()

    def _checked(self, outputs: Array) -> Array:
        fits = outputs.ndim == (2 if self.columns else 1) and _wordy(outputs) == self.classes.words
        if fits and self.columns:
            fits = outputs.shape[1] > max(self.columns)
        if fits and self.kind == "probability":
            fits = bool(len(outputs) == 0 or (outputs.min() >= 0 and outputs.max() <= 1))
        if fits and self.kind == "probabilities":
            fits = _probabilities(outputs)
        if not fits:
            raise NotApplicable(f"outputs were {_SAID[self.kind]}, and those of another call are not")
        return outputs

    def predicted(self, outputs: Array) -> Array:
        """The class of each output, 0 to K - 1; -1 where it is none that a label has.

        Raises:
            NotApplicable: They are not what they were.

        Shapes:
            outputs: ``(n,)`` or ``(n, K)``; returns: ``(n,)``
        """
        outputs = self._checked(outputs)
        if self.kind == "labels":
            return self.classes.numbers(outputs)
        if not self.columns:
            return np.asarray(outputs > (0.5 if self.kind == "probability" else 0.0), dtype=int)
        class_of = np.full(outputs.shape[1], -1)
        class_of[list(self.columns)] = np.arange(len(self.columns))
        return np.asarray(class_of[outputs.argmax(axis=1)])

    def chances(self, outputs: Array) -> Array:
        """The probability that the model gives to each class; of scores by their softmax or sigmoid.

        Raises:
            NotApplicable: They are labels, which say nothing of how sure the model is, or not what they were.

        Shapes:
            outputs: ``(n,)`` or ``(n, K)``; returns: ``(n, K)``
        """
        outputs = self._checked(outputs)
        if self.kind == "labels":
            raise NotApplicable("the training gives labels, which say nothing of how sure the model is")
        if self.columns:
            rows = outputs if self.kind == "probabilities" else _softmax(outputs)
            return np.asarray(rows[:, list(self.columns)])
        one = outputs if self.kind == "probability" else 1 / (1 + np.exp(-np.clip(outputs, -_LARGE, _LARGE)))
        return np.stack([1 - one, one], axis=1)

    def losses(self, outputs: Array, numbers: Array) -> Array:
        """The loss of each record: minus the logarithm of what its class gets; of labels 0 where right and 1 where not.

        Raises:
            NotApplicable: Outputs are not what they were.

        Shapes:
            outputs: ``(n,)`` or ``(n, K)``; numbers: ``(n,)``, classes; returns: ``(n,)``
        """
        if self.kind == "labels":
            return np.asarray((self.predicted(outputs) != numbers).astype(float))
        rows = self.chances(outputs)
        return np.asarray(-np.log(np.clip(rows[np.arange(len(rows)), numbers], _TINY, None)))


def reading_of(outputs: Array, classes: Classes, numbers: Array | None = None) -> Reading:
    """How outputs are read, by all of them together.

    Args:
        outputs: What :func:`answers_of` gives, of as many records as are known.
        classes: The classes.
        numbers: The classes of the first of these records, which the model is trained on: real numbers that guess the label
            itself are then told from those whose sign decides. None where only the order of one record's losses counts,
            which is the same for both.

    Raises:
        NotApplicable: No rule matches, or two do that disagree.
    """
    if classes.words or _wordy(outputs):
        if not (classes.words and _wordy(outputs) and outputs.ndim == 1):
            raise NotApplicable(
                "the labels are words, and nothing says which output is which"
                if classes.words
                else "the outputs are words, and the labels are numbers"
            )
        return Reading(kind="labels", classes=classes)
    if not len(outputs):
        raise NotApplicable("there are no records to read outputs of")
    return _of_columns(outputs, classes) if outputs.ndim == 2 else _of_single(outputs, classes, numbers)


def _of_columns(outputs: Array, classes: Classes) -> Reading:
    k, values = outputs.shape[1], classes.values
    if k == len(classes):
        columns = tuple(range(k))
    elif values[0] == 0 and values[-1] < k and (values == np.round(values)).all():
        columns = tuple(int(one) for one in values)
    else:
        raise NotApplicable(
            f"the model gives {k} columns and the labels are {_listed(values)}: nothing says which column is which"
        )
    return Reading(
        kind="probabilities" if _probabilities(outputs) else "scores", classes=classes, columns=columns
    )


def _of_single(outputs: Array, classes: Classes, numbers: Array | None) -> Reading:
    values = classes.values
    labels = Reading(kind="labels", classes=classes)
    if len(classes) != 2:
        if np.isin(outputs, values).all() and len(classes) > 2:
            return labels
        raise NotApplicable(
            f"the model gives one number for each record, not all of them labels, and the labels are {_listed(values)}: "
            "one number is read only of two classes"
        )
    share, score = Reading(kind="probability", classes=classes), Reading(kind="score", classes=classes)
    within = bool(outputs.min() >= 0 and outputs.max() <= 1)
    if np.isin(outputs, values).all():
        if within and (labels.predicted(outputs) != share.predicted(outputs)).any():
            raise NotApplicable(
                f"every output is {_listed(np.unique(outputs))}, which may be a label or a probability"
            )
        return labels
    if not within and numbers is not None:
        _refuse_regression(outputs, classes, numbers, score)
    return share if within else score


def _refuse_regression(outputs: Array, classes: Classes, numbers: Array, score: Reading) -> None:
    """Refuse real numbers that may be guesses of the label itself, so that its middle decides and not the sign."""
    said, middle = score.predicted(outputs), outputs > classes.values.mean()
    if (said == middle).all():
        return
    targets, trained = classes.values[numbers], outputs[: len(numbers)]
    explains = len(numbers) > 0 and ((trained - targets) ** 2).mean() < targets.var()
    one_sided = len(np.unique(said)) == 1 and len(np.unique(middle)) > 1
    if explains or one_sided:
        raise NotApplicable(
            f"outputs may be real numbers whose sign decides, or guesses of the labels {_listed(classes.values)}: "
            "give probabilities from 0 to 1, a column for each class, or labels"
        )


def _listed(values: Array, most: int = 5) -> str:
    shown = ", ".join(f"{one:g}" for one in values[:most])
    return shown if len(values) <= most else f"{shown} and {len(values) - most} more"


def _probabilities(outputs: Array) -> bool:
    return bool(not len(outputs) or (outputs.min() >= 0 and np.allclose(outputs.sum(axis=1), 1, atol=1e-4)))


def _softmax(outputs: Array) -> Array:
    finite = np.clip(outputs, -1e300, 1e300)
    shifted = np.exp(finite - finite.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))

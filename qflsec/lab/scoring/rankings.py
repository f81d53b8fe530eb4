"""How well a model ranks and finds the records of a class: where one class is rare, accuracy hides it."""

from __future__ import annotations

from typing import Literal

import torch

from qflsec.federation import RunResult
from qflsec.models import Model

__all__ = ["mean_ranking", "ranking"]


def ranking(
    logits: torch.Tensor,
    labels: torch.Tensor,
    detects: int | Literal["every"],
    *,
    weights: torch.Tensor | None = None,
) -> dict[str, float]:
    """The areas under the ROC curve and under the precision-recall curve of one class against the rest, and its recall.

    A record's score is its log-odds for the class. Equal scores count as half a pair under the ROC curve; the other area
    is the average precision, sum over thresholds of (recall gained) x precision, without interpolation.

    Args:
        logits: The model's logits.
        labels: The classes.
        detects: The class; ``"every"`` for the unweighted mean over the classes, each against the rest.
        weights: What each record counts; 1 by default.

    Returns:
        ``auroc``, ``aupr``, ``prevalence``, the share of the class, which is what guessing reaches of ``aupr``, and ``recall``,
        the share of the class's records that get it as their answer (its mean over all classes is the balanced accuracy), with ``guessed``, 1/K, what answers drawn evenly reach of it. A class
        that no record has, or every record, is left out of the mean; where none is left, nothing is returned.

    Shapes:
        logits: ``(n, K)``; labels, weights: ``(n,)``

    Source:
        Fawcett: An introduction to ROC analysis, Pattern Recognition Letters 27 (2006); the areas are scikit-learn's.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    weight = torch.ones(len(labels), dtype=torch.float64) if weights is None else weights.double()
    kept = weight > 0
    logits, labels, weight = logits[kept].double(), labels[kept], weight[kept]
    classes = sorted(set(labels.tolist())) if detects == "every" else [detects]
    found = []
    for label in classes:
        positive = labels == label
        if not bool(positive.any()) or bool(positive.all()):
            continue
        rest = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
        score = (logits[:, label] - rest.logsumexp(dim=1)).numpy()
        known = {"y_true": positive.numpy(), "y_score": score, "sample_weight": weight.numpy()}
        share = float(weight[positive].sum() / weight.sum())
        caught = float(weight[positive & (logits.argmax(dim=1) == label)].sum() / weight[positive].sum())
        areas = float(roc_auc_score(**known)), float(average_precision_score(**known))
        found.append((*areas, share, caught, 1 / logits.shape[1]))
    means = (sum(column) / len(found) for column in zip(*found, strict=True))
    return dict(zip(("auroc", "aupr", "prevalence", "recall", "guessed"), means, strict=False))


def mean_ranking(
    run: RunResult, *, places: tuple[int, ...] | None = None, model: Model | None = None
) -> dict[str, float]:
    """:func:`ranking` of a run's final models on its test records, the mean over those who read them.

    Args:
        run: The run.
        places: Which of its models; those that honest clients read by default.
        model: What is executed in place of the pipeline's model.

    Returns:
        Nothing where the pipeline names no class to detect, where there are no test records, or where the stack serves
        classes alone and no scores.
    """
    detects, test = run.pipeline.detects, run.records("test")
    if detects is None or not len(test.labels) or run.stack.serving is not None:
        return {}
    executed = model or run.pipeline.model
    with torch.no_grad():
        each = [
            ranking(executed(run.models[place], test.features), test.labels, detects)
            for place in (run.readers if places is None else places)
        ]
    names = each[0] if each else {}
    return {name: sum(one[name] for one in each) / len(each) for name in names}

"""Measurement clustering: records with a trigger form a small group of their own among those that get one answer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from qflsec.base import ConfigError
from qflsec.circuits import pauli_z
from qflsec.models import EXACT, Model, Vqc
from qflsec.models.execute import measure

__all__ = ["Cluster", "measured", "measurement_clusters", "suspects"]

_FEWEST = 4


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The smaller of the two groups into which the records of one answer fall.

    Attributes:
        answer: The class that they get.
        rows: Their positions.
        share: How many of the records with this answer they are, from 0 to 0.5.
        silhouette: How well the two groups are apart, from -1 to 1.
    """

    answer: int
    rows: tuple[int, ...]
    share: float
    silhouette: float


def measured(model: Model, params: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """What is measured of each record: Z on every wire of a variational circuit, the logits of other models.

    Shapes:
        params: ``(P,)``; features: ``(n, F)``; returns: ``(n, M)``
    """
    with torch.no_grad():
        if not isinstance(model, Vqc):
            return model(params, features)
        wires = range(model.circuit.n_qubits)
        circuit = replace(
            model.circuit, observables=tuple(pauli_z(wire, model.circuit.n_qubits) for wire in wires)
        )
        return measure(circuit, params, features, EXACT, None)


def measurement_clusters(points: torch.Tensor, answers: torch.Tensor, *, seed: int = 0) -> list[Cluster]:
    """The smaller group of each answer, by 2-means.

    Args:
        points: What was measured of each record.
        answers: The class that each gets.
        seed: Where the first centres are drawn from.

    Returns:
        One for each class with at least four different records; others have no two groups.

    Shapes:
        points: ``(n, M)``; answers: ``(n,)``

    Source:
        Wang et al.: QSentry: backdoor detection for quantum neural networks via measurement clustering, 2025,
        arXiv:2511.15376, abstract: measurements, silhouettes and relative sizes of clusters. Two clusters for each
        answer are those of Chen et al., 2018, arXiv:1811.03728 (activation clustering).
    """
    import numpy as np
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    found = []
    for answer in sorted(set(answers.tolist())):
        rows = torch.nonzero(answers == answer).flatten().numpy()
        own = points[answers == answer].double().numpy()
        if len(np.unique(own, axis=0)) < _FEWEST:
            continue
        labels = KMeans(n_clusters=2, n_init=5, random_state=seed).fit_predict(own)
        small = labels == int(np.bincount(labels, minlength=2).argmin())
        found.append(
            Cluster(
                answer=int(answer),
                rows=tuple(rows[small].tolist()),
                share=float(small.mean()),
                silhouette=float(silhouette_score(own, labels)),
            )
        )
    return found


def suspects(
    model: Model,
    params: torch.Tensor,
    features: torch.Tensor,
    *,
    largest: float = 0.4,
    separation: float = 0.45,
    seed: int = 0,
) -> torch.Tensor:
    """The records that look as if they carried a trigger.

    It needs no trigger and no clean records, but a batch in which records with a trigger are few: of each answer's records
    it suspects no more than ``largest``. It says nothing of the model that is trained, nor of tampered circuits.

    Args:
        model: The model.
        params: Its parameters.
        features: The records.
        largest: The largest share of an answer's records that may be a group with a trigger.
        separation: The smallest silhouette of such a group.
        seed: Where the first centres are drawn from.

    Shapes:
        params: ``(P,)``; features: ``(n, F)``; returns: ``(n,)``, boolean

    Raises:
        ConfigError: A threshold is out of range.

    Source:
        :func:`measurement_clusters`; the thresholds are this project's.
    """
    if not 0 < largest <= 0.5:
        raise ConfigError("'largest' is a share of records", got=largest, expected="above 0, at most 0.5")
    if not -1 <= separation <= 1:
        raise ConfigError("'separation' is a silhouette", got=separation, expected="from -1 to 1")
    with torch.no_grad():
        answers = model(params, features).argmax(dim=-1)
    flagged = torch.zeros(len(features), dtype=torch.bool)
    for cluster in measurement_clusters(measured(model, params, features), answers, seed=seed):
        if cluster.share <= largest and cluster.silhouette >= separation:
            flagged[list(cluster.rows)] = True
    return flagged

"""Canaries: records that whoever audits a training puts among the others, to be told by them whether they were in it.

A record like all others says least of what a model keeps: many records pull it the same way. A canary is unlike them.

An offset canary is a record whose angles are all moved by the same amount, each in the direction that leaves it in its
range. A rotation by x and one by x + d prepare states of fidelity cos(d/2)^2, so that n wires with a feature each prepare
states of trace distance sqrt(1 - cos(d/2)^(2 n)) from the record's own: half a turn of each is as far as states can be, and
a quarter of four wires 0.968. The label stays, and so does the range that noise on encoded states is accounted for.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qflsec.base import numpy_stream
from qflsec.data.spec import DataSpec

__all__ = ["drawn_canaries", "placed"]


def drawn_canaries(
    spec: DataSpec, seed: int, member: NDArray[np.int64], nonmember: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The rows that become canaries: as many members as non-members, drawn alike.

    Args:
        spec: How many.
        seed: The run's seed.
        member: Rows that are trained on.
        nonmember: Rows that are not.

    Shapes:
        returns: ``(2 c,)``
    """
    generator = numpy_stream(seed, "canaries")
    return np.concatenate([generator.permutation(rows)[: spec.canaries] for rows in (member, nonmember)])


def placed(
    spec: DataSpec, features: Tensor, labels: Tensor, rows: NDArray[np.int64], n_classes: int
) -> tuple[Tensor, Tensor]:
    """Features and labels with canaries in these rows.

    Args:
        spec: Of which kind.
        features: Features.
        labels: Labels.
        rows: Which become canaries.
        n_classes: How many classes there are.

    Source:
        The mislabelled record as the audit's worst case: Carlini et al., IEEE S&P 2022, section V (outliers and
        mislabelled records are told best). Moved angles: after the idea of Song et al., arXiv:2512.14388, 2025, of which
        the abstract alone was read (canaries in offset-encoded states); the construction is derived in the head of this module.

    Shapes:
        features: ``(N, F)``; labels: ``(N,)``; returns the same
    """
    features, labels, at = features.clone(), labels.clone(), torch.from_numpy(rows)
    if spec.canary == "mislabelled":
        labels[at] = (labels[at] + 1) % n_classes
    else:
        up = features[at] + spec.canary_offset
        features[at] = torch.where(up <= spec.feature_range[1], up, features[at] - spec.canary_offset)
    return features, labels

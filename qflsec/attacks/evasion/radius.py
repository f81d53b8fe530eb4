r"""How far records can be moved: what is proved that nobody can do, and what an attack does.

*Certified.* A trained circuit turns the encoded state and measures a Pauli word W. Two states at the trace distance tau have
expectation values of W that differ by at most 2 tau, so that an answer with <W> = z stays what it is within |z| / 2, whatever the
adversary knows (:func:`~qflsec.protocols.qdp.certified_radius` without noise). How far the states of two records can be apart says
:func:`~qflsec.protocols.qdp.record_distance`, for any weights.

*Empirical.* The smallest budget at which an attack changed the answer: an upper bound on what is needed, and so never below
the certified one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from qflsec.attacks.challenges import EvasionChallenge
from qflsec.attacks.evasion.base import white_box_loss
from qflsec.attacks.evasion.gradients import AutoPgd
from qflsec.circuits import Circuit
from qflsec.models import EXACT, Model, Vqc
from qflsec.models.execute import measure
from qflsec.protocols.qdp import certified_radius, identity, record_distance
from qflsec.protocols.qdp.errors import QdpError
from qflsec.threat import Records

__all__ = [
    "certified_distance",
    "certified_moves",
    "certified_within",
    "circuit_that_certifies",
    "empirical_moves",
]

_ROUNDING = 1e-5
"""What single precision may have added to an expectation value."""


def circuit_that_certifies(model: Model) -> Circuit | None:
    """The circuit of a model whose answer is the sign of one Pauli word; None for any other model."""
    if not isinstance(model, Vqc) or model.noise is not None or len(model.circuit.observables) != 1:
        return None
    terms = model.circuit.observables[0].terms
    return (
        model.circuit if len(terms) == 1 and abs(terms[0][0]) == 1.0 and set(terms[0][1]) != {"I"} else None
    )


def certified_distance(model: Model, params: Tensor, features: Tensor) -> Tensor | None:
    """The trace distance within which no state gets another answer than a record's; None where nothing is proved.

    Shapes:
        params: ``(P,)``; features: ``(n, F)``; returns: ``(n,)``, double
    """
    circuit = circuit_that_certifies(model)
    if circuit is None:
        return None
    with torch.no_grad():
        values = measure(circuit, params, features, EXACT, None)[..., 0].double()
    # the parity of the word: one bit
    bits = [np.diag([1.0, 0.0]).astype(np.complex128), np.diag([0.0, 1.0]).astype(np.complex128)]
    found = []
    for value in values.tolist():
        least = max(0.0, abs(value) - _ROUNDING)
        chances = [(1 + least) / 2, (1 - least) / 2]
        found.append(certified_radius(identity(1), bits, chances, chances).tau)
    return torch.tensor(found, dtype=torch.float64)


def certified_moves(model: Model, params: Tensor, features: Tensor, *, steps: int = 1000) -> Tensor | None:
    """How far all features of a record may move without another answer; None where nothing is proved.

    Args:
        model: The model.
        params: Its parameters.
        features: The records.
        steps: The moves between 0 and pi that are tried; each figure is the largest of them that is certified.

    Shapes:
        params: ``(P,)``; features: ``(n, F)``; returns: ``(n,)``, double

    Units:
        that of the features, radians for angles
    """
    distance, circuit = certified_distance(model, params, features), circuit_that_certifies(model)
    if distance is None or circuit is None:
        return None
    moves = np.linspace(0.0, math.pi, steps + 1)
    try:
        apart = np.array([record_distance(circuit, float(move)).tau for move in moves])
    except QdpError:  # as in certified_within
        return None
    return torch.from_numpy(moves[np.maximum(np.searchsorted(apart, distance.numpy(), side="left") - 1, 0)])


def certified_within(model: Model, params: Tensor, features: Tensor, epsilon: float) -> Tensor | None:
    """The records whose answer no move of the features by at most ``epsilon`` changes; None where nothing is proved.

    Shapes:
        params: ``(P,)``; features: ``(n, F)``; returns: ``(n,)``, boolean
    """
    circuit = circuit_that_certifies(model)
    if circuit is None:
        return None
    try:
        apart = record_distance(circuit, epsilon).tau
    except QdpError:  # amplitude encoding without a smallest norm, or angles that are functions of features
        return None
    distance = certified_distance(model, params, features)
    return None if distance is None else distance > apart


def empirical_moves(
    model: Model,
    params: Tensor,
    features: Tensor,
    *,
    feature_range: tuple[float, float],
    budgets: Sequence[float],
    attack: Callable[[float], AutoPgd] = lambda epsilon: AutoPgd(epsilon=epsilon),
) -> Tensor:
    """The smallest budget at which an attack gives a record another answer; infinite where none did.

    Args:
        model: The model.
        params: Its parameters.
        features: The records.
        feature_range: Where features lie.
        budgets: The budgets that are tried.
        attack: The attack with a budget.

    Shapes:
        params: ``(P,)``; features: ``(n, F)``; returns: ``(n,)``, double
    """
    with torch.no_grad():
        answers = model(params, features).argmax(dim=-1)
    records = Records(features=features, labels=answers)
    found = torch.full((len(features),), math.inf, dtype=torch.float64)
    for budget in sorted(budgets, reverse=True):
        chosen = attack(budget)
        asked = EvasionChallenge(
            seed=0, attack=chosen.card.name, records=records, epsilon=budget, feature_range=feature_range
        )
        moved = chosen.moved(white_box_loss(model, params, answers), asked)
        with torch.no_grad():
            changed = model(params, moved).argmax(dim=-1) != answers
        farthest = (moved - features).abs().amax(dim=-1).double()
        found = torch.where(changed, torch.minimum(found, farthest), found)
    return found

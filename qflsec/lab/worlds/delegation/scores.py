"""What a quantum server learned, against the client's secrets: means over rounds with 95 % intervals.

The rounds are independent, as each has pads of its own, and so are the guesses of one that knows no pad, of which
``n`` counts those of all nodes and rounds. Nothing here needs many of them, or rounds that differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from qflsec.accounting.statistics import bounded_mean, mean_by_chance
from qflsec.base import Score

if TYPE_CHECKING:
    from qflsec.protocols.blind.angles import Floats
    from qflsec.protocols.blind.qubits import Bits

__all__ = ["angle_score", "by_chance", "outcome_score", "round_score"]

_Z = 1.959963984540054
_ANGLES, _ROUNDS = "angle_advantage", "round_advantage"


def angle_score(guesses: Sequence[Floats], truths: Sequence[Floats]) -> Score:
    """The mean of cos 2 (guess - angle): 1 for one who knows the angles modulo pi, 0 for a guess.

    Args:
        guesses: For each node that carries data or parameters, the guess in each computation round.
        truths: The angles as adapted to the outcomes before, without pads.
    """
    right = np.stack([np.cos(2 * (g - t)) for g, t in zip(guesses, truths, strict=True)])
    return _mean(_ANGLES, right)


def outcome_score(guesses: Sequence[Bits], truths: Sequence[Bits]) -> Score:
    """2 P(right) - 1 over the output bits of the computation rounds."""
    right = np.stack([2.0 * (g == t) - 1 for g, t in zip(guesses, truths, strict=True)])
    return _mean("outcome_advantage", right)


def round_score(guess: Floats, tests: npt.NDArray[np.bool_]) -> Score:
    """P(says test | test) - P(says test | computation): 1 for one who always knows, 0 for a guess.

    Source:
        Agresti and Caffo, The American Statistician 54, 280, 2000 (interval of a difference of proportions).
    """
    rates, variance = [], 0.0
    for rounds in (guess[tests], guess[~tests]):
        rates.append(float(rounds.mean()))
        shrunk = (float(rounds.sum()) + 1) / (len(rounds) + 2)
        variance += shrunk * (1 - shrunk) / (len(rounds) + 2)
    value, half = rates[0] - rates[1], _Z * math.sqrt(variance)
    return Score(
        name=_ROUNDS,
        value=value,
        low=max(-1.0, value - half),
        high=min(1.0, value + half),
        n=len(guess),
        baseline=0.0,
        ideal=1.0,
    )


def by_chance(score: Score, tests: int) -> float:
    """At most the probability that a server which knows nothing gets such a score.

    Of the rounds that it names as tests the client's secret order decides which are, a random choice without
    replacement; its other guesses are right by pads that it does not know.

    Args:
        score: One of the scores here.
        tests: How many of the session's rounds are tests.

    Source:
        Serfling: Probability inequalities for the sum in sampling without replacement, Annals of Statistics 2, 1974,
        corollary 1.1.
    """
    if score.name == _ROUNDS:
        above = max(0.0, score.value) * (1 - tests / score.n)  # the tests' rate over that of all rounds
        return math.exp(-2 * tests * above**2 / (1 - (tests - 1) / score.n))
    if score.name == _ANGLES:
        # E exp(s cos x) = I_0(s) <= exp(s^2 / 4) for a uniform angle
        return math.exp(-score.n * max(0.0, score.value) ** 2)
    return mean_by_chance(score.value, score.n)


def _mean(name: str, values: Floats) -> Score:
    """The mean over nodes and rounds, with an interval from the rounds, within which guesses may hang together.

    Shapes:
        values: ``(nodes, rounds)``
    """
    rounds = bounded_mean([float(value) for value in values.mean(axis=0)])
    return replace(rounds, n=values.size).score(name=name, baseline=0.0, ideal=1.0)

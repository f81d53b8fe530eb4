"""What a quantum server learned, against the client's secrets: means over rounds with 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from qflsec.base import Score
from qflsec.protocols.blind.angles import Floats
from qflsec.protocols.blind.qubits import Bits

__all__ = ["angle_score", "outcome_score", "round_score"]

_Z = 1.959963984540054


def angle_score(guesses: Sequence[Floats], truths: Sequence[Floats]) -> Score:
    """The mean of cos 2 (guess - angle): 1 for one who knows the angles modulo pi, 0 for a guess.

    Args:
        guesses: For each node that carries data or parameters, the guess in each computation round.
        truths: The angles as adapted to the outcomes before, without pads.
    """
    right = np.mean([np.cos(2 * (g - t)) for g, t in zip(guesses, truths, strict=True)], axis=0)
    return _mean("angle_advantage", right)


def outcome_score(guesses: Sequence[Bits], truths: Sequence[Bits]) -> Score:
    """2 P(right) - 1 over the output bits of the computation rounds."""
    right = np.mean([2.0 * (g == t) - 1 for g, t in zip(guesses, truths, strict=True)], axis=0)
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
        name="round_advantage",
        value=value,
        low=max(-1.0, value - half),
        high=min(1.0, value + half),
        n=len(guess),
        baseline=0.0,
        ideal=1.0,
    )


def _mean(name: str, values: Floats) -> Score:
    n = len(values)
    half = _Z * float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    value = float(values.mean())
    return Score(name=name, value=value, low=value - half, high=value + half, n=n, baseline=0.0, ideal=1.0)

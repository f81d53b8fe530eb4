"""Which copies are tested: any, by coins that nobody knew when the copies were made."""

from __future__ import annotations

import hashlib

import numpy as np
from scipy import stats

from qflsec.protocols.ghz.state_tests import StateTests

COPIES, TESTS, ROUNDS = 40, 10, 2000


def coins(draw: int) -> bytes:
    return hashlib.sha256(b"coins of a test" + draw.to_bytes(4, "big")).digest()


def test_every_copy_is_tested_as_often_as_any_other() -> None:
    """Chi-square over places at fixed coins, so that it always passes or never: a source cannot choose what is tested.

    Copies are drawn without repetition, which makes the statistic (1 - p) times a chi-square of n - 1 degrees.
    """
    drawn = np.stack(
        [StateTests.draw(coins(i), n=3, copies=COPIES, tests=TESTS).tested for i in range(ROUNDS)]
    )
    assert (drawn.sum(axis=1) == TESTS).all()
    p = TESTS / COPIES
    statistic = (
        float(((drawn.sum(axis=0) - ROUNDS * p) ** 2 / (ROUNDS * p)).sum()) / (1 - p) * (COPIES - 1) / COPIES
    )
    assert stats.chi2.sf(statistic, COPIES - 1) > 1e-6
    pairs = np.corrcoef(drawn[:, :-1].ravel(), drawn[:, 1:].ravel())[0, 1]
    expected = -1 / (COPIES - 1)
    assert abs(pairs - expected) < 5 / np.sqrt(ROUNDS * (COPIES - 1)), (
        "neighbours are tested no more often together"
    )


def test_the_coins_choose_and_the_first_copies_are_nothing_special() -> None:
    sets = {StateTests.draw(coins(i), n=3, copies=COPIES, tests=TESTS).tested.tobytes() for i in range(100)}
    assert len(sets) == 100
    first = np.arange(COPIES) < TESTS
    assert first.tobytes() not in sets, "one set in 8.5e8"
    again = StateTests.draw(coins(0), n=3, copies=COPIES, tests=TESTS).tested
    assert again.tobytes() in sets, "everybody draws the same"

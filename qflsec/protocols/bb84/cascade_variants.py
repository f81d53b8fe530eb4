"""Schedules of Cascade: how many passes, with blocks of what size, and whether sub-blocks are searched again."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from qflsec.base import UnknownName

__all__ = ["DEFAULT_SCHEDULE", "SCHEDULES", "Schedule", "schedule"]

DEFAULT_SCHEDULE = "yan-14"
# Below this rate block sizes no longer grow.
_LEAST_QBER = 1e-5


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One schedule of Cascade.

    A pass over halves of the key finds errors that are left with probability one half, so that a run ends
    with some about once in 2^h for h such passes; verification then ends it without a key.

    Attributes:
        name: Its name.
        source: Where it comes from.
        first: Block sizes of the first passes, for an expected error rate.
        passes: Passes in all; after the first ones, blocks hold half of the key.
        reuse: Whether an odd sub-block of an even block is searched too, not only odd blocks.
        planned: Intercept and slope, in the error rate, of an upper envelope of the efficiencies measured
            with this code for long keys at error rates up to 10 %.
    """

    name: str
    source: str
    first: Callable[[float], tuple[int, ...]]
    passes: int
    reuse: bool
    planned: tuple[float, float]

    def planned_efficiency(self, qber: float, n: int) -> float:
        """Efficiency to plan a leak budget with: the long-key envelope, and room for few errors.

        Args:
            qber: Expected error rate.
            n: Length of the key.
        """
        errors = max(n * max(qber, _LEAST_QBER), 1.0)
        return self.planned[0] + self.planned[1] * qber + 1.0 / math.sqrt(errors)

    def block_sizes(self, qber: float, n: int) -> tuple[int, ...]:
        """Block sizes of all passes.

        Args:
            qber: Expected error rate.
            n: Length of the key.

        Units:
            Bits.
        """
        half = max(1, -(-n // 2))
        first = [min(size, n) for size in self.first(max(qber, _LEAST_QBER))]
        return (*first, *(half for _ in range(self.passes - len(first))))


def _original(qber: float) -> tuple[int, ...]:
    size = math.ceil(0.73 / qber)
    return (size, 2 * size, 4 * size, 8 * size)


def _biconf(qber: float) -> tuple[int, ...]:
    size = math.ceil(0.92 / qber)
    return (size, 3 * size)


def _yan(qber: float) -> tuple[int, ...]:
    size = math.ceil(0.80 / qber)
    return (size, 5 * size)


def _option8(qber: float) -> tuple[int, ...]:
    exponent = math.log2(1.0 / qber) - 0.5
    return (1 << math.ceil(exponent), 1 << math.ceil((exponent + 12.0) / 2.0), 4096)


_ALL = (
    Schedule(
        name="original",
        source="Brassard and Salvail, EUROCRYPT '93",
        first=_original,
        passes=4,
        reuse=False,
        planned=(1.13, 0.9),
    ),
    Schedule(
        name="biconf",
        source="Sugimoto and Yamazaki, IEICE Trans. Fundam. E83-A, 1987 (2000); with cascading throughout",
        first=_biconf,
        passes=12,
        reuse=False,
        planned=(1.045, 0.4),
    ),
    Schedule(
        name="yan",
        source="Yan, Ren, Peng, Lin, Jiang, Liu, Guo, ICNC 2008",
        first=_yan,
        passes=10,
        reuse=False,
        planned=(1.042, 0.4),
    ),
    Schedule(
        name="yan-14",
        source="Block sizes of Yan et al., ICNC 2008, and four passes more, to leave errors in fewer runs",
        first=_yan,
        passes=14,
        reuse=False,
        planned=(1.042, 0.4),
    ),
    Schedule(
        name="option8",
        source="Martinez-Mateo, Pacher, Peev, Ciurana, Martin, Quantum Inf. Comput. 15, 453 (2015), option (8)",
        first=_option8,
        passes=14,
        reuse=True,
        planned=(1.032, 0.25),
    ),
)
SCHEDULES: dict[str, Schedule] = {each.name: each for each in _ALL}


def schedule(name: str) -> Schedule:
    """The schedule called ``name``.

    Raises:
        UnknownName: There is none.
    """
    if name not in SCHEDULES:
        raise UnknownName(
            "unknown schedule of Cascade", got=repr(name), expected=f"one of {', '.join(SCHEDULES)}"
        )
    return SCHEDULES[name]

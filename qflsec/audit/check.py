"""What a check is: it looks at one kind of part, and yields what it finds."""

from __future__ import annotations

import random
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from qflsec.audit.outcome import CheckRun, Figure, Finding
from qflsec.audit.parts import Part
from qflsec.base import CheckCard, numpy_stream

__all__ = ["Bench", "Check", "NotApplicable", "examined"]


class NotApplicable(Exception):
    """The check cannot say anything of this part, and why."""


@dataclass(kw_only=True)
class Bench:
    """What a check or a claim works with.

    Attributes:
        seed: The seed of the audit's own draws.
        deadline: When it must be done, by :func:`time.monotonic`.
        measured: Numbers that it takes; they are shown whether or not they are a fault.
    """

    seed: int = 0
    deadline: float = float("inf")
    measured: dict[str, Figure] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.deadline - time.monotonic()

    def seed_the_pipeline(self) -> None:
        """Seed the global generators that a pipeline may draw from, so that an audit can be repeated."""
        random.seed(self.seed)
        np.random.seed(self.seed % 2**32)  # noqa: NPY002 - it is the pipeline's
        if "torch" in sys.modules:
            sys.modules["torch"].manual_seed(self.seed)

    def rng(self, purpose: str) -> np.random.Generator:
        """The stream of one purpose."""
        return numpy_stream(self.seed, "audit", purpose)


class Check(ABC):
    """A check of one kind of part.

    Attributes:
        card: What it looks for, what a finding proves, and what it cannot show.
        looks_at: The class of parts that it is run on.
        weight: Its share of the time; most checks take a second, and one that trains takes as much as it is given.
    """

    card: ClassVar[CheckCard]
    looks_at: ClassVar[type[Part]]
    weight: ClassVar[float] = 1.0

    @abstractmethod
    def run(self, part: Any, bench: Bench) -> Iterator[Finding]:  # noqa: ANN401 - of the class that it names
        """What is wrong with a part.

        Args:
            part: Of the class :attr:`looks_at`.
            bench: Streams, the time that is left, and where measured numbers go.

        Raises:
            NotApplicable: Nothing can be said of this part.
        """


def examined(name: str, check: Check, part: Part, bench: Bench) -> CheckRun:
    """Run a check on a part.

    Args:
        name: The check's registry name.
        check: The check.
        part: The part.
        bench: What it works with.

    Raises:
        Exception: Whatever the pipeline or the check raises.
    """
    begun = time.monotonic()
    run = CheckRun(check=name, subject=part.name, state="clean")
    bench.seed_the_pipeline()
    try:
        findings = tuple(
            replace(one, severity=one.severity or check.card.severity, place=one.place or part.place)
            for one in check.run(part, bench)
        )
    except NotApplicable as reason:
        run = replace(run, state="skipped", why=str(reason))
    else:
        run = replace(run, state="found" if findings else "clean", findings=findings)
    return replace(run, measured=dict(bench.measured), seconds=time.monotonic() - begun)

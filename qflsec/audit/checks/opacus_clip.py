"""The clip of a training under Opacus: of single records, of records in a batch, and of gradients that are long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from qflsec.audit.check import Bench, Check
from qflsec.audit.checks.opacus_steps import clip_norm, set_up, step
from qflsec.audit.outcome import Finding
from qflsec.audit.parts import Opacus
from qflsec.base import CheckCard, Source, register

__all__ = ["ClipNormExceeded", "Clipping"]

_RECORDS, _FEWEST = 8, 4
_ROUNDING = 1e-4
_LONGER, _COARSE, _MOST = 4.0, 0.05, 1e5
"""How much longer than the clip norm gradients are made, what is rounding of them, and when their digits are all rounding."""


@dataclass(frozen=True, kw_only=True)
class Clipping:
    """What steps of the same records without noise say of the clip.

    Attributes:
        norm: The clip norm.
        longest: The longest sum of one record.
        forced: The same where gradients were made longer than the clip norm; 0 where no record has a gradient.
        moved: The most that the sum of a batch moves when one record is taken out; None where that cannot be compared.
        apart: How far sums of batches are from what their records add up to, likewise.
        records: How many records were tried.
        unknown: Why batches could not be compared, a sentence; empty where they were.
    """

    norm: float
    longest: float
    forced: float
    moved: float | None
    apart: float | None
    records: int
    unknown: str

    @classmethod
    def of(cls, part: Opacus) -> Clipping:
        """Try the clip of a set-up.

        Raises:
            NotApplicable: The optimiser is none of Opacus, or its loader gives no records.
        """
        steps = _Steps(part)
        n, every = len(steps), range(len(steps))
        unknown = steps.unknown
        alone = [] if steps.alone is None else [steps.sum_of([i]) for i in every]
        singles = [_norm(one) for one in alone]
        longest = max(singles, default=0.0)
        forced, apart, moved = 0.0, None, None
        times = _LONGER * steps.norm / longest if longest > 0 else 0.0
        stretched = [steps.sum_of([i], times) for i in every] if times else []
        forced = max(map(_norm, stretched), default=0.0)
        if not unknown and alone and not steps.draws:
            whole = steps.sum_of(every)
            apart = _norm(whole - sum(alone))
            moved = max(_norm(whole - steps.sum_of([i for i in every if i != out])) for out in every)
            if 0 < times < _MOST:
                coarse = _norm(steps.sum_of(every, times) - sum(stretched))
                apart = max(apart, coarse if coarse > max(_COARSE * steps.norm * n, 2 * times * apart) else 0)
        elif not unknown:
            apart = steps.crossed()
        return cls(
            norm=steps.norm, longest=longest, forced=forced, moved=moved, apart=apart, records=n,
            unknown=unknown,
        )  # fmt: skip

    def findings(self) -> Iterator[Finding]:
        """What is wrong, the first fault alone."""
        most = self.norm * (1 + _ROUNDING)
        evidence = {"clip_norm": self.norm, "records": self.records}
        if self.longest > most:
            yield Finding(
                what=f"one record releases a gradient of length {self.longest:.4g} under a clip norm of {self.norm:.4g}",
                evidence={"released": self.longest, **evidence},
            )
        elif self.moved is not None and self.moved > most:
            yield Finding(
                what=f"one record taken out of a batch of {self.records} moves the sum by {self.moved:.4g} under a clip norm of "
                f"{self.norm:.4g}",
                evidence={"moved": self.moved, **evidence},
            )
        elif self.apart is not None and self.apart > _ROUNDING * self.norm * self.records:
            yield Finding(
                what=f"the sum of a batch is not what its records add up to, by {self.apart:.4g} under a clip norm of {self.norm:.4g}: "
                "records change each other's part",
                evidence={"apart": self.apart, **evidence},
            )
        elif self.forced > most:
            yield Finding(
                what=f"gradients that are made {_LONGER:g} clip norms long are released with a length of {self.forced / self.norm:.4g} clip "
                "norms: nothing cuts them",
                evidence={"released": self.forced, **evidence},
            )


class _Steps:
    """Sums of clipped gradients of one set-up, of whichever of some records; its weights do not move.

    Attributes:
        norm: The clip norm.
        alone: The sum of the first record; None where the module does not take one record.
        draws: Whether sums change with torch's generator.
        unknown: Why sums cannot be compared; empty where they can.
    """

    def __init__(self, part: Opacus) -> None:
        self._part = part
        self._module, self._optimiser, self._x, self._y = set_up(part, _RECORDS)
        self._optimiser.noise_multiplier = 0.0
        self.norm = clip_norm(self._optimiser)
        try:
            self.alone: Any = self.sum_of([0])
        except ValueError:  # batch normalisation has no mean of one record
            self.alone = None
        every = range(len(self))
        if len(self) == 1:
            self.draws, self.unknown = False, "the loader gave one record"
            return
        one, two, other = self.sum_of(every), self.sum_of(every), self.sum_of(every, seed=1)
        slack = _ROUNDING * self.norm
        self.draws, self.unknown = _norm(one - other) > slack, ""
        if _norm(one - two) > slack:
            self.unknown = "two equal steps differ by other draws than torch's"
        elif (self.draws or self.alone is None) and len(self) < _FEWEST:
            self.unknown = (
                f"the loader gave {len(self)} records, and {_FEWEST} are needed of a module that draws"
            )

    def __len__(self) -> int:
        return len(self._x)

    def sum_of(self, kept: Sequence[int], times: float = 1.0, seed: int = 0) -> Any:  # noqa: ANN401 - a tensor
        """The sum of the clipped gradients of some records, with torch's generator in one state."""
        import torch

        rows = list(kept)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            step(self._part, self._module, self._optimiser, self._x[rows], self._y[rows], times=times)
        found = [getattr(p, "summed_grad", None) for p in self._module.parameters()]
        return torch.cat([one.detach().double().flatten() for one in found if one is not None])

    def crossed(self) -> float:
        """How far sums of batches are from what they would be if each half counted for itself.

        All batches have one size, so that draws of torch's generator fall on the same places.
        """
        size = len(self) // 2
        one, two, half = list(range(size)), list(range(size, 2 * size)), size // 2
        mixed = self.sum_of(one[:half] + two[half:]) + self.sum_of(two[:half] + one[half:])
        return _norm(self.sum_of(one) + self.sum_of(two) - mixed)


def _norm(value: Any) -> float:  # noqa: ANN401
    return float(value.norm())


@register("check", "clip-norm-exceeded")
class ClipNormExceeded(Check):
    """What one record does to the sum of a step without noise, against the clip norm."""

    looks_at = Opacus
    weight = 4.0
    card = CheckCard(
        name="clip-norm-exceeded",
        idea="Make steps without noise with the pipeline's own optimiser: of single records, of a batch, of the batch without each record, "
        "and with gradients made longer than the clip norm.",
        source=Source(
            paper="Abadi et al., Deep learning with differential privacy, arXiv:1607.00133",
            year=2016,
            where="algorithm 1",
        ),
        title="the clip norm does not bound what one record does",
        severity="error",
        proves="One record's sum, or what it moves a batch's sum by, is longer than the clip norm that the accountant uses; or a batch's "
        "sum is not what its records add up to; or a long gradient is not cut.",
        cannot=(
            "It tries up to eight records with the first weights: others may exceed the clip norm where these do not.",
            "Where a module draws numbers, as dropout does, halves of batches of one size are exchanged, and none is made smaller.",
            "Gradients that are bounded otherwise than by the optimiser's clip are taken for unclipped ones.",
        ),
        consequence="The noise is scaled to a smaller sensitivity than the true one: the reported epsilon does not hold.",
        remedy="Check the module's per-sample gradients, let no layer mix the records of a batch, and clip over all parameters at once.",
    )

    def run(self, part: Opacus, bench: Bench) -> Iterator[Finding]:
        """The first of the faults."""
        seen = Clipping.of(part)
        bench.measured.update(
            {"longest release": seen.longest, "clip norm": seen.norm, "records": seen.records}
        )
        if seen.forced:
            bench.measured["longest release of long gradients"] = seen.forced
        if seen.moved is not None:
            bench.measured["one record of a batch moves"] = seen.moved
        if seen.apart is not None:
            bench.measured["a batch and its records differ by"] = seen.apart
        if seen.unknown:
            bench.measured["batches"] = f"not compared: {seen.unknown}"
        yield from seen.findings()

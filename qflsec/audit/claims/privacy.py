"""The claim of differential privacy, of a set-up of Opacus: what the accountant says of what is really done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

from qflsec.audit.accountants import above, epsilons
from qflsec.audit.check import Bench, NotApplicable
from qflsec.audit.checks.opacus_clip import Clipping
from qflsec.audit.checks.opacus_steps import FixedBatches, NoiseOnSomeParameters, RepeatableNoise
from qflsec.audit.claim import Claim, Ruling
from qflsec.audit.parts import Opacus, Part
from qflsec.base import ConfigError, register

__all__ = ["OpacusPrivacy"]


@register("claim", "opacus-dp")
@dataclass(frozen=True, kw_only=True)
class OpacusPrivacy(Claim):
    """A training under Opacus is (epsilon, delta)-DP for one record, added or removed.

    Attributes:
        epsilon: The claimed epsilon.
        delta: The claimed delta.
        epochs: How often the loader is run through, in all rounds together.
        runs: How many trainings on the same records are released, as in a search for settings.
    """

    kind: ClassVar[str] = "opacus-dp"
    epsilon: float
    delta: float
    epochs: int
    runs: int = 1

    def __post_init__(self) -> None:
        if not (self.epsilon > 0 and 0 < self.delta < 1 and self.epochs >= 1 and self.runs >= 1):
            raise ConfigError(
                "a claim of kind 'opacus-dp'",
                got=f"epsilon = {self.epsilon}, delta = {self.delta}, epochs = {self.epochs}, runs = {self.runs}",
                expected="epsilon above 0, delta between 0 and 1, at least one epoch and one run",
            )

    @property
    def sentence(self) -> str:
        """The claim."""
        runs = f", {self.runs} trainings together" if self.runs > 1 else ""
        return f"{self.epochs} epochs are ({self.epsilon:g}, {self.delta:g})-DP for a record that is added or removed{runs}"

    def test(self, parts: Sequence[Part], bench: Bench) -> Ruling:
        """Try the mechanism, then account for what it really does."""
        setup = self.about(parts, Opacus)
        if isinstance(setup, Ruling):
            return setup
        try:
            clipping = Clipping.of(setup)
            tried = (
                check.run(setup, bench)
                for check in (NoiseOnSomeParameters(), FixedBatches(), RepeatableNoise())
            )
            for finding in chain(clipping.findings(), *tried):
                if finding.severity != "warning":
                    return Ruling(
                        judgement="refuted",
                        why=f"{finding.what}: no epsilon follows",
                        evidence=finding.evidence,
                    )
            return self._accounted(setup, clipping)
        except NotApplicable as reason:
            return Ruling(judgement="not tested", why=str(reason))

    def _accounted(self, setup: Opacus, clipping: Clipping) -> Ruling:
        _, optimiser, loader = setup.make()
        sampler: Any = getattr(loader, "batch_sampler", None)
        if not hasattr(sampler, "sample_rate"):
            raise NotApplicable("nothing says at which rate the loader draws records")
        rate = float(sampler.sample_rate)
        steps = self.epochs * len(loader) * self.runs
        found = epsilons([(float(optimiser.noise_multiplier), rate, steps)], self.delta)
        best = min(found.values())
        done = f"noise multiplier {optimiser.noise_multiplier:.4g}, sampling rate {rate:.4g}, {steps} steps"
        evidence = {
            **found,
            "noise_multiplier": float(optimiser.noise_multiplier),
            "rate": rate,
            "steps": steps,
        }
        said = above(best, self.epsilon, done, evidence)
        if said is not None:
            return said
        unknown = [
            *(
                [f"how records change each other's gradients ({clipping.unknown})"]
                if clipping.unknown
                else []
            ),
            *(["what one record is clipped to (no record has a gradient)"] if not clipping.forced else []),
            *([f"how {type(sampler).__name__} draws records"] if not _poisson(sampler) else []),
        ]
        if unknown:
            return Ruling(
                judgement="not refuted",
                why=f"accountants give {best:.4g} for {done}",
                ceiling=f"not proved, because it could not be seen {' or '.join(unknown)}",
                evidence=evidence,
            )
        return Ruling(
            judgement="proved by check",
            why=f"accountants give {best:.4g} for {done}; its conditions, clip, noise and sampling, were tried on real steps",
            ceiling=f"the conditions are samples: {clipping.records} records with the first weights, alone and in batches, the spread of "
            "the noise to some hundredths, and the kind of the sampler; settings that change in the training, and what leaves the pipeline "
            "otherwise, are not covered",
            evidence=evidence,
        )


def _poisson(sampler: Any) -> bool:  # noqa: ANN401
    """Whether it is Opacus's own sampler, which draws each record by its own coin, and no class derived from it."""
    from opacus.utils.uniform_sampler import UniformWithReplacementSampler

    return type(sampler) is UniformWithReplacementSampler

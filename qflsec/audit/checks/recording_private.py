"""Training under Opacus in a recorded app: what each step clipped, added and drew, and what was said of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from qflsec.audit.accountants import SLACK, epsilons
from qflsec.audit.check import Bench, Check, NotApplicable
from qflsec.audit.flower.recording import PrivateStep, Recording
from qflsec.audit.outcome import Finding
from qflsec.base import CheckCard, ConfigError, Source, register

__all__ = [
    "RecordedBatches",
    "RecordedClip",
    "RecordedEpsilon",
    "RecordedNoise",
    "RecordedPerSample",
    "accounted",
    "private_steps",
]

_ABADI = Source(
    paper="Abadi et al., Deep learning with differential privacy, arXiv:1607.00133",
    year=2016,
    where="algorithm 1",
)
_ROUNDING = 1e-4
_RECORDS = 4
_CHANCE = 1e-6


def private_steps(part: Recording) -> dict[int, list[PrivateStep]]:
    """The steps that Opacus made, by client, over all rounds.

    Raises:
        NotApplicable: No client trains under Opacus.
    """
    found = {node: [step for _, seen in part.steps(node) for step in seen.private] for node in part.nodes}
    found = {node: steps for node, steps in found.items() if steps}
    if not found:
        raise NotApplicable("no client trains under Opacus")
    return found


def accounted(steps: Sequence[PrivateStep], delta: float, times: float = 1.0) -> dict[str, float]:
    """What accountants give for steps, each by its own noise multiplier and rate.

    Args:
        steps: Steps of one client, in all rounds together.
        delta: The delta.
        times: How often each was made.

    Raises:
        NotApplicable: No engine said at which rate batches are drawn.
    """
    counts: dict[tuple[float, float], int] = {}
    for step in steps:
        if step.rate is None:
            raise NotApplicable(
                "the optimiser belongs to no privacy engine, so that the rate of sampling is not known"
            )
        counts[step.multiplier, step.rate] = counts.get((step.multiplier, step.rate), 0) + 1
    return epsilons([(*way, math.ceil(n * times)) for way, n in sorted(counts.items())], delta)


@register("check", "recorded-per-sample-gradients")
class RecordedPerSample(Check):
    """Whether Opacus computes the gradients of single records of the app's module rightly."""

    looks_at = Recording
    weight = 4.0
    card = CheckCard(
        name="recorded-per-sample-gradients",
        idea="Compare per-sample gradients of the app's module on its own records with a plain loop, in each mode of Opacus.",
        source=Source(paper="Yousefpour et al., Opacus, arXiv:2109.12298", year=2021, where="section 3"),
        title="Opacus computes wrong per-sample gradients of the app's module",
        severity="error",
        proves="In the named mode gradients differ from a loop over the records, or one record exceeds the clip norm.",
        cannot=("Modules that draw other than from torch's generator cannot be compared.",),
        consequence="Layers get noise and no training, or the clip norm does not bind: the reported epsilon is then too small.",
        remedy="Put the circuit into qflsec.models.QuantumLayer, which reads its registered weights.",
    )

    def run(self, part: Recording, bench: Bench) -> Iterator[Finding]:
        """What is wrong in each mode."""
        import numpy as np
        import torch

        from qflsec.models import check_per_sample_gradients

        private_steps(part)
        if part.module is None:
            raise NotApplicable("no torch module has the arrays of the messages")
        rows = [row for node in part.nodes for row in sorted(part.trained_on(node)) if row in part.labels][
            :_RECORDS
        ]
        if len(rows) < 2 or any(part.labels[row] != round(part.labels[row]) for row in rows):
            raise NotApplicable("fewer than two training records with a class are known")
        x = torch.from_numpy(np.stack([part.features[row] for row in rows]))
        y = torch.tensor([round(part.labels[row]) for row in rows])
        try:
            report = check_per_sample_gradients(part.module, x, y)
        except (ConfigError, RuntimeError, ValueError, IndexError) as error:
            raise NotApplicable(f"cross entropy cannot be taken of the module: {error}") from error
        for mode in report.modes:
            bench.measured[f"{mode.mode}: largest released norm"] = mode.released_norm
            if mode.problems:
                yield Finding(
                    what=f"in mode {mode.mode}: {'; '.join(mode.problems)}",
                    place=part.places.get("train"),
                    evidence={"released_norm": mode.released_norm, "clip_norm": mode.clip_norm},
                    reproduction="qflsec.models.check_per_sample_gradients(module, x, y)",
                )


@register("check", "recorded-clip")
class RecordedClip(Check):
    """The length of each clipped sum against what its records allow."""

    looks_at = Recording
    card = CheckCard(
        name="recorded-clip",
        idea="Compare the clipped sum of each real step with the sum of the clipped lengths of its records' gradients.",
        source=_ABADI,
        title="a client's records move its step by more than the clip norm",
        severity="error",
        proves="A sum before the noise was longer than its records' gradients, each cut to the clip norm, can add up to.",
        cannot=(
            "Gradients that point apart can be clipped wrongly and still add up to less.",
            "Batches that came in pieces are not looked at.",
        ),
        consequence="The noise is scaled to a smaller sensitivity than the true one: the reported epsilon does not hold.",
        remedy="Check the module's per-sample gradients, and clip over all parameters at once.",
    )

    def run(self, part: Recording, bench: Bench) -> Iterator[Finding]:
        """The step that exceeds the most."""
        steps = [
            step for held in private_steps(part).values() for step in held if math.isfinite(step.allowed)
        ]
        if not steps:
            raise NotApplicable("every batch came in pieces")
        worst = max(steps, key=lambda step: step.summed - step.allowed)
        bench.measured.update(
            {"longest sum": worst.summed, "its records allow": worst.allowed, "steps": len(steps)}
        )
        if worst.summed > worst.allowed + _ROUNDING * max(worst.clip, worst.allowed):
            over = sum(one.summed > one.allowed + _ROUNDING * max(one.clip, one.allowed) for one in steps)
            yield Finding(
                what=f"{over} of {len(steps)} steps exceed their clip; one of {worst.records} records under a clip norm of "
                f"{worst.clip:.4g} sums to {worst.summed:.4g}, and at most {worst.allowed:.4g} is possible",
                place=part.places.get("train"),
                evidence={
                    "summed": worst.summed,
                    "allowed": worst.allowed,
                    "clip_norm": worst.clip,
                    "steps": over,
                },
            )


@register("check", "recorded-noise")
class RecordedNoise(Check):
    """The noise of each real step against what the accountant is told."""

    looks_at = Recording
    card = CheckCard(
        name="recorded-noise",
        idea="Subtract the clipped sum of each real step from the gradient that moved the model.",
        source=_ABADI,
        title="a client's steps get no noise, or less than is accounted",
        severity="error",
        proves="Parameters got no noise, or the noise of all steps together has a spread far below that of the account.",
        cannot=("Noise that is drawn again in each round is looked for in the code alone.",),
        consequence="What moves the model is nearly in the clear: the reported epsilon does not hold.",
        remedy="Give all trained parameters to the one DPOptimizer, and leave its noise as it is.",
    )

    def run(self, part: Recording, bench: Bench) -> Iterator[Finding]:
        """The worst client."""
        from scipy import stats

        for node, steps in private_steps(part).items():
            silent = [step for step in steps if step.without or step.multiplier <= 0]
            if silent:
                yield Finding(
                    what=f"in {len(silent)} of {len(steps)} steps of client {node} parameters get no noise, "
                    f"{silent[0].without} of them in the first",
                    place=part.places.get("train"),
                    evidence={"steps": len(silent), "of": len(steps), "parameters": silent[0].without},
                )
                return
            values = sum(step.values for step in steps)
            units = sum(step.squares / (step.multiplier * step.clip) ** 2 for step in steps)
            spread = math.sqrt(units / values)
            bench.measured[f"spread of the noise of client {node}, in units of the account"] = spread
            # the sum of n squares of normal values has a chi-squared law; all clients together err in one case of a million
            if units < stats.chi2.ppf(_CHANCE / len(private_steps(part)), values):
                yield Finding(
                    what=f"the noise of client {node} has {spread:.3g} of the spread that is accounted, over {len(steps)} steps",
                    place=part.places.get("train"),
                    evidence={"spread": spread, "values": values, "steps": len(steps)},
                )
                return


@register("check", "recorded-batches")
class RecordedBatches(Check):
    """Batches of one size under an account of Poisson sampling."""

    looks_at = Recording
    card = CheckCard(
        name="recorded-batches",
        idea="Compare the sizes of the batches of each client's steps with those that Poisson sampling gives.",
        source=Source(
            paper="Chua et al., How private are DP-SGD implementations?, arXiv:2403.17673",
            year=2024,
            where="section 1",
        ),
        title="a client's batches are not drawn as the account says",
        severity="error",
        proves="The engine's loader does not draw so, or all sizes are equal, which chance makes in less than one of a million.",
        cannot=("Sizes that vary may still not come from a coin for each record.",),
        consequence="The amplification by sampling that the accountant subtracts is not proved for these batches.",
        remedy="Use the loader that PrivacyEngine.make_private gives, with poisson_sampling=True.",
    )

    def run(self, part: Recording, bench: Bench) -> Iterator[Finding]:
        """The first client whose batches are fixed."""
        known = {node: [one for one in steps if one.rate] for node, steps in private_steps(part).items()}
        known = {node: steps for node, steps in known.items() if steps}
        if not known:
            raise NotApplicable("no privacy engine says at which rate batches are drawn")
        for node, steps in known.items():
            sizes = [step.records for step in steps]
            bench.measured[f"sizes of client {node}"] = ", ".join(map(str, sizes[:8]))
            if any(step.poisson is False and (step.rate or 1.0) < 1 for step in steps) or _too_even(steps):
                yield Finding(
                    what=f"client {node} makes {len(steps)} steps with batches such as {sizes[0]} records of {steps[0].dataset}, not drawn "
                    "by Poisson sampling",
                    place=part.places.get("train"),
                    evidence={"steps": len(steps), "size": sizes[0]},
                )
                return


def _too_even(steps: Sequence[PrivateStep]) -> bool:
    """Whether all batches have one size, which sampling at their rate makes in less than one case of a million."""
    from scipy import stats

    size, rate = steps[0].records, steps[0].rate or 1.0
    if rate >= 1 or not steps[0].dataset or {step.records for step in steps} != {size}:
        return False
    return float(stats.binom.pmf(size, steps[0].dataset, rate)) ** len(steps) < _CHANCE


@register("check", "recorded-epsilon")
class RecordedEpsilon(Check):
    """Each epsilon that an engine told against all that its client did until then."""

    looks_at = Recording
    weight = 2.0
    card = CheckCard(
        name="recorded-epsilon",
        idea="Account for all steps that a client made until its engine told an epsilon, in earlier rounds too.",
        source=Source(
            paper="Dwork, Rothblum, Vadhan, Boosting and differential privacy",
            year=2010,
            where="theorem III.3, composition",
        ),
        title="the epsilon that a client reports is not that of what it did",
        severity="error",
        proves="The accountants of Opacus give a larger epsilon for the steps that were seen.",
        cannot=(
            "An epsilon that is computed otherwise than by the engine's get_epsilon is not seen; claims are tested as such.",
            "The app ran for few rounds: its epsilon grows with each further one.",
        ),
        consequence="The reported epsilon is that of one round; that of the training is larger, and grows without being told.",
        remedy="Keep one engine per client over the rounds, or add up the rounds' history in one accountant.",
    )

    def run(self, part: Recording, bench: Bench) -> Iterator[Finding]:
        """The last epsilon of the first client that is told too little."""
        private_steps(part)
        asked = 0
        for node in part.nodes:
            done: list[PrivateStep] = []
            worst: dict[str, float] = {}
            for index, seen in part.steps(node):
                done += seen.private
                for epsilon, delta in seen.told[-1:]:
                    asked += 1
                    least = min(accounted(done, delta).values())
                    bench.measured[f"epsilon that client {node} tells in round {index}"] = epsilon
                    if least > SLACK * epsilon:
                        worst = {
                            "told": epsilon,
                            "accounted": least,
                            "delta": delta,
                            "round": index,
                            "steps": len(done),
                        }
            if worst:
                yield _understated(part, node, worst)
                return
        if not asked:
            raise NotApplicable("no engine is asked for its epsilon")


def _understated(part: Recording, node: int, seen: Mapping[str, float]) -> Finding:
    return Finding(
        what=f"client {node} tells epsilon {seen['told']:.4g} at delta {seen['delta']:g} in round {seen['round']:g}; accountants give "
        f"{seen['accounted']:.4g} or more for its {seen['steps']:g} steps until then",
        place=part.places.get("train"),
        evidence=dict(seen),
    )

"""A training under Opacus: one real step, with and without its noise, and the batches that its loader draws."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any

from qflsec.audit.check import Bench, Check, NotApplicable
from qflsec.audit.outcome import Finding
from qflsec.audit.parts import Opacus
from qflsec.base import CheckCard, Source, register

__all__ = [
    "FixedBatches",
    "NoiseOnSomeParameters",
    "RepeatableNoise",
    "clip_norm",
    "noises",
    "set_up",
    "step",
]

_ABADI = Source(
    paper="Abadi et al., Deep learning with differential privacy, arXiv:1607.00133",
    year=2016,
    where="algorithm 1",
)
_RECORDS = 4
_ROUNDING = 1e-4
_VALUES, _STEPS, _SHARE = 2048, 128, 0.3
_CHANCE = 1e-6
_BATCHES = 20
_REPEATS, _REPEATED = 8, 1e-3
"""Steps, and a part of the spread: independent noise of eight steps is nowhere farther apart in less than one case of 1e20."""


def set_up(part: Opacus, records: int) -> tuple[Any, Any, Any, Any]:
    """Module, optimiser, and the first records that the loader gives, of several batches where one has too few.

    Args:
        part: The set-up.
        records: How many records at most.

    Raises:
        NotApplicable: The optimiser is none of Opacus, or its loader gives no records.
    """
    import torch

    module, optimiser, loader = part.make()
    if not hasattr(optimiser, "clip_and_accumulate"):
        raise NotApplicable(f"the optimiser is no DPOptimizer but {type(optimiser).__name__}")
    drawn: list[Any] = []
    for batch in islice(loader, 64):
        if len(batch[0]):
            drawn.append(batch)
        if sum(len(one[0]) for one in drawn) >= records:
            break
    if not drawn:
        raise NotApplicable("the loader gives no records")
    module.train()
    x, y = (torch.cat([one[i] for one in drawn])[:records] for i in (0, 1))
    return module, optimiser, x, y


def step(part: Opacus, module: Any, optimiser: Any, x: Any, y: Any, *, times: float = 1.0) -> None:  # noqa: ANN401
    """Backward pass, clip and noise of some records; no weight moves.

    Args:
        part: The set-up.
        module: Its module.
        optimiser: Its optimiser.
        x: Features.
        y: Labels.
        times: What the loss is multiplied with, and so the gradients before the clip.
    """
    import torch

    crossed = isinstance(part.loss, torch.nn.CrossEntropyLoss)
    optimiser.zero_grad()
    loss = part.loss(module(x), y.to(torch.long) if crossed else y)
    if crossed and part.loss.reduction == "mean" and getattr(optimiser, "loss_reduction", "mean") == "sum":
        loss = loss * len(x)  # the pipeline names no loss, or the mean: its optimiser takes sums
    (loss * times).backward()
    optimiser.pre_step()


@register("check", "noise-on-some-parameters")
class NoiseOnSomeParameters(Check):
    """Parameters that are released without noise, or with less than the optimiser says."""

    looks_at = Opacus
    weight = 4.0
    card = CheckCard(
        name="noise-on-some-parameters",
        idea="Make real steps until two thousand values of noise are drawn, and compare each parameter's gradient with its clipped sum.",
        source=_ABADI,
        title="parameters get no noise, or less than is accounted",
        severity="error",
        proves="The difference of gradient and clipped sum is zero, or its spread is below noise multiplier times clip norm; normal noise "
        "of that spread is taken for less in one of a million audits.",
        cannot=(
            "A spread that is too small by less than a tenth is not told from chance; by more, where 128 steps draw fewer values.",
            "Only spreads are compared: noise of one parameter or step that tells that of another is not seen.",
        ),
        consequence="Those parameters are released nearly in the clear: the reported epsilon does not hold.",
        remedy="Give all trained parameters to the one DPOptimizer, and leave its noise as it is.",
    )

    def run(self, part: Opacus, bench: Bench) -> Iterator[Finding]:
        """Each parameter's noise, and that of all together."""
        import numpy as np
        from scipy import stats

        module, optimiser, x, y = set_up(part, _RECORDS)
        if optimiser.noise_multiplier <= 0:
            yield Finding(what="the noise multiplier is 0", evidence={"noise_multiplier": 0.0})
            return
        sigma = optimiser.noise_multiplier * clip_norm(optimiser)
        given = {id(p) for group in optimiser.param_groups for p in group["params"]}
        outside = [name for name, p in module.named_parameters() if p.requires_grad and id(p) not in given]
        if outside:
            yield Finding(
                what=f"{', '.join(outside[:3])} can be trained and is not the optimiser's",
                evidence={"parameters": len(outside)},
                severity="warning",
            )
        drawn: dict[str, list[Any]] = {}
        begun, allowed = time.monotonic(), _SHARE * bench.left
        for _ in range(_STEPS):
            step(part, module, optimiser, x, y)
            for name, value in noises(module, optimiser).items():
                drawn.setdefault(name, []).append(value)
            if sum(map(np.size, chain(*drawn.values()))) >= _VALUES or time.monotonic() - begun > allowed:
                break
        noise = {name: np.concatenate(values) for name, values in drawn.items()}
        without = [name for name, value in noise.items() if not np.abs(value).max() > _ROUNDING * sigma]
        if without:
            yield Finding(
                what=f"{', '.join(without[:3])} gets no noise", evidence={"parameters": len(without)}
            )
            return
        values = np.concatenate(list(noise.values())) if noise else np.zeros(0)
        spread = _spread(values)
        bench.measured.update({"spread of the noise": spread, "accounted": sigma, "values": values.size})
        if not values.size:
            yield Finding(what="no parameter gets noise")
            return
        # the sum of n squares of normal values has a chi-squared law; all comparisons together err in one case of a million
        chance = _CHANCE / (1 + len(noise))
        for name, value in {"all parameters together": values, **noise}.items():
            if float(np.sum((value / sigma) ** 2)) < stats.chi2.ppf(chance, value.size):
                yield Finding(
                    what=f"the noise of {name} has a spread of {_spread(value):.3g} in place of {sigma:.3g}",
                    evidence={"spread": _spread(value), "accounted": sigma, "values": value.size},
                )
                return


def noises(module: Any, optimiser: Any) -> dict[str, Any]:  # noqa: ANN401
    """What a step added to the clipped sum of each of the optimiser's parameters; 0 where nothing was clipped."""
    import numpy as np

    given = {id(p) for group in optimiser.param_groups for p in group["params"]}
    found = {}
    for name, p in module.named_parameters():
        if not p.requires_grad or p.grad is None or id(p) not in given:
            continue
        if getattr(p, "summed_grad", None) is None:
            found[name] = np.zeros(p.numel())
            continue
        added = p.grad * _scale(optimiser) - p.summed_grad.view_as(p.grad)
        found[name] = added.detach().flatten().double().numpy()
    return found


def _spread(values: Any) -> float:  # noqa: ANN401
    return math.sqrt(float((values**2).mean())) if values.size else 0.0


@register("check", "fixed-batches")
class FixedBatches(Check):
    """Batches that are not drawn by chance as the account says: of one size, at another rate, or the same every time."""

    looks_at = Opacus
    card = CheckCard(
        name="fixed-batches",
        idea="Draw batches from the loader, look at their sizes, and draw them again in a second set-up.",
        source=Source(
            paper="Chua et al., How private are DP-SGD implementations?, arXiv:2403.17673",
            year=2024,
            where="section 1",
        ),
        title="batches are not drawn as the account says",
        severity="error",
        proves="All batches have the same size, as no Poisson sampling gives them; or their sizes do not fit the sampler's own rate, which "
        "chance makes in one of a million audits; or two set-ups draw the same batches from generators in different states.",
        cannot=("A loader whose sizes fit its rate may still not draw each record by its own coin.",),
        consequence="The amplification by sampling that the accountant subtracts is not proved for these batches.",
        remedy="Use the loader that PrivacyEngine.make_private gives, with poisson_sampling=True, and leave its generator unseeded.",
    )

    def run(self, part: Opacus, bench: Bench) -> Iterator[Finding]:
        """Whether sizes differ and fit the rate, and whether two set-ups draw alike."""
        from scipy import stats

        _, _, loader = part.make()
        sampler = getattr(loader, "batch_sampler", None)
        bench.measured["sampler"] = type(sampler).__name__
        if not type(sampler).__module__.startswith("opacus."):
            sizes = [len(batch[0]) for batch in islice(loader, _BATCHES)]
            bench.measured["sizes"] = ", ".join(map(str, sizes[:8]))
            full = sizes[:-1] if len(sizes) > 1 else sizes
            if len(full) > 0 and len(set(full)) == 1:
                yield Finding(
                    what=f"{len(sizes)} batches of {full[0]} records, none drawn by Poisson sampling"
                )
                return
            rate = getattr(sampler, "sample_rate", None)
            held = len(loader.dataset) if hasattr(loader, "dataset") else 0
            if rate is not None and held and sizes:
                fits = stats.binomtest(sum(sizes), held * len(sizes), float(rate)).pvalue
                bench.measured["rate of the batches"] = sum(sizes) / (held * len(sizes))
                if fits < _CHANCE:
                    yield Finding(
                        what=f"{len(sizes)} batches hold {sum(sizes)} records in all; at the sampler's rate of {rate:.4g} they would hold "
                        f"{held * len(sizes) * rate:.4g}",
                        evidence={"records": sum(sizes), "rate": float(rate), "batches": len(sizes)},
                    )
                    return
        first, second = (_first_batches(part, entropy) for entropy in (1, 2))
        held = len(loader.dataset) * len(first) if hasattr(loader, "dataset") else 0
        if first == second and _likelihood(sum(map(len, first)), held) < _CHANCE:
            yield Finding(
                what="two set-ups draw the same batches: who has the code knows which records each step used"
            )


def _first_batches(part: Opacus, entropy: int) -> list[list[int]]:
    """The records of the first batches, by their numbers, with all generators in a state of ours before the set-up."""
    Bench(seed=entropy).seed_the_pipeline()
    _, _, loader = part.make()
    try:
        return [list(map(int, batch)) for batch in islice(loader.batch_sampler or (), _BATCHES)]
    except (AttributeError, TypeError, ValueError):  # no batches, or none of numbers
        return []


def _likelihood(drawn: int, of: int) -> float:
    """How likely coins that fall for so many of so many records draw just these once more; 1 where there is no choice."""
    if not 0 < drawn < of:
        return 1.0
    rate = drawn / of
    return math.exp(drawn * math.log(rate) + (of - drawn) * math.log(1 - rate))


@register("check", "repeatable-noise")
class RepeatableNoise(Check):
    """The same noise in two set-ups."""

    looks_at = Opacus
    weight = 2.0
    card = CheckCard(
        name="repeatable-noise",
        idea="Make the set-up twice, and twice more out of files that are imported anew, and compare the noise; and that of all steps of one.",
        source=Source(
            paper="Garfinkel, Leclerc, Randomness concerns when deploying differential privacy, arXiv:2009.03777",
            year=2020,
            where="section 3",
        ),
        title="the noise can be drawn again",
        severity="error",
        proves="Two set-ups drew the same noise, of one import or of two from generators in different states, or all steps of one did.",
        cannot=(
            "A seed that is drawn from few values is not told from a good one, and one of the clock may be taken for a constant.",
            "The pipeline's own files are imported anew and libraries are not: a seed that a library sets when it is imported is not seen.",
        ),
        consequence="Who has the code takes the noise off: there is no differential privacy.",
        remedy="Leave the generator of the noise unseeded, also at the top of the file, or use secure_mode of the privacy engine.",
    )

    def run(self, part: Opacus, bench: Bench) -> Iterator[Finding]:
        """Whether the noises are equal."""
        drawn = [_first_noise(part.make, entropy) for entropy in (1, 2)]
        bench.measured["difference"] = float((drawn[0] - drawn[1]).abs().max())
        if drawn[0].equal(drawn[1]):
            yield Finding(what="two set-ups draw the same noise")
            return
        (first, sigma), (second, _) = (_added(part, entropy) for entropy in (1, 2))
        if float(abs(first - second).max()) < _REPEATED * sigma:
            yield Finding(what="the steps of two set-ups add the same noise")
            return
        if float(abs(first[1:] - first[0]).max()) < _REPEATED * sigma:
            yield Finding(what="every step adds the same noise: the difference of two has none")
            return
        if part.anew is None:
            return
        try:
            anew = [_first_noise(part.anew, entropy) for entropy in (1, 2)]
        except Exception as error:
            msg = f"whether importing fixes the noise is not known: imported again, {type(error).__name__}: {error}"
            raise NotApplicable(msg) from error
        bench.measured["difference of imports"] = float((anew[0] - anew[1]).abs().max())
        if anew[0].equal(anew[1]):
            yield Finding(what="importing the file sets the seed: every process draws the same noise")


def _first_noise(make: Callable[[], tuple[Any, Any, Any]], entropy: int) -> Any:  # noqa: ANN401 - a tensor
    """What a set-up's generator gives first, with all generators in a state of ours before it is made."""
    import torch

    Bench(seed=entropy).seed_the_pipeline()
    _, optimiser, _ = make()
    return torch.randn(16, generator=getattr(optimiser, "generator", None))


def _added(part: Opacus, entropy: int) -> tuple[Any, float]:
    """The noise of real steps of a new set-up and its spread, with all generators in a state of ours before it is made.

    Shapes:
        returns: ``(steps, values)``
    """
    import numpy as np

    Bench(seed=entropy).seed_the_pipeline()
    module, optimiser, x, y = set_up(part, 1)
    sigma = float(optimiser.noise_multiplier) * clip_norm(optimiser)
    drawn = []
    for _ in range(_REPEATS):
        step(part, module, optimiser, x, y)
        drawn.append(np.concatenate(list(noises(module, optimiser).values()) or [np.zeros(0)]))
    if not sigma > 0 or not drawn[0].size:
        raise NotApplicable("the steps add no noise")
    return np.stack(drawn), sigma


def clip_norm(optimiser: Any) -> float:  # noqa: ANN401 - of Opacus
    """The most that the optimiser says that one record's gradient is long."""
    norm = optimiser.max_grad_norm
    return math.sqrt(sum(one**2 for one in norm)) if isinstance(norm, list | tuple) else float(norm)


def _scale(optimiser: Any) -> float:  # noqa: ANN401
    """What the optimiser divides by after the noise."""
    mean = getattr(optimiser, "loss_reduction", "mean") == "mean"
    return float(optimiser.expected_batch_size * optimiser.accumulated_iterations) if mean else 1.0

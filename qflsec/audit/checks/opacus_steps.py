"""A training under Opacus: one real step, with and without its noise, and the batches that its loader draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from qflsec.audit.check import Bench, Check, NotApplicable
from qflsec.audit.outcome import Finding
from qflsec.audit.parts import Opacus
from qflsec.base import CheckCard, Source, register

__all__ = ["ClipNormExceeded", "FixedBatches", "NoiseOnSomeParameters", "RepeatableNoise", "one_step"]

_ABADI = Source(
    paper="Abadi et al., Deep learning with differential privacy, arXiv:1607.00133",
    year=2016,
    where="algorithm 1",
)
_RECORDS = 4
_ROUNDING = 1e-4


def one_step(part: Opacus, *, noise: bool = True, records: int = _RECORDS) -> tuple[Any, Any]:
    """Module and optimiser after one real backward pass and the optimiser's own clip and noise; no weight moves.

    Args:
        part: The set-up.
        noise: Whether the optimiser adds its noise.
        records: How many records the batch has.

    Raises:
        NotApplicable: The optimiser is none of Opacus, or its loader gives no records.
    """
    module, optimiser, x, y = _ready(part, noise=noise, least=1)
    _step(part, module, optimiser, x[:records], y[:records])
    return module, optimiser


def _ready(part: Opacus, *, noise: bool, least: int) -> tuple[Any, Any, Any, Any]:
    """Module, optimiser and a batch of so many records at least."""
    module, optimiser, loader = part.make()
    if not hasattr(optimiser, "clip_and_accumulate"):
        raise NotApplicable(f"the optimiser is no DPOptimizer but {type(optimiser).__name__}")
    if not noise:
        optimiser.noise_multiplier = 0.0
    batch = next((one for one in islice(loader, 64) if len(one[0]) >= least), None)
    if batch is None:
        raise NotApplicable("the loader gives no records" if least == 1 else f"no batch has {least} records")
    module.train()
    return module, optimiser, batch[0], batch[1]


def _step(part: Opacus, module: Any, optimiser: Any, x: Any, y: Any) -> None:  # noqa: ANN401
    import torch

    optimiser.zero_grad()
    outputs = module(x)
    loss = part.loss(outputs, y.to(torch.long) if isinstance(part.loss, torch.nn.CrossEntropyLoss) else y)
    loss.backward()
    optimiser.pre_step()


def _moved_by_one(part: Opacus) -> float:
    """The most that taking one record out of a batch moves the sum of clipped gradients.

    Raises:
        NotApplicable: No batch has two records, or the module draws numbers, so that two steps cannot be compared.
    """
    import torch

    module, optimiser, x, y = _ready(part, noise=False, least=2)
    x, y = x[:_RECORDS], y[:_RECORDS]

    def released(kept: list[int], seed: int = 0) -> Any:  # noqa: ANN401
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            _step(part, module, optimiser, x[kept], y[kept])
        return torch.cat([one.detach().flatten().clone() for one in _sums(module)])

    every = list(range(len(x)))
    whole = released(every)
    if not torch.equal(whole, released(every, seed=1)):
        raise NotApplicable("the module draws numbers in a step, so that two steps cannot be compared")
    return max(float((whole - released([i for i in every if i != out])).norm()) for out in every)


@register("check", "clip-norm-exceeded")
class ClipNormExceeded(Check):
    """One record's release without noise against the clip norm."""

    looks_at = Opacus
    weight = 4.0
    card = CheckCard(
        name="clip-norm-exceeded",
        idea="Make a step of one record without noise with the pipeline's own optimiser, and take the length of its sum; and take "
        "one record out of a batch.",
        source=_ABADI,
        title="one record moves the release by more than the clip norm",
        severity="error",
        proves="The summed gradient of one record is longer than the clip norm that the accountant uses, or that of a batch moves by "
        "more when one record is taken out.",
        cannot=(
            "Other records may exceed it where these do not.",
            "Whether records of a batch change each other's gradients is not tried where the module draws numbers in a step.",
        ),
        consequence="The noise is scaled to a smaller sensitivity than the true one: the reported epsilon does not hold.",
        remedy="Check the module's per-sample gradients, and clip over all parameters at once.",
    )

    def run(self, part: Opacus, bench: Bench) -> Iterator[Finding]:
        """The longest release of single records."""
        longest, clip = 0.0, math.nan
        for _ in range(3):
            module, optimiser = one_step(part, noise=False, records=1)
            clip = _clip_norm(optimiser)
            longest = max(longest, _length(_sums(module)))
        bench.measured.update({"longest release": longest, "clip norm": clip})
        if longest > clip * (1 + _ROUNDING):
            yield Finding(
                what=f"one record releases a gradient of length {longest:.4g} under a clip norm of {clip:.4g}",
                evidence={"released": longest, "clip_norm": clip},
            )
            return
        try:
            moved = _moved_by_one(part)
        except NotApplicable:
            return
        bench.measured["one record of a batch"] = moved
        if moved > clip * (1 + _ROUNDING):
            yield Finding(
                what=f"one record taken out of a batch moves the sum by {moved:.4g} under a clip norm of {clip:.4g}",
                evidence={"moved": moved, "clip_norm": clip},
            )


@register("check", "noise-on-some-parameters")
class NoiseOnSomeParameters(Check):
    """Parameters that are released without noise, or with less than the optimiser says."""

    looks_at = Opacus
    weight = 4.0
    card = CheckCard(
        name="noise-on-some-parameters",
        idea="Make a real step, and compare each parameter's gradient with its clipped sum.",
        source=_ABADI,
        title="parameters get no noise, or less than is accounted",
        severity="error",
        proves="The difference of gradient and clipped sum is zero, or its spread is far below noise multiplier times clip norm.",
        cannot=("Parameters of a few values can only be told to have no noise at all.",),
        consequence="Those parameters are released nearly in the clear: the reported epsilon does not hold.",
        remedy="Give all trained parameters to the one DPOptimizer, and leave its noise as it is.",
    )

    def run(self, part: Opacus, bench: Bench) -> Iterator[Finding]:
        """Each parameter's noise."""
        import numpy as np

        module, optimiser = one_step(part)
        if optimiser.noise_multiplier <= 0:
            yield Finding(what="the noise multiplier is 0", evidence={"noise_multiplier": 0.0})
            return
        sigma = optimiser.noise_multiplier * _clip_norm(optimiser)
        given = {id(p) for group in optimiser.param_groups for p in group["params"]}
        outside = [name for name, p in module.named_parameters() if p.requires_grad and id(p) not in given]
        if outside:
            yield Finding(
                what=f"{', '.join(outside[:3])} can be trained and is not the optimiser's",
                evidence={"parameters": len(outside)},
                severity="warning",
            )
        noise = {}
        for name, p in module.named_parameters():
            if p.requires_grad and p.grad is not None and getattr(p, "summed_grad", None) is not None:
                noise[name] = (
                    (p.grad * _scale(optimiser) - p.summed_grad.view_as(p.grad)).flatten().double().numpy()
                )
        without = [name for name, value in noise.items() if not np.abs(value).max() > _ROUNDING * sigma]
        if without:
            yield Finding(
                what=f"{', '.join(without[:3])} gets no noise", evidence={"parameters": len(without)}
            )
            return
        values = np.concatenate(list(noise.values())) if noise else np.zeros(0)
        spread = float(np.sqrt(np.mean(values**2))) if values.size else 0.0
        bench.measured.update({"spread of the noise": spread, "accounted": sigma, "values": values.size})
        # the spread of n normal values is within sigma (1 +- 5 / sqrt(2 n)) but in one case of a million
        if spread < sigma * (1 - 5 / math.sqrt(2 * max(values.size, 1))):
            yield Finding(
                what=f"the noise has a spread of {spread:.3g} in place of {sigma:.3g}",
                evidence={"spread": spread, "accounted": sigma, "values": values.size},
            )


@register("check", "fixed-batches")
class FixedBatches(Check):
    """Batches of one size under an account of Poisson sampling."""

    looks_at = Opacus
    card = CheckCard(
        name="fixed-batches",
        idea="Draw batches from the loader and look at their sizes.",
        source=Source(
            paper="Chua et al., How private are DP-SGD implementations?, arXiv:2403.17673",
            year=2024,
            where="section 1",
        ),
        title="batches are not drawn as the account says",
        severity="error",
        proves="All batches have the same size, as no Poisson sampling gives them.",
        cannot=("A loader whose sizes vary may still not draw each record by its own coin.",),
        consequence="The amplification by sampling that the accountant subtracts is not proved for these batches.",
        remedy="Use the loader that PrivacyEngine.make_private gives, with poisson_sampling=True.",
    )

    def run(self, part: Opacus, bench: Bench) -> Iterator[Finding]:
        """Whether sizes differ."""
        _, _, loader = part.make()
        if type(getattr(loader, "batch_sampler", None)).__module__.startswith("opacus."):
            bench.measured["sampler"] = type(loader.batch_sampler).__name__
            return
        sizes = [len(batch[0]) for batch in islice(loader, 20)]
        bench.measured["sizes"] = ", ".join(map(str, sizes[:8]))
        full = sizes[:-1] if len(sizes) > 1 else sizes
        if len(full) > 0 and len(set(full)) == 1:
            yield Finding(what=f"{len(sizes)} batches of {full[0]} records, none drawn by Poisson sampling")


@register("check", "repeatable-noise")
class RepeatableNoise(Check):
    """The same noise in two set-ups."""

    looks_at = Opacus
    weight = 2.0
    card = CheckCard(
        name="repeatable-noise",
        idea="Make the set-up twice, and twice more out of files that are imported anew, and compare the noise of the first step.",
        source=Source(
            paper="Garfinkel, Leclerc, Randomness concerns when deploying differential privacy, arXiv:2009.03777",
            year=2020,
            where="section 3",
        ),
        title="the noise can be drawn again",
        severity="error",
        proves="Two set-ups drew the same noise, of one import or of two from generators in different states: the code determines it.",
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


def _clip_norm(optimiser: Any) -> float:  # noqa: ANN401 - of Opacus
    norm = optimiser.max_grad_norm
    return math.sqrt(sum(one**2 for one in norm)) if isinstance(norm, list | tuple) else float(norm)


def _scale(optimiser: Any) -> float:  # noqa: ANN401
    """What the optimiser divides by after the noise."""
    mean = getattr(optimiser, "loss_reduction", "mean") == "mean"
    return float(optimiser.expected_batch_size * optimiser.accumulated_iterations) if mean else 1.0


def _sums(module: Any) -> list[Any]:  # noqa: ANN401
    return [p.summed_grad for p in module.parameters() if getattr(p, "summed_grad", None) is not None]


def _length(parts: list[Any]) -> float:
    return math.sqrt(sum(float(part.double().square().sum()) for part in parts))

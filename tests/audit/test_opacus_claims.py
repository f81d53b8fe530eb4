"""What 'proved by check' rests on under Opacus: faults that leave single records, or the first values, as they should be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from opacus import PrivacyEngine
from opacus.utils.uniform_sampler import UniformWithReplacementSampler
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from qflsec.audit import Bench
from qflsec.audit.accountants import ROUNDING, SLACK, epsilons
from qflsec.audit.checks.opacus_clip import ClipNormExceeded, Clipping
from qflsec.audit.checks.opacus_steps import FixedBatches, NoiseOnSomeParameters, RepeatableNoise
from qflsec.audit.claim import Ruling
from qflsec.audit.claims.privacy import OpacusPrivacy
from qflsec.audit.parts import Opacus

X = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
Made = tuple[Any, Any, Any]


class Mixed(torch.nn.Module):
    """Every record of a batch becomes a multiple of their sum; one alone stays itself."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        out: Tensor = self.linear(100 * x.sum(0, keepdim=True).expand_as(x) if len(x) > 1 else x)
        return out


class Standardised(Mixed):
    """Batch normalisation by hand, which no validator sees; a batch of one is left as it is."""

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        out: Tensor = self.linear((x - x.mean(0)) / (x.std(0) + 1e-3) if len(x) > 1 else x)
        return out


class Undetermined(Mixed):
    """Draws from a generator that nobody can set."""

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        drawn = torch.Generator()
        drawn.seed()
        out: Tensor = self.linear(x + torch.randn(x.shape, generator=drawn))
        return out


class StandardisedDrawing(Standardised):
    """The same behind dropout."""

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        return super().forward(torch.nn.functional.dropout(x, 0.3))


def linear() -> torch.nn.Module:
    return torch.nn.Linear(4, 2)


def dropout() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.4), torch.nn.Linear(8, 2))


def normalised() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GroupNorm(2, 8), torch.nn.Linear(8, 2))


def as_it_is(module: Any, optimiser: Any, loader: Any) -> Made:
    return module, optimiser, loader


def part(
    module: Callable[[], torch.nn.Module] = linear,
    after: Callable[[Any, Any, Any], Made] = as_it_is,
    generator: Callable[[], torch.Generator | None] = lambda: None,
    **options: Any,
) -> Opacus:
    def make() -> Made:
        made = module()
        loader = DataLoader(TensorDataset(X, Y), batch_size=16, generator=generator())
        given = {"noise_multiplier": 1.0, "max_grad_norm": 1.0, **options}
        return after(*PrivacyEngine().make_private(
            module=made, optimizer=torch.optim.SGD(made.parameters(), lr=0.1), data_loader=loader, **given
        ))  # fmt: skip

    return Opacus(name="made", make=make, loss=torch.nn.CrossEntropyLoss())


def claimed(setup: Opacus, epsilon: float = 20.0) -> Ruling:
    return OpacusPrivacy(epsilon=epsilon, delta=1e-5, epochs=1).test([setup], Bench())


def severities(check: Any, setup: Opacus) -> list[str]:
    return [one.severity or check.card.severity for one in check.run(setup, Bench())]


def no_clip(module: Any, optimiser: Any, loader: Any) -> Made:
    """Sums as they are; the first gradients are shorter than the clip norm."""

    def clip_and_accumulate() -> None:
        for p in optimiser.params:
            p.summed_grad = p.grad_sample.sum(0)

    optimiser.clip_and_accumulate = clip_and_accumulate
    return module, optimiser, loader


def clip_of_the_batch(module: Any, optimiser: Any, loader: Any) -> Made:
    """One clip of the whole sum."""

    def clip_and_accumulate() -> None:
        sums = [p.grad_sample.sum(0) for p in optimiser.params]
        length = torch.cat([one.flatten() for one in sums]).norm()
        for p, one in zip(optimiser.params, sums, strict=True):
            p.summed_grad = one * min(1.0, float(optimiser.max_grad_norm / length))

    optimiser.clip_and_accumulate = clip_and_accumulate
    return module, optimiser, loader


@pytest.mark.parametrize(
    "setup",
    [
        part(Mixed), part(Standardised), part(StandardisedDrawing), part(after=clip_of_the_batch),
        part(after=no_clip, max_grad_norm=1e3),
    ],
    ids=["mixed", "standardised", "standardised-and-drawing", "clip-of-the-batch", "no-clip"],
)  # fmt: skip
def test_a_clip_that_holds_for_single_records_alone(setup: Opacus) -> None:
    torch.manual_seed(0)
    assert severities(ClipNormExceeded(), setup) == ["error"]
    made = claimed(setup)
    assert made.judgement == "refuted"
    assert "no epsilon follows" in made.why


@pytest.mark.parametrize(
    "setup",
    [
        part(), part(dropout), part(normalised), part(loss_reduction="sum"), part(max_grad_norm=1e3),
        part(clipping="per_layer", max_grad_norm=[0.5, 0.5]),
    ],
    ids=["linear", "dropout", "group-norm", "sums", "wide", "per-layer"],
)  # fmt: skip
def test_sound_steps_are_proved_and_it_is_said_what_was_tried(setup: Opacus) -> None:
    torch.manual_seed(0)
    for check in (ClipNormExceeded(), NoiseOnSomeParameters(), FixedBatches(), RepeatableNoise()):
        assert severities(check, setup) == []
    made = claimed(setup)
    assert made.judgement == "proved by check"
    assert "8 records" in made.ceiling
    seen = Clipping.of(setup)
    assert seen.forced == pytest.approx(seen.norm, rel=1e-3) or seen.forced < seen.norm


def test_the_part_of_one_record_that_is_taken_out() -> None:
    """In a sound step it is that record's own clipped gradient."""
    torch.manual_seed(0)
    seen = Clipping.of(part(max_grad_norm=0.05))
    assert seen.moved == pytest.approx(0.05, rel=1e-3)
    assert seen.apart is not None
    assert seen.apart < 1e-5


def test_a_module_that_cannot_be_compared_is_not_proved() -> None:
    torch.manual_seed(0)
    made = claimed(part(Undetermined))
    assert made.judgement == "not refuted"
    assert "other draws than torch's" in made.ceiling


def test_an_epsilon_below_every_accountant_is_not_proved() -> None:
    """Between the best bound and what accountants differ by it is neither proved nor refuted."""
    best = min(epsilons([(1.0, 0.25, 4)], 1e-5).values())
    said = {
        share: claimed(part(), best * share).judgement
        for share in (1.0, 1 - ROUNDING / 2, 1 - 1e-6, 1.001 / SLACK, 0.999 / SLACK)
    }
    assert list(said.values()) == [
        "proved by check",
        "proved by check",
        "not refuted",
        "not refuted",
        "refuted",
    ]


def with_noise(times: float) -> Callable[[Any, Any, Any], Made]:
    def after(module: Any, optimiser: Any, loader: Any) -> Made:
        kept = optimiser.add_noise

        def add_noise() -> None:
            told, optimiser.noise_multiplier = optimiser.noise_multiplier, optimiser.noise_multiplier * times
            kept()
            optimiser.noise_multiplier = told

        optimiser.add_noise = add_noise
        return module, optimiser, loader

    return after


def less_for_the_bias(module: Any, optimiser: Any, loader: Any) -> Made:
    kept = optimiser.add_noise

    def add_noise() -> None:
        kept()
        p = optimiser.params[1]
        p.grad = p.summed_grad + (p.grad - p.summed_grad) / 3

    optimiser.add_noise = add_noise
    return module, optimiser, loader


@pytest.mark.parametrize("after", [with_noise(0.1), with_noise(0.8), less_for_the_bias])
def test_too_little_noise_of_ten_parameters(after: Callable[[Any, Any, Any], Made]) -> None:
    """Ten values alone fit any spread; a false alarm has a chance of one in a million."""
    torch.manual_seed(0)
    assert severities(NoiseOnSomeParameters(), part(after=after)) == ["error"]
    assert claimed(part(after=after)).judgement == "refuted"
    for seed in range(5):
        torch.manual_seed(seed)
        assert severities(NoiseOnSomeParameters(), part()) == []


def repeated(module: Any, optimiser: Any, loader: Any) -> Made:
    """Each step draws from a generator of its own, which has one seed; the optimiser's generator stays unused."""
    kept = optimiser.add_noise

    def add_noise() -> None:
        with torch.random.fork_rng():
            torch.manual_seed(5)
            kept()

    optimiser.add_noise = add_noise
    return module, optimiser, loader


def kept_noise(module: Any, optimiser: Any, loader: Any) -> Made:
    """Drawn once for a set-up, and added in each step."""
    drawn = [torch.randn_like(p) for p in optimiser.params]

    def add_noise() -> None:
        for p, one in zip(optimiser.params, drawn, strict=True):
            p.grad = p.summed_grad + one

    optimiser.add_noise = add_noise
    return module, optimiser, loader


@pytest.mark.parametrize("after", [repeated, kept_noise])
def test_noise_that_repeats_behind_a_good_generator(after: Callable[[Any, Any, Any], Made]) -> None:
    torch.manual_seed(0)
    assert severities(RepeatableNoise(), part(after=after)) == ["error"]
    assert severities(RepeatableNoise(), part()) == []


class Coins:
    """Batches of coins of one rate that are said to have another."""

    def __init__(self, rate: float, said: float) -> None:
        self.rate, self.sample_rate = rate, said

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(len(self)):
            yield torch.nonzero(torch.rand(len(X)) < self.rate).flatten().tolist()


def drawn_by(rate: float, said: float) -> Callable[[Any, Any, Any], Made]:
    return lambda module, optimiser, _: (
        module,
        optimiser,
        DataLoader(TensorDataset(X, Y), batch_sampler=Coins(rate, said)),  # type: ignore[arg-type]
    )


def without_a_rate(module: Any, optimiser: Any, _: Any) -> Made:
    coins = Coins(0.25, 0.25)
    del coins.sample_rate
    return module, optimiser, DataLoader(TensorDataset(X, Y), batch_sampler=coins)  # type: ignore[arg-type]


def test_a_sampler_that_tells_another_rate() -> None:
    torch.manual_seed(0)
    assert severities(FixedBatches(), part(after=drawn_by(0.5, 0.01))) == ["error"]
    assert claimed(part(after=drawn_by(0.5, 0.01))).judgement == "refuted"
    for seed in range(5):
        torch.manual_seed(seed)
        assert severities(FixedBatches(), part(after=drawn_by(0.25, 0.25))) == []
    own = claimed(part(after=drawn_by(0.25, 0.25)))
    assert own.judgement == "not refuted"
    assert "how Coins draws records" in own.ceiling
    assert claimed(part(after=without_a_rate)).judgement == "not tested"


def test_batches_that_a_seed_gives() -> None:
    """Who knows which records a step used is not kept from it by sampling; noise without a seed does not mend that."""
    seeded = part(generator=lambda: torch.Generator().manual_seed(3))
    assert severities(FixedBatches(), seeded) == ["error"]
    assert severities(FixedBatches(), part()) == []
    _, _, loader = part().make()
    assert type(loader.batch_sampler) is UniformWithReplacementSampler

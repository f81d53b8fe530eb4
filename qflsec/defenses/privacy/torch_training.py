"""DP-SGD of a user's own torch training through Opacus, checked before it starts and stated afterwards."""

from __future__ import annotations

import copy
import hashlib
import secrets
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from qflsec.accounting import LedgerRow, People
from qflsec.accounting.group_privacy import GroupShare
from qflsec.accounting.limits import refuse_delta
from qflsec.base import ConfigError
from qflsec.defenses.privacy.bounds import GaussianNoise, check_noise, gaussian_rows, multiplier_for
from qflsec.defenses.privacy.person_rows import person_row
from qflsec.defenses.privacy.release_guard import ReleaseGuard
from qflsec.models import check_per_sample_gradients
from qflsec.models.check import PerSampleGradientError

__all__ = ["PrivateTraining", "make_private"]


@dataclass(frozen=True, kw_only=True, eq=False)
class PrivateTraining:
    """A private training: use model, optimizer and loader as in any torch loop, then ask for the rows.

    Attributes:
        model: The module, wrapped so that it has per-sample gradients.
        optimizer: The optimizer, which clips every record's gradient and adds noise.
        loader: The loader, which draws Poisson batches; some may be empty.
        clip_norm: The largest L2 norm of a record's gradient, C.
        noise_multiplier: Standard deviation of the noise on the sum, in units of C.
        delta: The delta at which the rows state epsilon.
        n_records: The number of records.
        accountant: Opacus' accountant, which counts the steps.
        people: Who stands behind the records.
    """

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    loader: torch.utils.data.DataLoader[Any]
    clip_norm: float
    noise_multiplier: float
    delta: float
    n_records: int
    accountant: Any
    people: People

    @property
    def steps(self) -> int:
        """The steps taken so far."""
        return sum(int(count) for _, _, count in self.accountant.history)

    def rows(self, observer: str = "whoever reads the model after any step") -> tuple[LedgerRow, ...]:
        """What the steps taken so far have spent, a row for each accountant; none before the first step.

        Where a person has several records, one more row says what they have spent together.

        Args:
            observer: A name for the observer.

        Raises:
            ConfigError: Noise or sampling rate were changed on the way.
        """
        history = {(float(noise), float(rate)) for noise, rate, _ in self.accountant.history}
        if not history:
            return ()
        if len(history) > 1 or next(iter(history))[0] != self.noise_multiplier:
            raise ConfigError(
                "the noise or the sampling rate was changed during the training",
                got=sorted(history),
                expected="one noise multiplier and one rate",
                fix="start a new private training for another setting",
            )
        ((noise, rate),) = history
        rows = self._record_rows(noise, rate, observer)
        kinds = self.people.at([0])
        if not kinds:
            return rows

        def shares(kind: tuple[int, ...]) -> list[GroupShare]:
            return [GroupShare(records=sum(kind), rate=rate, steps=self.steps)]

        return (*rows, person_row(rows[0], noise, self.people, kinds, shares))

    def _record_rows(self, noise: float, rate: float, observer: str) -> tuple[LedgerRow, ...]:
        return gaussian_rows(
            GaussianNoise(
                layer="opacus",
                noise_multiplier=noise,
                delta=self.delta,
                mechanism=f"Gaussian noise on the sum of gradients clipped to L2 norm {self.clip_norm:g} (the "
                f"sensitivity), noise multiplier {noise:.4g}",
            ),
            observer=observer,
            rate=rate,
            steps=self.steps,
            unit="example",
            units=self.n_records,
            # the sampling rate is made of the number of records, so a neighbouring training keeps it
            adjacency="zero-out",
            protects="for each record (zero-out: take away what it contributed)",
            trusted="whoever trains",
            released="the model after every step",
            sampling=f"Poisson, rate {rate:.4g}" if rate < 1 else "none: all records in every step",
            notes=(
                "the noise comes from torch's generator, which is no cryptographic source",
                "" if self.people.named else "nobody was named: a person with several records needs 'people'",
            ),
        )


def make_private(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: torch.utils.data.DataLoader[Any],
    *,
    clip_norm: float = 1.0,
    noise_multiplier: float | None = None,
    target_epsilon: float | None = None,
    epochs: int = 1,
    delta: float = 1e-5,
    large_delta: bool = False,
    loss: torch.nn.Module | None = None,
    checked_records: int = 4,
    people: Sequence[Hashable] | None = None,
) -> PrivateTraining:
    """Make a torch training private, if the per-sample gradients of its model are right.

    The check compares Opacus' per-sample gradients with a plain loop on a few records drawn at random, now and
    before steps 1, 4, 16, 64 and so on with other records and the weights of then; it releases nothing of them. Every
    step asserts the norm of what it releases. Circuits belong in :class:`qflsec.models.QuantumLayer`; PennyLane's
    ``TorchLayer`` is refused.

    A record takes part in a step with probability one over the batches of ``loader``, an epoch has as many steps as
    ``loader`` has batches, and the sum of a step is divided by the expected number of its records. Opacus 1.6.0
    truncates both numbers where the quotient of floating point lies below them: 147 records in batches of 3 are
    divided by 2, and 93 batches become 92.

    Args:
        model: The model.
        optimizer: An optimizer of the model's parameters.
        loader: Its records, as pairs of input and target; its batch size sets the sampling rate.
        clip_norm: The largest L2 norm of a record's gradient.
        noise_multiplier: Standard deviation of the noise in units of the clip norm.
        target_epsilon: In place of it, the epsilon of ``epochs`` epochs.
        epochs: The planned epochs, which only a target needs.
        delta: The delta at which epsilon is stated.
        large_delta: Whether ``delta`` may be one over the number of records or more, so that one may be given away.
        loss: A torch criterion with reduction ``"mean"``; cross entropy if None.
        checked_records: The records that each check takes.
        people: For each record of the data set in order, whose it is, such as a patient's number. Without it, only
            equal records are known to be one person's; the data set is read once to find them.

    Raises:
        ConfigError: An argument cannot be used.
        PerSampleGradientError: Opacus would compute wrong per-sample gradients of this model.
    """
    check_noise(
        clip_norm=clip_norm, noise_multiplier=noise_multiplier, target_epsilon=target_epsilon, delta=delta
    )
    n_records = len(loader.dataset)  # type: ignore[arg-type]
    refuse_delta("make_private", delta, units=n_records, unit="record", asked=large_delta, error=ConfigError)
    _refuse_stock_layers(model)

    def check(module: torch.nn.Module) -> None:
        x, y = _random_records(loader, checked_records)
        check_per_sample_gradients(module, x, y, loss=loss, modes=["hooks"], strict=True)

    check(model)
    multiplier = noise_multiplier
    if multiplier is None:
        multiplier = 1.0
        if target_epsilon is not None:
            multiplier = multiplier_for(target_epsilon, delta, 1 / len(loader), epochs * len(loader))
    wrapped, private, batches, accountant = _wrapped(model, optimizer, loader, multiplier, clip_norm, check)
    return PrivateTraining(
        model=wrapped,
        optimizer=private,
        loader=batches,
        clip_norm=clip_norm,
        noise_multiplier=multiplier,
        delta=delta,
        n_records=n_records,
        accountant=accountant,
        people=_people(loader.dataset, people),
    )


def _people(dataset: Any, named: Sequence[Hashable] | None) -> People:  # noqa: ANN401 - any data set of torch
    """Who stands behind the records: as the user says, else by equal records."""
    if named is not None and len(named) != len(dataset):
        raise ConfigError(
            "'people' does not say whose every record is",
            got=len(named),
            expected=f"{len(dataset)}, one for each",
        )
    told = [_content(dataset[index]) for index in range(len(dataset))] if named is None else named
    sizes = {size for size in Counter(told).values() if size > 1}
    return People(
        told_by="equal records" if named is None else "the people that were named",
        named=named is not None,
        kinds=tuple((size,) for size in sorted(sizes)),
    )


def _content(record: tuple[Any, Any]) -> str:
    """A digest of a record: equal for equal ones."""
    sha = hashlib.sha256()
    for part in map(torch.as_tensor, record):
        sha.update(f"{part.dtype}{tuple(part.shape)}".encode())
        plain = part.detach().cpu().clone(memory_format=torch.contiguous_format).reshape(-1)
        sha.update(plain.view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def _wrapped(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: torch.utils.data.DataLoader[Any],
    multiplier: float,
    clip_norm: float,
    check: Callable[[torch.nn.Module], None],
) -> tuple[Any, Any, torch.utils.data.DataLoader[Any], Any]:
    """Opacus' model, optimizer, loader and accountant, with the numbers that it truncates set right."""
    from opacus import PrivacyEngine
    from opacus.optimizers import DPOptimizer

    guard = ReleaseGuard(clip_norm, lambda: check(copy.deepcopy(wrapped).to_standard_module()))

    class Guarded(DPOptimizer):  # type: ignore[misc]
        def clip_and_accumulate(self) -> None:
            guard.before(self.params, len(self.grad_samples[0]), self.max_grad_norm)
            super().clip_and_accumulate()
            guard.after(self.params)

    with warnings.catch_warnings():
        # the rows say so
        warnings.filterwarnings("ignore", message="Secure RNG turned off", category=UserWarning)
        engine = PrivacyEngine(accountant="rdp")
        wrapped, truncated, batches = engine.make_private(
            module=model.train(),
            optimizer=optimizer,
            data_loader=loader,
            noise_multiplier=multiplier,
            max_grad_norm=clip_norm,
            poisson_sampling=True,
            grad_sample_mode="hooks",
        )
    batches.batch_sampler.steps = len(loader)
    private = Guarded(
        truncated.original_optimizer,
        noise_multiplier=multiplier,
        max_grad_norm=clip_norm,
        expected_batch_size=len(loader.dataset) / len(loader),  # type: ignore[arg-type]
    )
    private.attach_step_hook(engine.accountant.get_optimizer_hook_fn(sample_rate=1 / len(loader)))
    return wrapped, private, batches, engine.accountant


def _refuse_stock_layers(model: torch.nn.Module) -> None:
    for name, part in model.named_modules():
        if type(part).__module__.startswith("pennylane.qnn"):
            raise PerSampleGradientError(
                f"layer {name or 'model'!r} is PennyLane's {type(part).__name__}: it reads its weights from a private "
                "dictionary, so that Opacus gets per-sample gradients of zero without an error, and under ghost "
                "clipping the clip norm is exceeded: the reported epsilon would not be justified",
                fix="put the circuit into qflsec.models.QuantumLayer (qflsec.circuits.from_qnode reads a QNode)",
            )


def _random_records(
    loader: torch.utils.data.DataLoader[Any], n_records: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A few records drawn at random as one batch; torch's generator is left as it was."""
    dataset: Any = loader.dataset
    drawn = secrets.SystemRandom().sample(range(len(dataset)), min(n_records, len(dataset)))
    pairs = [dataset[index] for index in drawn]
    try:
        x, y = torch.utils.data.default_collate(pairs)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            "the records of the loader are no pairs of input and target",
            got=type(pairs[0]).__name__ if pairs else "an empty data set",
            fix="use a data set that gives (x, y)",
        ) from error
    return x, y

"""Whether Opacus computes the per-sample gradients of a module rightly: a comparison on some records.

Opacus differentiates a layer through ``torch.func.functional_call``, which replaces the module's
registered parameters. A layer that reads its weights from anywhere else gets per-sample gradients of zero
without an error: the layer then never learns, and under ghost clipping the clipped norm leaves it out, so
that the released norm exceeds the clip norm and the reported epsilon is not justified.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from qflsec.base.errors import ConfigError, QflsecError
from qflsec.models.layer import QuantumLayer

__all__ = ["ModeReport", "PerSampleGradientError", "PerSampleReport", "check_per_sample_gradients"]

Mode = Literal["hooks", "functorch", "ghost"]
Named = dict[str, Tensor]


class PerSampleGradientError(QflsecError):
    """A module whose per-sample gradients are wrong, so that no privacy claim about it holds."""


@dataclass(frozen=True, kw_only=True)
class ModeReport:
    """What was found in one mode of Opacus.

    Attributes:
        mode: The mode.
        batch_error: Largest difference between the mean of the per-sample gradients and the gradient of the
            mean loss; NaN in ghost mode, which forms no per-sample gradients.
        record_error: Largest difference between a record's gradient (its norm, in ghost mode) and the one
            of a plain loop.
        released_norm: Largest norm released for one record without noise.
        clip_norm: The clip norm that it must not exceed.
        problems: What is wrong, as sentences; empty if nothing is.
    """

    mode: str
    batch_error: float
    record_error: float
    released_norm: float
    clip_norm: float
    problems: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PerSampleReport:
    """The result of :func:`check_per_sample_gradients`; prints as sentences."""

    modes: tuple[ModeReport, ...]

    @property
    def ok(self) -> bool:
        """Whether every mode is right."""
        return not any(mode.problems for mode in self.modes)

    def require(self) -> None:
        """Raise unless every mode is right.

        Raises:
            PerSampleGradientError: A mode is wrong.
        """
        if not self.ok:
            raise PerSampleGradientError(
                str(self),
                fix="read the weights from registered parameters, as qflsec.models.QuantumLayer does",
            )

    def __str__(self) -> str:
        lines = [f"{m.mode}: {'; '.join(m.problems) or 'per-sample gradients are right'}" for m in self.modes]
        return ". ".join(lines)


def check_per_sample_gradients(
    module: torch.nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    loss: torch.nn.Module | None = None,
    modes: Sequence[Mode] = get_args(Mode),
    clip_norm: float | None = None,
    tolerance: float = 1e-4,
    strict: bool = False,
) -> PerSampleReport:
    """Compare the per-sample gradients of Opacus with a plain loop over the records.

    Every mode works on a copy of the module, and torch's generator is left as it was. A module may draw from that
    generator, as dropout does: every pass then draws alike. A module whose records see each other in a batch, such
    as batch normalisation, has no per-sample gradients and is wrong in every mode. Circuits are run without shots.

    Shapes:
        x: ``(B, ...)``.
        y: ``(B, ...)``.

    Args:
        module: Any torch module.
        x: Two or more records; with one alone, records that see each other are not found. Each costs some forward and
            backward passes in every mode.
        y: Their targets.
        loss: A torch criterion with reduction ``"mean"``; cross entropy if None.
        modes: The modes of Opacus to check.
        clip_norm: The clip norm; half of the smallest gradient norm if None, which binds for every record.
        tolerance: Largest difference that counts as rounding, relative to the largest gradient norm.
        strict: Raise instead of reporting.

    Raises:
        ConfigError: Module or loss cannot be checked.
        PerSampleGradientError: A mode is wrong and ``strict`` is set.
    """
    if any(hasattr(part, "autograd_grad_sample_hooks") for part in module.modules()):
        raise ConfigError(
            "Opacus already wraps this module", fix="check it before PrivacyEngine.make_private"
        )
    criterion = torch.nn.CrossEntropyLoss() if loss is None else loss
    if getattr(criterion, "reduction", None) != "mean":
        raise ConfigError(
            "the loss must be a torch criterion", got=criterion, expected="an attribute reduction='mean'"
        )
    with warnings.catch_warnings(action="ignore"), torch.random.fork_rng():
        exact = _without_shots(module)
        expected = _Expected.of(exact, criterion, x, y, clip_norm, tolerance)
        report = PerSampleReport(
            modes=tuple(_check_mode(mode, exact, criterion, x, y, expected, tolerance) for mode in modes)
        )
    if strict:
        report.require()
    return report


@dataclass(frozen=True, kw_only=True)
class _Expected:
    """The gradients of a plain loop: of each record, and of the batch; and whether records see each other."""

    records: tuple[Named, ...]
    batch: Named
    clip_norm: float
    mixed: bool

    @classmethod
    def of(
        cls,
        module: torch.nn.Module,
        criterion: torch.nn.Module,
        x: Tensor,
        y: Tensor,
        clip_norm: float | None,
        tolerance: float,
    ) -> _Expected:
        with torch.no_grad():
            outputs = _seeded(copy.deepcopy(module), x)
            if not torch.equal(outputs, _seeded(copy.deepcopy(module), x)):
                raise ConfigError(
                    "the module's output depends on chance beyond torch's own generator, so its gradients cannot be "
                    "compared",
                    fix="draw from torch's global generator, as torch.nn.Dropout does",
                )
            mixed = _mixed(module, x, outputs, tolerance)
        plain = copy.deepcopy(module)
        outputs = _seeded(plain, x)
        records = tuple(
            _plain_gradient(plain, criterion(outputs[i : i + 1], y[i : i + 1])) for i in range(len(x))
        )
        norms = [_norm(record) for record in records]
        if max(norms) <= 0 or not all(math.isfinite(norm) for norm in norms):
            raise ConfigError(
                "no record has a gradient other than zero, or one has none that is finite",
                got=norms,
                fix="choose other records",
            )
        batch = _plain_gradient(plain, criterion(outputs, y))
        binding = min(norm for norm in norms if norm > 0) / 2
        return cls(
            records=records,
            batch=batch,
            clip_norm=binding if clip_norm is None else clip_norm,
            mixed=mixed,
        )

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong in every mode."""
        mixed = "records of a batch see each other, so that no record has a gradient of its own"
        return (mixed,) if self.mixed else ()

    @property
    def scale(self) -> float:
        """The largest gradient norm."""
        return max(_norm(record) for record in self.records)


def _without_shots(module: torch.nn.Module) -> torch.nn.Module:
    """A copy in training mode whose circuits are exact: sampled outcomes differ from pass to pass."""
    copied = copy.deepcopy(module).train()
    for part in copied.modules():
        if isinstance(part, QuantumLayer):
            part.execution = replace(part.execution, shots=None)
    return copied


def _seeded(module: torch.nn.Module, x: Tensor) -> Tensor:
    """The module's outputs, every time with the same draws of torch's generator: dropout keeps its masks."""
    torch.manual_seed(0)
    outputs: Tensor = module(x)
    return outputs


def _mixed(module: torch.nn.Module, x: Tensor, outputs: Tensor, tolerance: float) -> bool:
    """Whether a record's output changes with the other records of its batch, everything drawn alike."""
    half = len(x) // 2
    moved = x.roll(1, 0)
    for kept, replaced in ((slice(half), slice(half, None)), (slice(half, None), slice(half))):
        other = x.clone()
        other[replaced] = moved[replaced]
        change = (_seeded(copy.deepcopy(module), other) - outputs)[kept].abs()
        if change.numel() and bool(change.max() > tolerance * outputs.abs().max()):
            return True
    return False


def _plain_gradient(module: torch.nn.Module, loss: Tensor) -> Named:
    module.zero_grad(set_to_none=True)
    loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    return _collect(module, lambda p: p.grad)


def _collect(module: torch.nn.Module, read: Callable[[torch.nn.Parameter], Tensor | None]) -> Named:
    found: Named = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            value = read(parameter)
            found[name] = torch.zeros_like(parameter) if value is None else value.detach().clone()
    return found


def _norm(gradient: Named) -> float:
    return math.sqrt(sum(float(block.double().square().sum()) for block in gradient.values()))


def _difference(first: Named, second: Named) -> float:
    return max(float((first[name] - second[name]).abs().max()) for name in second)


def _check_mode(
    mode: Mode,
    module: torch.nn.Module,
    criterion: torch.nn.Module,
    x: Tensor,
    y: Tensor,
    expected: _Expected,
    tolerance: float,
) -> ModeReport:
    clip_norm = expected.clip_norm
    try:
        wrapped = _Wrapped(mode, module, criterion, clip_norm)
        batch_error, record_error, silent = wrapped.compare(x, y, expected)
        released = max(wrapped.released_norm(x[i : i + 1], y[i : i + 1]) for i in range(len(x)))
    except QflsecError:
        raise
    except Exception as error:  # noqa: BLE001 - any failure of a user's module is a finding
        problem = f"fails with {type(error).__name__}: {str(error).strip().splitlines()[0]}"
        nan = math.nan
        return ModeReport(
            mode=mode,
            batch_error=nan,
            record_error=nan,
            released_norm=nan,
            clip_norm=clip_norm,
            problems=(*expected.problems, problem),
        )
    return ModeReport(
        mode=mode,
        batch_error=batch_error,
        record_error=record_error,
        released_norm=released,
        clip_norm=clip_norm,
        problems=_problems(mode, batch_error, record_error, released, silent, expected, tolerance),
    )


def _problems(
    mode: Mode,
    batch_error: float,
    record_error: float,
    released: float,
    silent: tuple[str, ...],
    expected: _Expected,
    tolerance: float,
) -> tuple[str, ...]:
    """What is wrong, as sentences."""
    problems = [*expected.problems]
    slack = tolerance * expected.scale
    if silent:
        problems.append(
            f"the per-sample gradients of {', '.join(silent)} are all zero but the true ones are not"
        )
    if batch_error > slack:
        problems.append(f"their mean differs from the batch gradient by {batch_error:.2g}")
    if record_error > slack:
        what = "the norms" if mode == "ghost" else "they"
        problems.append(f"{what} differ from a loop over the records by {record_error:.2g}")
    if released > expected.clip_norm * (1 + tolerance):
        problems.append(
            f"the clip norm {expected.clip_norm:.4g} is exceeded: one record releases {released:.4g}, "
            "so the reported epsilon is not justified"
        )
    return tuple(problems)


class _Wrapped:
    """A copy of the module under one mode of Opacus, with an optimizer that adds no noise."""

    def __init__(
        self, mode: Mode, module: torch.nn.Module, criterion: torch.nn.Module, clip_norm: float
    ) -> None:
        from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
        from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
        from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

        inner = copy.deepcopy(module)
        sgd = torch.optim.SGD([p for p in inner.parameters() if p.requires_grad], lr=0.0)
        options: dict[str, Any] = {
            "noise_multiplier": 0.0,
            "max_grad_norm": clip_norm,
            "expected_batch_size": 1,
        }
        self.inner = inner
        self.ghost = mode == "ghost"
        self.criterion: Any = copy.deepcopy(criterion)
        if self.ghost:
            self.outer = GradSampleModuleFastGradientClipping(inner, max_grad_norm=clip_norm)
            self.optimizer = DPOptimizerFastGradientClipping(sgd, **options)
            self.criterion = DPLossFastGradientClipping(self.outer, self.optimizer, self.criterion)
        else:
            self.outer = GradSampleModule(inner, force_functorch=mode == "functorch")
            self.optimizer = DPOptimizer(sgd, **options)

    def backward(self, x: Tensor, y: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.criterion(_seeded(self.outer, x), y).backward()

    def compare(self, x: Tensor, y: Tensor, expected: _Expected) -> tuple[float, float, tuple[str, ...]]:
        """Error of the mean, error of the records, and blocks whose per-sample gradients are all zero."""
        self.backward(x, y)
        if self.ghost:
            norms = self.outer.get_norm_sample().tolist()
            errors = [abs(n - _norm(record)) for n, record in zip(norms, expected.records, strict=True)]
            found = _collect(self.inner, lambda p: p._norm_sample)  # type: ignore[attr-defined]  # noqa: SLF001
            return math.nan, max(errors), _silent(found, expected)
        found = _collect(self.inner, lambda p: p.grad_sample)  # type: ignore[attr-defined]
        mean = {name: block.mean(0) for name, block in found.items()}
        rows = [{name: block[i] for name, block in found.items()} for i in range(len(x))]
        record_error = max(_difference(a, b) for a, b in zip(rows, expected.records, strict=True))
        return _difference(mean, expected.batch), record_error, _silent(found, expected)

    def released_norm(self, x: Tensor, y: Tensor) -> float:
        """The norm of what one record releases."""
        self.backward(x, y)
        self.optimizer.pre_step()
        return _norm(_collect(self.inner, lambda p: p.grad))


def _silent(found: Named, expected: _Expected) -> tuple[str, ...]:
    return tuple(
        name
        for name, block in found.items()
        if not bool(block.any()) and any(bool(record[name].any()) for record in expected.records)
    )

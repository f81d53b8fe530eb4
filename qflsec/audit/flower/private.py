"""What Opacus does while a client trains: clip, noise and sampling of every step, as they are and not as they are said."""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch.optim.optimizer import Optimizer

from qflsec.audit.flower.recording import PrivateStep

__all__ = ["PrivateWatch"]

_SILENT = 1e-4
"""Of the accounted spread: below that a parameter got no noise."""


@dataclass(frozen=True, kw_only=True)
class _Sampling:
    """How the loader of a privacy engine draws."""

    rate: float
    poisson: bool
    dataset: int


class PrivateWatch:
    """Watches optimisers and engines of Opacus in this process, after :meth:`begin`.

    Args:
        told: Called with epsilon and delta when an engine is asked for its account.
    """

    def __init__(self, told: Callable[[float, float], None]) -> None:
        self._told, self._begun = told, False
        self._private: weakref.WeakKeyDictionary[Optimizer, Any] = weakref.WeakKeyDictionary()
        self._sampling: weakref.WeakKeyDictionary[Optimizer, _Sampling] = weakref.WeakKeyDictionary()
        self._split: weakref.WeakSet[Optimizer] = weakref.WeakSet()

    def begin(self, stack: ExitStack) -> None:
        """Watch from now on, if the app has imported Opacus; a second call does nothing.

        Args:
            stack: When it is closed, Opacus is as it was.
        """
        if self._begun or "opacus" not in sys.modules:
            return
        self._begun = True
        from opacus import PrivacyEngine
        from opacus.optimizers import DPOptimizer

        made, skip = DPOptimizer.__init__, DPOptimizer.signal_skip_step
        private, asked = PrivacyEngine.make_private, PrivacyEngine.get_epsilon

        def init(one: Any, optimizer: Any, *args: Any, **words: Any) -> None:  # noqa: ANN401 - of Opacus
            made(one, optimizer, *args, **words)
            self._private[optimizer] = weakref.ref(one)

        def signal_skip_step(one: Any, *args: Any, **words: Any) -> None:  # noqa: ANN401
            self._split.add(one.original_optimizer)
            skip(one, *args, **words)

        def make_private(engine: Any, *args: Any, **words: Any) -> Any:  # noqa: ANN401
            found = private(engine, *args, **words)
            self._drawn(found, words.get("data_loader"))
            return found

        def get_epsilon(engine: Any, *args: Any, **words: Any) -> float:  # noqa: ANN401
            epsilon = float(asked(engine, *args, **words))
            self._told(epsilon, float(words["delta"] if "delta" in words else args[0]))
            return epsilon

        for kind, name, now, before in (
            (DPOptimizer, "__init__", init, made),
            (DPOptimizer, "signal_skip_step", signal_skip_step, skip),
            (PrivacyEngine, "make_private", make_private, private),
            (PrivacyEngine, "get_epsilon", get_epsilon, asked),
        ):
            setattr(kind, name, now)
            stack.callback(setattr, kind, name, before)

    def _drawn(self, found: Any, given: Any) -> None:  # noqa: ANN401
        """Keep how the loader of an engine draws; the engine's own rate is one over the batches of the loader it got."""
        optimizer = next((one for one in found if hasattr(one, "original_optimizer")), None)
        loader = next((one for one in found if hasattr(one, "batch_sampler")), None)
        if optimizer is None or loader is None or given is None:
            return
        self._sampling[optimizer.original_optimizer] = _Sampling(
            rate=1 / len(given),
            poisson=type(loader.batch_sampler).__module__.startswith("opacus."),
            dataset=len(loader.dataset),
        )

    def step(self, optimizer: Optimizer, records: int) -> PrivateStep | None:
        """The step that an optimiser is about to make; None where it is not wrapped by Opacus.

        Args:
            optimizer: The optimiser, whose parameters hold the noisy gradient beside its clipped sum.
            records: The records of the last batch, where single gradients do not say.
        """
        held = self._private.get(optimizer)
        outer = held() if held is not None else None
        parameters = [
            one
            for group in optimizer.param_groups
            for one in group["params"]
            if one.grad is not None and getattr(one, "summed_grad", None) is not None
        ]
        if outer is None or not parameters:
            return None
        norm = outer.max_grad_norm
        clip = math.hypot(*norm) if isinstance(norm, list | tuple) else float(norm)
        size, allowed = _allowed(parameters, clip, records)
        if optimizer in self._split:  # the single gradients of earlier pieces of the batch are gone
            size, allowed = 0, math.inf
        scale = _scale(outer)
        noise = [((p.grad * scale).view_as(p) - p.summed_grad.view_as(p)).double() for p in parameters]
        sigma = float(outer.noise_multiplier) * clip
        silent = [one for one in noise if not float(one.abs().max()) > _SILENT * sigma]
        heard = [one for one in noise if float(one.abs().max()) > _SILENT * sigma]
        drawn = self._sampling.get(optimizer)
        return PrivateStep(
            multiplier=float(outer.noise_multiplier),
            clip=clip,
            summed=math.sqrt(sum(float(p.summed_grad.double().square().sum()) for p in parameters)),
            allowed=allowed,
            records=size,
            without=len(silent),
            squares=sum(float(one.square().sum()) for one in heard),
            values=sum(one.numel() for one in heard),
            rate=None if drawn is None else drawn.rate,
            poisson=None if drawn is None else drawn.poisson,
            dataset=0 if drawn is None else drawn.dataset,
        )


def _allowed(parameters: list[Any], clip: float, records: int) -> tuple[int, float]:
    """The records of a batch, and the most that their clipped gradients can add up to."""
    import torch

    single = [
        torch.cat(one.grad_sample) if isinstance(one.grad_sample, list) else one.grad_sample
        for one in parameters
        if getattr(one, "grad_sample", None) is not None
    ]
    if len(single) != len(parameters):  # ghost clipping keeps no single gradients
        return records, records * clip
    if not len(single[0]):
        return 0, 0.0
    norms = torch.stack([one.double().flatten(1).norm(dim=1) for one in single]).norm(dim=0)
    return len(norms), float(norms.clamp(max=clip).sum())


def _scale(outer: Any) -> float:  # noqa: ANN401
    """What the optimiser divided the noisy sum by."""
    if getattr(outer, "loss_reduction", "mean") != "mean":
        return 1.0
    return float(outer.expected_batch_size * outer.accumulated_iterations)

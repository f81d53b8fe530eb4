"""Torch modules: what a single update shows, and whether records can be kept apart."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from qflsec.audit.check import Bench, Check, NotApplicable
from qflsec.audit.checks.training import wordy
from qflsec.audit.classes import Classes
from qflsec.audit.outcome import Finding
from qflsec.audit.parts import Array, TorchModel
from qflsec.base import CheckCard, Source, register

if TYPE_CHECKING:
    import torch

__all__ = ["BuffersInTheUpdate", "FirstLayerLeaks", "LabelFromGradient", "PerSampleGradients", "some_records"]

_RECORDS = 4
_EXACT = 1e-3


def some_records(part: TorchModel, n: int = _RECORDS) -> tuple[torch.Tensor, torch.Tensor]:
    """Some training records as tensors of the module's kind.

    Raises:
        NotApplicable: The labels are words.

    Shapes:
        ``(n, ...)`` and ``(n,)``.
    """
    import torch

    features, labels = part.data.train
    if not len(features):
        raise NotApplicable("there are no training records")
    if wordy(labels):
        raise NotApplicable("the labels are words, which no torch loss takes")
    dtype = next((p.dtype for p in part.make().parameters()), torch.float32)
    kind = dtype
    if isinstance(part.loss, torch.nn.CrossEntropyLoss | torch.nn.NLLLoss):  # these take numbers of classes
        labels, kind = _class_numbers(labels), torch.long
    return torch.as_tensor(features[:n], dtype=dtype), torch.as_tensor(labels[:n], dtype=kind)


def _class_numbers(labels: Array) -> Array:
    """Labels as a torch loss takes them: whole numbers from 0 as they are, and else the numbers of their classes.

    Raises:
        NotApplicable: They are no classes.
    """
    classes = Classes.of(labels)
    whole = classes.values[0] == 0 and bool((classes.values == np.round(classes.values)).all())
    numbers = classes.numbers(labels)
    return np.asarray(classes.values[numbers].astype(int) if whole else numbers)


def _gradients(
    part: TorchModel, x: torch.Tensor, y: torch.Tensor
) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """A new module in training mode with the gradient of the loss of some records.

    Raises:
        NotApplicable: The module does not take so few.
    """
    module = part.make().train()
    try:
        outputs = module(x)
    except ValueError as error:  # batch normalisation has no mean of one record
        raise NotApplicable(f"the module does not take {len(x)} records: {error}") from error
    loss = part.loss(outputs, y if outputs.shape != y.unsqueeze(-1).shape else y.unsqueeze(-1))
    loss.backward()
    return module, {name: p.grad.detach() for name, p in module.named_parameters() if p.grad is not None}


@register("check", "per-sample-gradients")
class PerSampleGradients(Check):
    """Whether Opacus computes the gradients of single records rightly, in each of its modes."""

    looks_at = TorchModel
    weight = 4.0
    card = CheckCard(
        name="per-sample-gradients",
        idea="Compare the per-sample gradients of Opacus with a plain loop, and the released norm with the clip norm.",
        source=Source(paper="Yousefpour et al., Opacus, arXiv:2109.12298", year=2021, where="section 3"),
        title="Opacus computes wrong per-sample gradients of this module",
        severity="error",
        proves="In the named mode gradients differ from a loop over the records, or one record exceeds the clip norm.",
        cannot=("Modules that draw other than from torch's generator cannot be compared.",),
        consequence="Layers get noise and no training, or the clip norm does not bind: the reported epsilon is then too small.",
        remedy="Put the circuit into qflsec.models.QuantumLayer, which reads its registered weights.",
    )

    def run(self, part: TorchModel, bench: Bench) -> Iterator[Finding]:
        """What is wrong in each mode."""
        from qflsec.base import ConfigError
        from qflsec.models import check_per_sample_gradients

        if "opacus" not in sys.modules and not _has_circuit(part.make()):
            raise NotApplicable("the pipeline does not use Opacus, and the module holds no circuit")
        x, y = some_records(part)
        try:
            report = check_per_sample_gradients(part.make(), x, y, loss=part.loss)
        except ConfigError as error:
            raise NotApplicable(str(error)) from error
        severity = "error" if "opacus" in sys.modules else "warning"
        for mode in report.modes:
            bench.measured[f"{mode.mode}: largest released norm"] = mode.released_norm
            if mode.problems:
                yield Finding(
                    what=f"in mode {mode.mode}: {'; '.join(mode.problems)}",
                    evidence={"released_norm": mode.released_norm, "clip_norm": mode.clip_norm},
                    reproduction="qflsec.models.check_per_sample_gradients(module, x, y)",
                    severity=severity,  # type: ignore[arg-type]
                )


@register("check", "buffers-in-the-update")
class BuffersInTheUpdate(Check):
    """Statistics of records that a module keeps beside its parameters."""

    looks_at = TorchModel
    card = CheckCard(
        name="buffers-in-the-update",
        idea="Run a batch in training mode and see which buffers of the module changed.",
        source=Source(
            paper="Ioffe, Szegedy, Batch normalization, arXiv:1502.03167", year=2015, where="algorithm 2"
        ),
        title="the module keeps statistics of records",
        severity="warning",
        proves="A buffer of the state dictionary changed with the records of a batch.",
        cannot=("Whether the buffers are sent is not seen here; state_dict() holds them.",),
        consequence="Means and variances of a client's records reach the server, past every clip and noise.",
        remedy="Use GroupNorm or LayerNorm, or keep the buffers at the client.",
    )

    def run(self, part: TorchModel, bench: Bench) -> Iterator[Finding]:
        """Which buffers changed."""
        import torch

        module = part.make().train()
        before = {name: one.clone() for name, one in module.named_buffers()}
        with torch.no_grad():
            module(some_records(part)[0])
        changed = [
            name
            for name, one in module.named_buffers()
            if one.is_floating_point() and not one.equal(before[name])
        ]
        bench.measured["buffers"] = len(before)
        if changed:
            yield Finding(
                what=f"{', '.join(changed[:3])} changed with the records", evidence={"buffers": len(changed)}
            )


@register("check", "first-layer-leaks")
class FirstLayerLeaks(Check):
    """A record that can be divided out of the gradient of a first linear layer."""

    looks_at = TorchModel
    card = CheckCard(
        name="first-layer-leaks",
        idea="Divide the weight gradient of a linear layer by its bias gradient, for one record.",
        source=Source(
            paper="Geiping et al., Inverting gradients, arXiv:2003.14053", year=2020, where="proposition 3.1"
        ),
        title="one gradient shows a record exactly",
        severity="warning",
        proves="The quotient of two gradients equals the record, value by value.",
        cannot=("Batches of several records, and layers behind others, are left to the attacks.",),
        consequence="A server that sees a single update of one record reads the record off it, without any search.",
        remedy="Aggregate securely, or use DP-SGD; a larger batch alone mixes records and does not hide them.",
    )

    def run(self, part: TorchModel, bench: Bench) -> Iterator[Finding]:
        """Whether the record comes out."""
        x, y = some_records(part, 1)
        module, gradients = _gradients(part, x, y)
        record = x.flatten()
        for name, layer in module.named_modules():
            weight, bias = (
                gradients.get(f"{name}.weight".lstrip(".")),
                gradients.get(f"{name}.bias".lstrip(".")),
            )
            if weight is None or bias is None or weight.shape != (len(bias), len(record)):
                continue
            row = int(bias.abs().argmax())
            if float(bias[row].abs()) == 0:
                continue
            error = float(
                (weight[row] / bias[row] - record).abs().max() / record.abs().max().clamp(min=1e-12)
            )
            bench.measured[f"error of the record from {name}"] = error
            if error < _EXACT:
                yield Finding(
                    what=f"the gradient of {name} ({type(layer).__name__}) gives the record with an error of {error:.1g}",
                    evidence={"error": error},
                    reproduction=f"{name}.weight.grad[{row}] / {name}.bias.grad[{row}]",
                )
                return
        if not bench.measured:
            raise NotApplicable("no linear layer with a bias sees the record itself")


@register("check", "label-from-gradient")
class LabelFromGradient(Check):
    """A label that the sign of a gradient shows."""

    looks_at = TorchModel
    card = CheckCard(
        name="label-from-gradient",
        idea="Take the one class whose last bias has a negative gradient, for single records.",
        source=Source(paper="Zhao et al., iDLG, arXiv:2001.02610", year=2020, where="equation 4"),
        title="the signs of an update show the label",
        severity="warning",
        proves="For every record that was tried the class with the negative gradient was the label.",
        cannot=("Models without a bias at their end may show labels otherwise.",),
        consequence="A server that sees a single update of one record learns its label.",
        remedy="Aggregate securely, or use DP-SGD.",
    )

    def run(self, part: TorchModel, bench: Bench) -> Iterator[Finding]:
        """How many labels were read."""
        import torch

        if not isinstance(part.loss, torch.nn.CrossEntropyLoss):
            raise NotApplicable("the rule is that of cross entropy")
        x, y = some_records(part, 8)
        read = []
        for one, label in zip(x, y, strict=True):
            module, gradients = _gradients(part, one[None], label[None])
            outputs = module(one[None]).shape[-1]
            last = [
                gradient
                for name, gradient in gradients.items()
                if name.endswith("bias") and len(gradient) == outputs
            ]
            if not last:
                raise NotApplicable("the module ends in no layer with a bias for each class")
            negative = (last[-1] < 0).nonzero().flatten().tolist()
            read.append(negative == [int(label)])
        bench.measured["labels that were read"] = f"{sum(read)} of {len(read)}"
        if all(read):
            yield Finding(
                what=f"all {len(read)} labels were read off single gradients", evidence={"read": len(read)}
            )


def _has_circuit(module: torch.nn.Module) -> bool:
    """Whether a module holds a circuit of PennyLane, Qiskit or ours."""
    homes = ("pennylane", "qiskit", "qflsec")
    return any(type(part).__module__.startswith(homes) for part in module.modules())

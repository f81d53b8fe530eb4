"""Models: variational circuits, hybrids, baselines and the user's own QNode, behind one interface."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qflsec.base.faces import lazily
from qflsec.models.device_error import benchmark_circuit, device_error

if TYPE_CHECKING:
    from qflsec.models.base import EXACT, Evaluator, Execution, Model
    from qflsec.models.build import build_model
    from qflsec.models.check import (
        ModeReport,
        PerSampleGradientError,
        PerSampleReport,
        check_per_sample_gradients,
    )
    from qflsec.models.classical import Classical, classical_like
    from qflsec.models.fields import Fields, ModelKeys, configured_by
    from qflsec.models.gradients import gradients_and_losses, per_sample_gradients
    from qflsec.models.hybrid import Hybrid
    from qflsec.models.layer import QuantumLayer
    from qflsec.models.layered import Layered
    from qflsec.models.losses import CROSS_ENTROPY, LOSSES, Loss
    from qflsec.models.qiskit_file import build_qiskit
    from qflsec.models.qnode import QNodeModel
    from qflsec.models.torch_model import TorchModel
    from qflsec.models.vqc import Vqc

__all__ = [
    "CROSS_ENTROPY",
    "EXACT",
    "LOSSES",
    "Classical",
    "Evaluator",
    "Execution",
    "Fields",
    "Hybrid",
    "Layered",
    "Loss",
    "ModeReport",
    "Model",
    "ModelKeys",
    "PerSampleGradientError",
    "PerSampleReport",
    "QNodeModel",
    "QuantumLayer",
    "TorchModel",
    "Vqc",
    "benchmark_circuit",
    "build_model",
    "build_qiskit",
    "check_per_sample_gradients",
    "classical_like",
    "configured_by",
    "device_error",
    "gradients_and_losses",
    "per_sample_gradients",
]
__getattr__, __dir__ = lazily(__name__)

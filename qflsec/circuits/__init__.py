"""Circuits: one description, and its executors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qflsec.base.faces import lazily
from qflsec.circuits.derive import derive, refuse_derived, resolve
from qflsec.circuits.from_qiskit import from_qiskit
from qflsec.circuits.to_qiskit import qiskit_observables, to_qiskit

if TYPE_CHECKING:
    from qflsec.circuits.build import build_circuit
    from qflsec.circuits.circuit import Angle, Circuit, Gate, Observable, pauli_z
    from qflsec.circuits.devices import DeviceNoise, on_device, transpiled
    from qflsec.circuits.errors import CircuitError, NotAffine
    from qflsec.circuits.forms import Form
    from qflsec.circuits.from_pennylane import from_qnode
    from qflsec.circuits.kernel import expectations, probabilities, statevector
    from qflsec.circuits.metric import fubini_study, metric_blocks, metric_limits
    from qflsec.circuits.noise import NoiseModel
    from qflsec.circuits.noisy_kernel import noisy_expectations, noisy_probabilities
    from qflsec.circuits.periods import weight_periods
    from qflsec.circuits.sampling import measurement_groups, sample_expectations
    from qflsec.circuits.shift import parameter_shift, shift_count
    from qflsec.circuits.to_pennylane import to_qnode

__all__ = [
    "Angle",
    "Circuit",
    "CircuitError",
    "DeviceNoise",
    "Form",
    "Gate",
    "NoiseModel",
    "NotAffine",
    "Observable",
    "build_circuit",
    "derive",
    "expectations",
    "from_qiskit",
    "from_qnode",
    "fubini_study",
    "measurement_groups",
    "metric_blocks",
    "metric_limits",
    "noisy_expectations",
    "noisy_probabilities",
    "on_device",
    "parameter_shift",
    "pauli_z",
    "probabilities",
    "qiskit_observables",
    "refuse_derived",
    "resolve",
    "sample_expectations",
    "shift_count",
    "statevector",
    "to_qiskit",
    "to_qnode",
    "transpiled",
    "weight_periods",
]
__getattr__, __dir__ = lazily(__name__)

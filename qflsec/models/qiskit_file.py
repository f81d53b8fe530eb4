"""A user's own Qiskit circuit as a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qflsec.base.errors import ConfigError
from qflsec.base.registry import register
from qflsec.circuits.from_qiskit import from_qiskit
from qflsec.models.fields import Fields, ModelKeys, configured_by
from qflsec.models.user_file import load_named
from qflsec.models.vqc import Vqc

__all__ = ["build_qiskit"]


@dataclass(frozen=True, kw_only=True)
class QiskitKeys(ModelKeys):
    """The keys of a Qiskit circuit of your own.

    Attributes:
        path: Its place, as ``"file.py:name"``.
        features_argument: The name of its parameters for a record, where names do not tell.
        observables: What is measured, a Pauli string for each class; those of an EstimatorQNN, or else the
            parity of all qubits, by default.
        n_classes: The number of classes; what the observables say by default.
        scale: What expectation values are multiplied by; what suits the loss by default.
    """

    path: str
    features_argument: str | None = None
    observables: tuple[str, ...] | None = None
    n_classes: int | None = None
    scale: float | None = None


@register("model", "qiskit")
@configured_by(QiskitKeys)
def build_qiskit(config: Mapping[str, object]) -> Vqc:
    """A Qiskit circuit or an EstimatorQNN of your own, from the file that a configuration names.

    The circuit is read once and checked against Qiskit's own state. The model is then a
    :class:`~qflsec.models.Vqc` of that circuit, whose configuration holds the circuit itself.

    Raises:
        ConfigError: The configuration, the file or the circuit cannot be used.
    """
    fields = Fields(config, QiskitKeys)
    if "path" not in fields:
        raise ConfigError(
            "a model 'qiskit' is built from a file", got="no path", fix='add path = "file.py:name"'
        )
    source, _ = load_named(fields.text("path"), "circuit")
    circuit = from_qiskit(
        source,
        features_argument=fields.text("features_argument") if "features_argument" in fields else None,
        observables=fields.texts("observables") if "observables" in fields else None,
    )
    if "n_features" in fields and fields.integer("n_features") != circuit.n_features:
        raise ConfigError(
            "the data have another number of features than the Qiskit circuit",
            got=fields.integer("n_features"),
            expected=circuit.n_features,
            fix="choose 'n_features' of the data",
        )
    loss, count = fields.loss(), len(circuit.observables)
    if "n_classes" in fields and fields.integer("n_classes") != max(2, count):
        raise ConfigError(
            f"the Qiskit circuit has {count} observable{'s' if count > 1 else ''}",
            got=f"n_classes = {fields.integer('n_classes')}",
            expected=max(2, count),
            fix='give one observable for each class: observables = ["IZ", "ZI"]',
        )
    return Vqc(
        circuit=circuit,
        n_classes=max(2, count),
        scale=fields.number("scale") if "scale" in fields else loss.scale,
        loss=loss,
    )

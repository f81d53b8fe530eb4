"""Noise of devices: the channels are those of Aer's density matrix on the transpiled circuit, readout included."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch

from qflsec.base import MissingExtra
from qflsec.circuits import (
    Angle,
    Circuit,
    CircuitError,
    DeviceNoise,
    Gate,
    Observable,
    on_device,
    pauli_z,
    transpiled,
)
from qflsec.circuits.devices import device_table, read_noise_model
from qflsec.models import Execution, Vqc, build_model
from qflsec.models.execute import measure

pytest.importorskip("qiskit_aer", reason="noise models of Aer need the extra 'aer'")
DEVICES = [
    DeviceNoise(device="generic", seed=3),
    DeviceNoise(device="FakeManilaV2"),
    DeviceNoise(device="FakeSherbrooke"),
]


def model(n_qubits: int = 3, layers: int = 2) -> Vqc:
    made = build_model({"name": "vqc", "n_qubits": n_qubits, "layers": layers})
    assert isinstance(made, Vqc)
    return made


def inputs(circuit: Circuit, rows: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    sizes = (circuit.n_weights, circuit.n_features)
    return tuple(6 * torch.rand(rows, size, generator=generator, dtype=torch.float64) for size in sizes)  # type: ignore[return-value]


def by_aer(
    circuit: Circuit, noise: DeviceNoise, weights: torch.Tensor, features: torch.Tensor
) -> list[float]:
    """Values from Aer's own density matrix of the native circuit, read with Aer's own readout errors."""
    from qiskit_aer import AerSimulator
    from qiskit_aer.noise import NoiseModel

    native, ends = transpiled(circuit, noise)
    backend = device_table(noise.device, noise.qubits, noise.seed).backend
    aer = NoiseModel.from_backend(backend)
    values = {"w": weights, "x": features}
    bound = native.assign_parameters(
        {one: float(values[one.vector.name][one.index]) for one in native.parameters}
    )
    used = sorted({bound.find_bit(q).index for one in bound.data for q in one.qubits} | set(ends))
    bound.save_density_matrix([bound.qubits[q] for q in used])
    run = AerSimulator(method="density_matrix", noise_model=aer).run(bound).result()
    chances = np.real(np.diag(np.asarray(run.data(0)["density_matrix"]))).reshape([2] * len(used))
    confusion = {
        e["gate_qubits"][0][0]: np.array(e["probabilities"])
        for e in aer.to_dict()["errors"]
        if e["type"] == "roerror"
    }
    found = []
    for observable in circuit.observables:
        total = 0.0
        for coefficient, word in observable.terms:
            table = chances  # the last axis is the first qubit
            for end, letter in zip(ends, word, strict=True):
                axis = len(used) - 1 - used.index(end)
                sign = confusion[end] @ [1.0, -1.0] if letter == "Z" else np.ones(2)
                shape = [1] * len(used)
                shape[axis] = 2
                table = table * sign.reshape(shape)
            total += coefficient * table.sum()
        found.append(float(total))
    return found


@pytest.mark.parametrize("noise", DEVICES, ids=lambda one: str(one.device))
def test_values_are_those_of_aers_density_matrix(noise: DeviceNoise) -> None:
    if noise.device != "generic" and find_spec("qiskit_ibm_runtime") is None:
        pytest.skip("devices by name need qiskit-ibm-runtime (extra 'hardware')")
    words = Observable(((0.5, "ZIZ"), (-1.5, "IZI"), (0.25, "III")))
    circuit = replace(model().circuit, observables=(pauli_z(0, 3), words))
    weights, features = inputs(circuit)
    for executor in ("torch", "compiled"):
        execution = Execution(noise=noise, dtype="complex128", executor=executor)  # type: ignore[arg-type]
        found = measure(circuit, weights, features, execution, None)
        expected = [by_aer(circuit, noise, w, x) for w, x in zip(weights, features, strict=True)]
        assert np.abs(found.numpy() - np.array(expected)).max() < 1e-9
    exact = measure(circuit, weights, features, Execution(dtype="complex128"), None)
    assert float((found - exact).abs().max()) > 1e-3, "the device has noise"


def test_gradients_and_shots_are_those_of_the_device() -> None:
    circuit, noise = model(2, 1).circuit, DEVICES[0]
    weights, features = inputs(circuit, 1)
    leaf = weights.clone().requires_grad_()
    exact = Execution(noise=noise, dtype="complex128")
    (slope,) = torch.autograd.grad(measure(circuit, leaf, features, exact, None).sum(), leaf)
    shifted = replace(exact, gradient="parameter-shift")
    (by_shift,) = torch.autograd.grad(measure(circuit, leaf, features, shifted, None).sum(), leaf)
    assert torch.allclose(slope, by_shift, atol=1e-9)
    sampled = replace(exact, shots=200_000)
    generator = torch.Generator().manual_seed(1)
    values = measure(circuit, weights, features, sampled, generator)
    assert torch.allclose(values, measure(circuit, weights, features, exact, None), atol=5 / 200_000**0.5)


def test_extrapolation_takes_most_of_the_gates_errors_away() -> None:
    """Readout errors are not stretched and stay, so they are taken out of both sides first."""
    circuit, noise = model().circuit, DEVICES[0]
    weights, features = inputs(circuit, 8)

    def error(execution: Execution) -> float:
        placed, channels = on_device(circuit, noise)
        (read,) = (term for term in channels.at_end if placed.observables[0].terms[0][1][term.wire] == "Z")  # type: ignore[union-attr]
        shift, kept = read.matrix[3, 0], read.matrix[3, 3]  # type: ignore[union-attr]
        exact = measure(circuit, weights, features, Execution(dtype="complex128"), None)
        return float(
            (measure(circuit, weights, features, execution, None) - (kept * exact + shift)).abs().max()
        )

    plain = Execution(noise=noise, dtype="complex128")
    assert error(replace(plain, mitigation="zero-noise")) < 0.25 * error(plain)


def test_two_qubit_errors_of_pauli_words_are_read_as_they_are() -> None:
    """An error that treats its qubits differently shows an exchange of the two."""
    from qiskit_aer.noise import NoiseModel, depolarizing_error, pauli_error

    aer = NoiseModel()
    aer.add_quantum_error(pauli_error([("IX", 0.2), ("II", 0.8)]), ["cx"], [1, 0])  # X on the first qubit, 1
    (error,) = [value for key, value in read_noise_model(aer).gates.items() if key == ("cx", (1, 0))]
    assert error.factors is not None
    factors = error.factors.reshape(4, 4)
    assert factors[3, 0] == pytest.approx(0.6)
    assert factors[0, 3] == pytest.approx(1.0)
    everywhere = NoiseModel()
    everywhere.add_all_qubit_quantum_error(depolarizing_error(0.1, 1), ["x"])
    with pytest.raises(CircuitError, match="without qubits"):
        read_noise_model(everywhere)


def test_channels_of_another_form_are_refused() -> None:
    from qiskit_aer.noise import NoiseModel, coherent_unitary_error

    rotation = np.diag(np.exp(0.1j * np.array([1, -1, -1, 1])))
    aer = NoiseModel()
    aer.add_quantum_error(coherent_unitary_error(rotation), ["cx"], [0, 1])
    with pytest.raises(CircuitError, match="no form that is modelled"):
        read_noise_model(aer)


def test_an_id_has_the_calibration_in_it() -> None:
    def config(**values: Any) -> Any:
        return Execution(noise=DeviceNoise(device="generic", **values)).to_config()["noise"]

    assert config()["digest"] != config(seed=1)["digest"]
    assert config() == config()


def test_what_a_device_cannot_do_is_told() -> None:
    for wrong in ({"qubits": 1}, {"times": 0}, {"seed": -1}):
        with pytest.raises(CircuitError):
            DeviceNoise(device="generic", **wrong)
    with pytest.raises(CircuitError, match="name"):
        DeviceNoise(device="no device")
    small = DeviceNoise(device="generic", qubits=2)
    with pytest.raises(CircuitError, match="larger than"):
        on_device(model(3).circuit, small)
    turned = replace(model(2, 1).circuit, observables=(Observable(((1.0, "XI"),)),))
    with pytest.raises(CircuitError, match="X or Y"):
        on_device(turned, small)
    amplitudes = Circuit(
        n_qubits=1,
        gates=(Gate("AmplitudeEmbedding", (0,), (Angle.feature(0), Angle.feature(1))),),
        observables=(pauli_z(0, 1),),
        n_weights=0,
        n_features=2,
    )
    with pytest.raises(CircuitError, match="amplitude"):
        on_device(amplitudes, small)
    missing = MissingExtra if find_spec("qiskit_ibm_runtime") is None else CircuitError
    with pytest.raises(missing):
        device_table("FakeNothing")

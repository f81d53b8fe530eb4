"""Extrapolation to no noise beside mitiq, which does not install beside the pinned versions: skipped where it is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from qflsec.circuits import NoiseModel
from qflsec.models import Execution, build_model
from qflsec.models.execute import measure

zne = pytest.importorskip("mitiq.zne", reason="mitiq is not installed (it asks for an older NumPy)")


@pytest.mark.parametrize("kind", ["local-depolarizing", "amplitude-damping", "bit-flip"])
def test_the_two_point_rule_is_mitiqs_richardson(kind: str) -> None:
    """The same values at both scales, extrapolated by each."""
    circuit = build_model({"name": "vqc", "n_qubits": 2, "layers": 2}).circuit  # type: ignore[attr-defined]
    generator = torch.Generator().manual_seed(0)
    weights, features = (
        6 * torch.rand(5, size, generator=generator, dtype=torch.float64)
        for size in (circuit.n_weights, circuit.n_features)
    )
    noise = NoiseModel(kind=kind, p=0.05, where="every-gate")
    plain = Execution(noise=noise, dtype="complex128")
    found = measure(circuit, weights, features, replace(plain, mitigation="zero-noise"), None)
    near, far = (
        measure(circuit, weights, features, replace(plain, noise=noise.repeated(times)), None)
        for times in (1, 3)
    )
    for ours, one, three in zip(found.flatten(), near.flatten(), far.flatten(), strict=True):
        theirs = zne.RichardsonFactory.extrapolate([1.0, 3.0], [float(one), float(three)])
        assert float(ours) == pytest.approx(float(theirs), abs=1e-9)

"""Teleportation against density matrices, the error of estimated angles, handles, and the layer in a run."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from qflsec.base import ConfigError, stream
from qflsec.data import DataSpec
from qflsec.federation import FederationConfig, Pipeline, RunResult, RunSpec, Stack, run_batch
from qflsec.models import build_model
from qflsec.protocols.teleport import (
    PairSource,
    Qubits,
    QubitsGone,
    Teleported,
    angle_rmse,
    chsh_value,
    ghz_fidelity,
    haar_fidelity,
    product_fidelity,
    receive,
    send,
)
from qflsec.threat import honest_but_curious_server

Matrix = Any
I2, X, Y, Z = (
    np.array(m, complex) for m in ([[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]])
)
PHI = np.array([1, 0, 0, 1], complex) / math.sqrt(2)


def werner(p: float, tapped: float = 0.0) -> Matrix:
    """The pair, after a share of them was measured at one end in Z or X."""
    pair = p * np.outer(PHI, PHI) + (1 - p) * np.eye(4) / 4
    measured = sum(
        np.kron(projector, I2) @ pair @ np.kron(projector, I2) / 2
        for axis in (Z, X)
        for projector in ((I2 + axis) / 2, (I2 - axis) / 2)
    )
    return (1 - tapped) * pair + tapped * measured


def teleport(rho: Matrix, pair: Matrix) -> tuple[list[float], Matrix]:
    """Bell probabilities, and what arrives after the correction, by partial traces."""
    whole = np.kron(rho, pair)
    probabilities, arrived = [], np.zeros((2, 2), complex)
    for a, b in product((0, 1), repeat=2):
        correction = np.linalg.matrix_power(Z, a) @ np.linalg.matrix_power(X, b)
        bell = np.kron(I2, np.linalg.matrix_power(X, b)) @ PHI
        bell = np.kron(np.linalg.matrix_power(Z, a), I2) @ bell
        onto = np.kron(bell.conj()[None], I2)
        left = onto @ whole @ onto.conj().T
        probabilities.append(float(np.trace(left).real))
        arrived += correction @ left @ correction.conj().T
    return probabilities, arrived


@pytest.mark.parametrize(("p", "tapped"), [(1.0, 0.0), (0.7, 0.0), (0.2, 0.0), (0.9, 0.4)])
def test_a_bloch_vector_shrinks_and_the_bits_are_uniform(p: float, tapped: float) -> None:
    """By p (1 - tapped / 2) in the plane of X and Z, for every angle; the bits say nothing."""
    for angle in np.linspace(-3, 3, 7):
        psi = np.array([math.cos(angle / 2), math.sin(angle / 2)], complex)
        probabilities, arrived = teleport(np.outer(psi, psi), werner(p, tapped))
        assert probabilities == pytest.approx([0.25] * 4, abs=1e-12)
        shrunk = p * (1 - tapped / 2)
        assert np.trace(Z @ arrived).real == pytest.approx(shrunk * math.cos(angle), abs=1e-12)
        assert np.trace(X @ arrived).real == pytest.approx(shrunk * math.sin(angle), abs=1e-12)
        assert PairSource(p=p, tapped=tapped).pairs().spend() == pytest.approx(shrunk, rel=1e-6)


@pytest.mark.parametrize("p", [1.0, 0.8, 0.3])
@pytest.mark.parametrize("n", [2, 3])
def test_fidelities_have_their_closed_forms(p: float, n: int) -> None:
    """Against the channel's Kraus operators, each qubit by itself."""
    one = [math.sqrt((1 + 3 * p) / 4) * I2, *(math.sqrt((1 - p) / 4) * m for m in (X, Y, Z))]
    kraus = []
    for chosen in product(one, repeat=n):
        operator = np.eye(1)
        for each in chosen:
            operator = np.kron(operator, each)
        kraus.append(operator)

    def fidelity(psi: Matrix) -> float:
        return float(sum(abs(psi.conj() @ k @ psi) ** 2 for k in kraus))

    ghz = np.zeros(2**n, complex)
    ghz[[0, -1]] = 1 / math.sqrt(2)
    assert ghz_fidelity(p, n) == pytest.approx(fidelity(ghz), abs=1e-12)
    rng = np.random.default_rng(0)
    state = np.eye(1)[0]
    for _ in range(n):
        draw = rng.normal(size=2) + 1j * rng.normal(size=2)
        state = np.kron(state, draw / np.linalg.norm(draw))
    assert product_fidelity(p, n) == pytest.approx(fidelity(state), abs=1e-12)
    d = 2**n
    mean = sum(float(abs(np.trace(k)) ** 2 + np.trace(k.conj().T @ k).real) for k in kraus) / (d * (d + 1))
    assert haar_fidelity(p, n) == pytest.approx(mean, abs=1e-12)


def estimated(angles: torch.Tensor, copies: int, source: PairSource, seed: int) -> torch.Tensor:
    generator = stream(seed, "nature")
    each = angles[:, None].expand(-1, copies // 2)

    def draws() -> torch.Tensor:
        return torch.rand(each.shape, generator=generator, dtype=torch.float64)

    (bits, in_z), (_, in_x) = (send(each, source, draws()) for _ in range(2))
    assert float(bits.double().mean()) == pytest.approx(0.5, abs=0.02)
    return receive(in_z, in_x, (draws(), draws()))


@pytest.mark.parametrize("p", [1.0, 0.8, 0.5])
def test_the_error_of_an_angle_is_that_of_the_formula(p: float) -> None:
    angles = 2 * math.pi * torch.rand(2000, generator=stream(1, "angles"), dtype=torch.float64) - math.pi
    off = estimated(angles, 200, PairSource(p=p), 2) - angles
    off = torch.remainder(off + math.pi, 2 * math.pi) - math.pi
    assert float(off.square().mean().sqrt()) == pytest.approx(angle_rmse(p, 200), rel=0.07)
    assert abs(float(off.mean())) < 5 * angle_rmse(p, 200) / math.sqrt(2000)


def test_chsh_finds_the_man_in_the_middle() -> None:
    draws = torch.rand(4, 20000, generator=stream(0, "chsh"), dtype=torch.float64)
    for source in (PairSource(), PairSource(p=0.9), PairSource(p=0.9, tapped=1.0)):
        error = 4 / math.sqrt(20000)
        assert source.chsh(draws) == pytest.approx(chsh_value(source.p, tapped=source.tapped), abs=2 * error)
    assert PairSource(p=0.9).chsh(draws) > 2 > PairSource(p=0.9, tapped=1.0).chsh(draws)


def test_qubits_are_handles_that_are_used_once() -> None:
    draws = torch.rand(3, generator=stream(0, "d"))
    qubits, pairs = Qubits.prepare(torch.rand(3)), PairSource().pairs()
    _, sent = qubits.through(pairs, draws)
    sent.measure("Z", draws)
    with pytest.raises(QubitsGone, match="are gone"):
        sent.measure("X", draws)
    with pytest.raises(QubitsGone, match="are gone"):
        qubits.measure("Z", draws)
    with pytest.raises(QubitsGone, match="are gone"):
        Qubits.prepare(torch.rand(3)).through(pairs, draws)
    assert not [name for name in dir(sent) if not name.startswith("_") and not callable(getattr(sent, name))]


MODEL = build_model({"name": "vqc", "n_qubits": 2, "layers": 1, "n_features": 2})


def run(*layers: Teleported, seeds: tuple[int, ...] = (0,)) -> list[RunResult]:
    pipeline = Pipeline(
        data=DataSpec(name="breast-cancer", n_features=2, members=12, nonmembers=0, auxiliary=10, test=10),
        model=MODEL,
        federation=FederationConfig(n_clients=3, rounds=2, learning_rate=0.3),
    )
    results = run_batch(pipeline, Stack(name="s", client=layers), [RunSpec(seed=seed) for seed in seeds])
    assert [one.outcome for one in results] == ["completed"] * len(seeds)
    return results


def test_without_an_end_of_copies_it_is_federated_averaging() -> None:
    (plain,) = run()
    assert torch.equal(run(Teleported(copies=None))[0].params, plain.params)
    few, many = (float((run(Teleported(copies=k))[0].params - plain.params).norm()) for k in (20, 20000))
    assert many < 0.05 < few
    # a longer span spreads the same errors further, and a short one clips
    wide, short = (run(Teleported(copies=20000, span=span))[0].params - plain.params for span in (30.0, 0.01))
    assert float(wide.norm()) > 4 * many
    assert float(short.norm()) > 0.05
    assert float((short + plain.params - plain.initial).abs().max()) < 2.2 * 0.01


def test_batched_is_single_bit_for_bit() -> None:
    layer = Teleported(copies=20, p=0.8)
    together = run(layer, seeds=(0, 1, 2))
    assert torch.equal(run(layer, seeds=(1,))[0].params, together[1].params)
    assert not torch.equal(together[0].params, together[1].params)


def test_the_ledger_has_a_cap_and_no_epsilon() -> None:
    (result,) = run(Teleported(copies=20))
    rows = [row for row in result.ledger(honest_but_curious_server()) if row.layer == "teleported"]
    assert [row.guarantee for row in rows] == ["not covered"]
    assert f"at most {20 * MODEL.n_params:,} bits" in rows[0].statement
    assert rows[0].epsilon is None
    (endless,) = run(Teleported(copies=None))
    (row,) = (row for row in endless.ledger(honest_but_curious_server()) if row.layer == "teleported")
    assert "no cap" in row.statement


@pytest.mark.parametrize(
    "values", [{"copies": 3}, {"copies": 0}, {"p": 0.0}, {"p": 1.5}, {"tapped": 2.0}, {"span": 0.0}]
)
def test_values_out_of_range_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Teleported(**values)

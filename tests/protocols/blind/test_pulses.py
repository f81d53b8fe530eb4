"""Pulses of several photons, the joint projection, and qubits that are sent up front."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.base import SeededSecrets
from qflsec.circuits import build_circuit
from qflsec.protocols.blind import (
    AngleGrid,
    BlindClient,
    BlindError,
    PulsedSource,
    QuantumChannel,
    QuantumServer,
    compile_patterns,
    node_angles,
    plan_order,
    play,
)
from qflsec.protocols.blind.qubits import entangle, measure, project, spare_photons

N = 20_000
SIGMA = 4.4


def basis(channel: QuantumChannel, bits: np.ndarray) -> object:
    return channel.send(np.zeros(len(bits)), bits.astype(np.int8))


@given(mean=st.floats(1e-3, 5), transmittance=st.floats(0.01, 1), line=st.sampled_from(["lossy", "split"]))
@settings(max_examples=60, deadline=None)
def test_photon_numbers_are_a_distribution_of_kept_pulses(
    mean: float, transmittance: float, line: str
) -> None:
    """It sums to one without the vacuum; splitting never leaks less; all pulses that are kept were expected."""
    source = PulsedSource(mean_photons=mean, transmittance=transmittance)
    photons = source.photons(line)  # type: ignore[arg-type]
    assert photons[0] == 0
    assert sum(photons) == pytest.approx(1, abs=1e-9)
    assert source.leaked("split") >= source.leaked("lossy") - 1e-9
    single, several = source.shares()
    both = single * source.emitted(1) + several * (1 - source.emitted(0) - source.emitted(1))
    assert both == pytest.approx(source.kept, rel=1e-6)


def test_leaks_by_hand() -> None:
    """No loss: P(n > 1 | n > 0). Much loss: every kept pulse can have several photons."""
    source = PulsedSource(mean_photons=0.2)
    several = 1 - 1.2 * math.exp(-0.2)
    for line in ("lossy", "split"):
        assert source.leaked(line) == pytest.approx(several / -math.expm1(-0.2))
    assert PulsedSource(mean_photons=0.2, transmittance=0.05).leaked("split") == pytest.approx(1)
    lossy = PulsedSource(mean_photons=0.2, transmittance=0.05).leaked("lossy")
    assert lossy == pytest.approx(0.005, rel=0.01)


@pytest.mark.parametrize(
    "values", [{"mean_photons": 0}, {"mean_photons": 20}, {"mean_photons": 1, "transmittance": 0}]
)
def test_impossible_sources_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(BlindError):
        PulsedSource(**values)


def test_spare_photons_are_copies_and_leave_the_pulse_once() -> None:
    channel = QuantumChannel(1, pulses=PulsedSource(mean_photons=2.0))
    theta = np.random.default_rng(0).uniform(0, 2 * np.pi, N)
    qubits = channel.send(theta, np.full(N, -1, dtype=np.int8))
    photons, spares = spare_photons(qubits)
    assert photons is not None
    assert photons.min() == 1
    assert len(spares) == photons.max() - 1
    assert spare_photons(qubits)[1] == []
    for k, spare in enumerate(spares[:3]):
        there = photons > k + 1
        outcome = measure(spare, theta)
        assert (outcome[there] == 0).all()
        rest = outcome[~there]
        assert abs(rest.mean() - 0.5) < SIGMA * 0.5 / math.sqrt(len(rest))
    assert (measure(qubits, theta) == 0).all()


def test_a_source_of_single_photons_has_no_spares() -> None:
    channel = QuantumChannel(1)
    assert spare_photons(channel.send(np.zeros(3), np.full(3, -1, dtype=np.int8))) == (None, [])


def test_a_projection_finds_basis_states_and_leaves_them() -> None:
    channel = QuantumChannel(2)
    bits = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 50).T
    a, b = (basis(channel, row) for row in bits)
    assert (project([[a, b]]) == (bits.sum(axis=0) == 0)).all()  # type: ignore[list-item]
    assert (project([[a], [b]]) == (bits.min(axis=0) == 0)).all()  # type: ignore[list-item]
    probe = channel.send(np.zeros(200), np.full(200, -1, dtype=np.int8))
    entangle(probe, a)  # type: ignore[arg-type]
    assert (measure(probe, np.zeros(200)) == bits[0]).all()


def test_a_projection_follows_born_and_disturbs_as_little_as_it_must() -> None:
    """On |+>|+>: yes with 1/4; after no, |+> of the first is found with 5/6; twice asked is once asked."""
    channel = QuantumChannel(3)
    a, b = (channel.send(np.zeros(N), np.full(N, -1, dtype=np.int8)) for _ in range(2))
    yes = project([[a, b]])
    assert abs(yes.mean() - 0.25) < SIGMA * math.sqrt(0.25 * 0.75 / N)
    assert (project([[a, b]]) == yes).all()
    plus = measure(a, np.zeros(N))[yes == 0] == 0
    assert abs(plus.mean() - 5 / 6) < SIGMA * math.sqrt(5 / 36 / len(plus))


def test_qubits_up_front_give_the_same_results() -> None:
    """A circuit with a certain outcome, and tests that all pass: only when qubits are sent differs."""
    circuit = build_circuit(n_qubits=2, layers=1, ansatz="ry-cz")
    (delegation,) = compile_patterns(circuit)
    graph, grid, secrets = delegation.pattern.graph, AngleGrid(), SeededSecrets(1)
    angles = node_angles(delegation.pattern, np.zeros((1, 2)), np.zeros((1, 2)))
    client = BlindClient(
        pattern=delegation.pattern,
        angles=grid.to_grid(angles),
        plan=plan_order(secrets, rows=1, shots=200, tests=200, colours=graph.n_colours),
        grid=grid,
        secrets=secrets,
        channel=QuantumChannel(1),
    )
    most = 0

    class Counting(QuantumServer):
        def receive(self, node: int, qubits: object) -> None:
            nonlocal most
            super().receive(node, qubits)  # type: ignore[arg-type]
            most = max(most, len(self.qubits))

    play(client, Counting(graph, grid), graph, upfront=True)
    assert most == graph.n_nodes
    assert client.failures() == 0
    assert not client.outcomes(1).any()
    assert next(new for new, _ in graph.arrivals(upfront=True)) == graph.order

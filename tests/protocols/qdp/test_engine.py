"""The engine against closed forms, brute force and published values."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import numpy as np
import pennylane as qml
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit.quantum_info import Kraus, SuperOp, random_quantum_channel
from scipy import optimize

from qflsec.protocols.qdp import (
    Channel,
    QdpError,
    certified_kappa,
    delta_of_epsilon,
    epsilon_of_kappa,
    from_pennylane,
    from_qiskit,
    from_qiskit_model,
    identity,
    kappa_of_epsilon,
    noise_by_name,
    pure_epsilon,
    search_kappa,
    unitary,
)
from qflsec.protocols.qdp import closed_forms as forms
from qflsec.protocols.qdp.noise import (
    amplitude_damping,
    bit_flip,
    depolarizing,
    generalized_amplitude_damping,
    global_depolarizing,
    pennylane_depolarizing_probability,
    phase_damping,
    thermal_relaxation,
)

P = 0.1
CASES = [
    *((f"global {n}", global_depolarizing(n, P), forms.kappa_global_depolarizing(n, P)) for n in (1, 2, 3)),
    *((f"local {n}", depolarizing(P).everywhere(n), forms.kappa_local_depolarizing(n, P)) for n in (1, 2)),
    *(
        (
            f"gad {g} {w}",
            generalized_amplitude_damping(g, w),
            forms.kappa_generalized_amplitude_damping(g, w),
        )
        for g, w in ((0.3, 0.75), (0.3, 0.5), (0.7, 0.9), (0.2, 0.1))
    ),
    *(
        (
            f"phase-amplitude {g} {lam}",
            generalized_amplitude_damping(g, 0.5).then(phase_damping(lam)),
            forms.kappa_phase_amplitude_damping(g, lam),
        )
        for g, lam in ((0.3, 0.6), (0.6, 0.3))
    ),
]


@pytest.mark.parametrize(("channel", "kappa"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_the_search_finds_the_closed_form_from_random_starts(channel: Channel, kappa: float) -> None:
    assert search_kappa(channel, seed=3).value == pytest.approx(kappa, rel=1e-8)


@pytest.mark.slow
def test_the_search_finds_local_noise_on_three_qubits() -> None:
    channel = depolarizing(P).everywhere(3)
    assert search_kappa(channel).value == pytest.approx(forms.kappa_local_depolarizing(3, P), rel=1e-8)


@pytest.mark.parametrize(("channel", "kappa"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_the_certificate_is_above_and_close(channel: Channel, kappa: float) -> None:
    upper = certified_kappa(channel)
    assert kappa <= upper < kappa * (1 + 1e-6)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6))
def test_the_certificate_of_one_qubit_is_tight_and_above(seed: int) -> None:
    channel = from_qiskit(random_quantum_channel(2, 2, rank=3, seed=seed)).then(depolarizing(0.1))
    found, upper = search_kappa(channel, seed=seed).value, certified_kappa(channel)
    assert found <= upper <= found * (1 + 1e-7)


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 10**6))
def test_the_certificate_of_two_qubits_is_above_every_search(seed: int) -> None:
    channel = from_qiskit(random_quantum_channel(4, 4, rank=3, seed=seed)).then(global_depolarizing(2, 0.2))
    assert search_kappa(channel, starts=4, seed=seed).value <= certified_kappa(channel)


def test_a_product_whose_certificate_is_not_tight_is_no_exact_result() -> None:
    channel = generalized_amplitude_damping(0.3, 0.75).everywhere(2)
    found = pure_epsilon(channel, 0.1)
    assert found.status == "lower bound"
    assert found.epsilon < found.upper < math.inf
    assert found.kappa == pytest.approx(forms.kappa_generalized_amplitude_damping(0.3, 0.75) ** 2, rel=1e-8)


@pytest.mark.parametrize(
    "channel",
    [
        identity(1),
        amplitude_damping(0.3),
        phase_damping(0.3),
        bit_flip(0.1),
        amplitude_damping(0.4).then(phase_damping(0.3)),
        thermal_relaxation(t1=50, t2=40, duration=10, excited=0.0),
        depolarizing(0.1).on((0,), 2),
    ],
)
@pytest.mark.parametrize("adjacency", ["all", "pure"])
def test_noise_that_leaves_an_outcome_impossible_has_no_pure_epsilon(
    channel: Channel, adjacency: Any
) -> None:
    found = pure_epsilon(channel, 0.1, adjacency=adjacency)
    assert math.isinf(found.epsilon)
    first, second = found.witness.chances(channel)
    assert first > 1e-6
    assert second < 1e-9
    assert found.witness.distance == pytest.approx(0.1)


def test_thermal_relaxation_with_excited_population_is_finite() -> None:
    channel = thermal_relaxation(t1=50, t2=40, duration=10, excited=0.1)
    found = pure_epsilon(channel, 0.1)
    assert found.status == "exact"
    assert 0 < found.epsilon < 3


# values of kappa, epsilon and delta that were published or worked out independently
def test_check_values() -> None:
    kappa = forms.kappa_global_depolarizing(2, P)
    assert kappa == pytest.approx(37)
    assert epsilon_of_kappa(kappa, 1.0) == pytest.approx(3.610918, abs=5e-7)
    assert epsilon_of_kappa(kappa, 0.1) == pytest.approx(1.526056, abs=5e-7)
    assert forms.kappa_local_depolarizing(2, P) == pytest.approx(361)
    gad = forms.kappa_generalized_amplitude_damping(0.3, 0.75)
    assert gad == pytest.approx(14.37488, abs=5e-6)
    assert epsilon_of_kappa(gad, 0.1) == pytest.approx(0.849077, abs=5e-7)
    assert forms.kappa_phase_amplitude_damping(0.3, 0.6) == pytest.approx(5.666667, abs=5e-7)
    one = forms.kappa_global_depolarizing(1, P)
    assert epsilon_of_kappa(one, 0.1, adjacency="pure") == pytest.approx(0.410069, abs=5e-7)
    assert epsilon_of_kappa(one, 1.0, adjacency="pure") == pytest.approx(math.log(19))
    assert forms.delta_global_depolarizing(1, 0.3, 0.1, 0.5) == pytest.approx(0.334224, abs=5e-7)


def test_published_formulas_that_are_loose_or_false() -> None:
    """Loose: the local bound. Unsafe: amplitude damping away from P = 1/2, and dephasing beyond damping."""
    true = search_kappa(depolarizing(P).everywhere(2)).value
    assert forms.published_kappa_local_depolarizing(2, P) == pytest.approx(397)
    assert forms.published_kappa_local_depolarizing(2, P) > true * 1.05
    gad = search_kappa(generalized_amplitude_damping(0.3, 0.75)).value
    assert forms.published_kappa_generalized_amplitude_damping(0.3) < gad * 0.8
    assert epsilon_of_kappa(forms.published_kappa_generalized_amplitude_damping(0.3), 0.1) == pytest.approx(
        0.705293, abs=5e-7
    )
    phase = search_kappa(generalized_amplitude_damping(0.3, 0.5).then(phase_damping(0.6))).value
    assert forms.published_kappa_phase_amplitude_damping(0.3, 0.6) == pytest.approx(3.24764, abs=5e-6)
    assert forms.published_kappa_phase_amplitude_damping(0.3, 0.6) < phase * 0.6


def test_a_fixed_measurement_tells_less_and_both_outcomes_count() -> None:
    z = np.diag([1.0, 0.0]).astype(complex)
    one = np.kron(z, np.eye(2))
    balanced = pure_epsilon(global_depolarizing(2, P), 0.1, measurement=(one, np.eye(4) - one))
    assert balanced.status == "exact"
    assert balanced.kappa == pytest.approx((2 - P) / P)
    rare = np.zeros((4, 4), dtype=complex)
    rare[3, 3] = 1
    skew = pure_epsilon(global_depolarizing(2, P), 0.1, measurement=(np.eye(4) - rare, rare))
    assert skew.kappa == pytest.approx(forms.kappa_projector_under_global_depolarizing(2, 1, P))
    with pytest.raises(QdpError, match="identity"):
        pure_epsilon(global_depolarizing(2, P), 0.1, measurement=(one,))


def random_states(rng: np.random.Generator, count: int, rank: int) -> np.ndarray:
    raw = rng.normal(size=(count, 2, rank)) + 1j * rng.normal(size=(count, 2, rank))
    rho = np.einsum("rab,rcb->rac", raw, raw.conj())
    return rho / np.trace(rho, axis1=1, axis2=2)[:, None, None]


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), tau=st.floats(0.02, 1.0), rank=st.sampled_from([1, 2]))
def test_no_pair_of_states_exceeds_epsilon(seed: int, tau: float, rank: int) -> None:
    """Pure pairs against the pure adjacency, mixed pairs against all; random effects on one qubit."""
    rng = np.random.default_rng(seed)
    channel = generalized_amplitude_damping(0.4, 0.7).then(depolarizing(0.05))
    adjacency: Any = "pure" if rank == 1 else "all"
    found = pure_epsilon(channel, tau, adjacency=adjacency)
    rho, sigma = random_states(rng, 4000, rank), random_states(rng, 4000, rank)
    before = channel.adjoint(random_states(rng, 4000, 1))
    near = np.abs(np.linalg.eigvalsh(rho - sigma)).sum(axis=1) / 2 <= tau
    first, second = (np.einsum("rab,rba->r", before, state).real for state in (rho, sigma))
    assert np.log(first[near] / second[near]).max(initial=0.0) <= found.upper + 1e-9


@pytest.mark.parametrize("adjacency", ["all", "pure"])
@pytest.mark.parametrize("tau", [0.05, 0.5, 1.0])
def test_the_witness_attains_epsilon(adjacency: Any, tau: float) -> None:
    for channel in (global_depolarizing(2, 0.2), generalized_amplitude_damping(0.3, 0.75)):
        found = pure_epsilon(channel, tau, adjacency=adjacency)
        assert found.check() == pytest.approx(found.epsilon, rel=1e-8)
        assert found.witness.distance == pytest.approx(tau)
        if adjacency == "pure":
            for state in (found.witness.rho, found.witness.sigma):
                assert np.trace(state @ state).real == pytest.approx(1)


def bloch(vector: np.ndarray) -> np.ndarray:
    x, y, z = vector
    return np.array([[1 + z, x - 1j * y], [x + 1j * y, 1 - z]]) / 2


def brute_delta(channel: Channel, epsilon: float, tau: float, rng: np.random.Generator) -> float:
    """Over mixed pairs on one qubit, by local optimisation of their Bloch vectors from random starts."""

    def negative(x: np.ndarray) -> float:
        sigma, rho = (v / max(1.0, float(np.linalg.norm(v))) for v in (x[:3], x[3:]))
        length = float(np.linalg.norm(rho - sigma))
        rho = sigma + (rho - sigma) * min(1.0, 2 * tau / max(length, 1e-12))
        difference = channel(bloch(rho)) - math.exp(epsilon) * channel(bloch(sigma))
        return -float(np.clip(np.linalg.eigvalsh(difference), 0, None).sum())

    found = [
        optimize.minimize(
            negative,
            rng.normal(size=6),
            method="Nelder-Mead",
            options={"xatol": 1e-11, "fatol": 1e-13, "maxiter": 2500},
        )
        for _ in range(6)
    ]
    best = min(found, key=lambda one: float(one.fun))
    for _ in range(6):
        again = optimize.minimize(
            negative,
            best.x + rng.normal(size=6) * 1e-3,
            method="Nelder-Mead",
            options={"xatol": 1e-12, "fatol": 1e-14, "maxiter": 2500},
        )
        best = min(best, again, key=lambda one: float(one.fun))
    return -float(best.fun)


@pytest.mark.parametrize(
    ("channel", "epsilon", "tau"),
    [
        (depolarizing(0.3), 0.1, 0.5),
        (generalized_amplitude_damping(0.3, 0.75), 0.3, 0.4),
        (amplitude_damping(0.4), 0.5, 0.7),
        (phase_damping(0.5), 0.2, 0.3),
        (generalized_amplitude_damping(0.2, 0.6).then(phase_damping(0.3)), 0.05, 1.0),
    ],
)
def test_delta_equals_brute_force_over_mixed_pairs(channel: Channel, epsilon: float, tau: float) -> None:
    found = delta_of_epsilon(channel, epsilon, tau)
    assert found.delta == pytest.approx(
        brute_delta(channel, epsilon, tau, np.random.default_rng(1)), abs=2e-7
    )
    assert found.check() == pytest.approx(found.delta)
    assert found.witness.distance == pytest.approx(tau)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_delta_of_depolarising_noise(n: int) -> None:
    expected = forms.delta_global_depolarizing(n, 0.3, 0.2, 0.4)
    found = delta_of_epsilon(global_depolarizing(n, 0.3), 0.2, 0.4, known_delta=expected)
    assert found.delta == pytest.approx(expected, rel=1e-8)
    assert found.status == "exact"


def test_delta_of_a_fixed_measurement_tries_sets_of_outcomes() -> None:
    effects = [np.diag(row).astype(complex) for row in np.eye(4)]
    channel = depolarizing(0.2).everywhere(2)
    exact = delta_of_epsilon(channel, 0.1, 0.5, measurement=effects)
    assert exact.status == "exact"
    single = max(delta_of_epsilon(channel, 0.1, 0.5, measurement=(e, np.eye(4) - e)).delta for e in effects)
    assert exact.delta >= single
    assert exact.delta <= delta_of_epsilon(channel, 0.1, 0.5).delta + 1e-12
    with pytest.raises(QdpError, match="outcomes"):
        delta_of_epsilon(identity(4), 0.1, 0.5, measurement=[np.diag(r).astype(complex) for r in np.eye(16)])


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), p=st.floats(0.05, 0.5))
def test_post_processing_and_more_noise_never_raise_epsilon(seed: int, p: float) -> None:
    before = depolarizing(p)
    after = before.then(from_qiskit(random_quantum_channel(2, 2, seed=seed)))
    assert pure_epsilon(after, 0.3).epsilon <= pure_epsilon(before, 0.3).epsilon * (1 + 1e-9)
    assert search_kappa(depolarizing(min(1.0, p * 1.1))).value <= search_kappa(before).value


@settings(deadline=None, max_examples=50)
@given(kappa=st.floats(1.001, 1e6), tau=st.floats(0.01, 0.99), adjacency=st.sampled_from(["all", "pure"]))
def test_epsilon_grows_with_tau_and_kappa_and_inverts(kappa: float, tau: float, adjacency: Any) -> None:
    epsilon = epsilon_of_kappa(kappa, tau, adjacency=adjacency)
    assert epsilon <= epsilon_of_kappa(kappa, min(1.0, tau * 1.01), adjacency=adjacency)
    assert epsilon <= epsilon_of_kappa(kappa * 1.01, tau, adjacency=adjacency)
    assert kappa_of_epsilon(epsilon, tau, adjacency=adjacency) == pytest.approx(kappa, rel=1e-9)
    assert epsilon_of_kappa(kappa, tau, adjacency="pure") <= epsilon_of_kappa(kappa, tau) + 1e-12


def test_composition_of_copies_is_product_of_channels() -> None:
    """Two copies of a pair under two uses of the channel: at most twice epsilon, and attained."""
    one = pure_epsilon(depolarizing(0.2), 1.0)
    two = pure_epsilon(depolarizing(0.2).everywhere(2), 1.0)
    assert two.epsilon == pytest.approx(2 * one.epsilon, rel=1e-8)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_contraction_of_the_trace_distance(p: float) -> None:
    """Nuradha and Wilde, arXiv:2406.18651: at most tanh(epsilon / 2); depolarising noise attains it on a qubit."""
    epsilon = pure_epsilon(depolarizing(p), 1.0).epsilon
    assert math.tanh(epsilon / 2) == pytest.approx(1 - p)


def test_conventions_of_other_libraries() -> None:
    q = 0.1
    assert search_kappa(from_pennylane(qml.DepolarizingChannel(q, wires=0))).value == pytest.approx(14)
    assert search_kappa(from_pennylane(qml.DepolarizingChannel(0.3, wires=0))).value == pytest.approx(4)
    assert pennylane_depolarizing_probability(4 * q / 3) == pytest.approx(q)
    gad = from_pennylane(qml.GeneralizedAmplitudeDamping(0.3, 0.25, wires=0))  # its p is the weight of |1>
    assert np.allclose(gad.choi, generalized_amplitude_damping(0.3, 0.75).choi)
    assert np.allclose(from_pennylane(qml.PhaseDamping(0.3, wires=0)).choi, phase_damping(0.3).choi)
    relaxed = from_pennylane(qml.ThermalRelaxationError(0.1, 50.0, 40.0, 10.0, wires=0))
    assert np.allclose(relaxed.choi, thermal_relaxation(t1=50, t2=40, duration=10, excited=0.1).choi)
    hadamard = from_pennylane(qml.Hadamard(0))
    assert np.allclose(hadamard.choi, unitary(np.array([[1, 1], [1, -1]]) / math.sqrt(2)).choi)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_pennylanes_generalized_amplitude_damping_counts_the_weight_of_one(p: float) -> None:
    """At gamma = 1 every state goes to one with weight p on |1>, by PennyLane's simulator."""

    @qml.qnode(qml.device("default.mixed", wires=1))
    def relaxed() -> Any:
        qml.RX(0.7, 0)
        qml.GeneralizedAmplitudeDamping(1.0, p, wires=0)
        return qml.probs(0)

    assert np.allclose(relaxed(), [1 - p, p])
    ours = noise_by_name(f"generalized-amplitude-damping:gamma=1,ground={1 - p}", 1)
    assert np.allclose(ours.channel(np.full((2, 2), 0.5))[1, 1], p)
    assert "p = 1 - ground" in ours.convention


LONG = [(50.0, 40.0, 5e4), (50.0, 50.0, 5e4), (50.0, 80.0, 5e3), (50.0, 100.0, 5e3)]


@pytest.mark.parametrize(("t1", "t2", "duration"), LONG)
def test_pennylanes_long_relaxation_is_refused_and_ours_is_a_channel(
    t1: float, t2: float, duration: float
) -> None:
    """PennyLane's matrices are NaN for t2 <= t1 and lose the trace for longer t2; the truth is the thermal state."""
    with pytest.warns(RuntimeWarning) if t2 <= t1 else nullcontext():
        theirs = qml.ThermalRelaxationError(0.1, t1, t2, duration, wires=0)
        with pytest.raises(QdpError, match="no channel"):
            from_pennylane(theirs)
    ours = thermal_relaxation(t1=t1, t2=t2, duration=duration, excited=0.1)
    for state in (np.diag([1, 0]), np.diag([0, 1]), np.full((2, 2), 0.5)):
        assert np.allclose(ours(state), np.diag([0.9, 0.1]), atol=1e-12)


@pytest.mark.parametrize("ratio", [0.1, 0.8, 1.0, 1.6, 2.0])
@pytest.mark.parametrize("duration", [0.0, 1e-9, 0.01, 1.0, 30.0, 1e3, 1e9, 1e300])
def test_thermal_relaxation_is_a_channel_for_all_times(ratio: float, duration: float) -> None:
    """Populations relax with exp(-t / t1), coherences with exp(-t / t2), in exact arithmetic of the exponents."""
    excited, t1 = 0.2, 0.7
    channel = thermal_relaxation(t1=t1, t2=ratio * t1, duration=duration, excited=excited)
    found = channel(np.array([[0.25, 0.3], [0.3, 0.75]], dtype=complex))
    left = math.exp(-duration / t1)
    assert found[1, 1].real == pytest.approx(excited + (0.75 - excited) * left, abs=1e-12)
    assert np.trace(found).real == pytest.approx(1, abs=1e-12)
    assert found[0, 1].real == pytest.approx(0.3 * math.exp(-duration / (ratio * t1)), abs=1e-9)


@pytest.mark.parametrize(
    "wrong", [{"duration": math.inf}, {"t1": math.inf, "t2": 1.0}, {"t2": 101.0}, {"duration": math.nan}]
)
def test_times_of_no_qubit_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(QdpError, match="bad times"):
        thermal_relaxation(**{"t1": 50.0, "t2": 40.0, "duration": 10.0, "excited": 0.1, **wrong})


def test_qiskit_counts_qubits_from_the_other_end() -> None:
    noise = depolarizing(0.2).on((0,), 2)
    as_qiskit = Kraus([np.kron(np.eye(2), k) for k in depolarizing(0.2).kraus])  # Qiskit's qubit 0 is last
    assert np.allclose(from_qiskit(as_qiskit).choi, noise.choi)
    assert np.allclose(from_qiskit(SuperOp(as_qiskit)).choi, noise.choi)
    with pytest.raises(QdpError, match="no channel"):
        from_qiskit("noise")


def test_noise_models_of_aer() -> None:
    """Aer's depolarising parameter is the literature's; an error of certain qubits comes before the general one."""
    noise = pytest.importorskip("qiskit_aer.noise")
    model = noise.NoiseModel()
    model.add_all_qubit_quantum_error(noise.depolarizing_error(P, 1), ["rx", "ry"])
    model.add_quantum_error(noise.depolarizing_error(0.3, 1), ["rx"], [1])
    model.add_all_qubit_quantum_error(noise.depolarizing_error(0.2, 2), ["cx"])
    model.add_all_qubit_readout_error([[0.9, 0.1], [0.2, 0.8]])
    assert search_kappa(from_qiskit_model(model, "rx")).value == pytest.approx(19)
    assert search_kappa(from_qiskit_model(model, "rx", [1])).value == pytest.approx(1 + 2 * 0.7 / 0.3)
    assert search_kappa(from_qiskit_model(model, "rx", [0])).value == pytest.approx(19)
    two = from_qiskit_model(model, "cx", (0, 1))
    assert np.allclose(two.choi, global_depolarizing(2, 0.2).choi)
    relaxed = noise.thermal_relaxation_error(50.0, 40.0, 10.0, excited_state_population=0.1)
    assert np.allclose(
        from_qiskit(relaxed).choi, thermal_relaxation(t1=50, t2=40, duration=10, excited=0.1).choi
    )
    with pytest.raises(QdpError, match="no error after 'h'"):
        from_qiskit_model(model, "h")


def test_channels_that_are_none_are_refused() -> None:
    with pytest.raises(QdpError, match="preserve the trace"):
        Channel((np.eye(2) / 2,))
    with pytest.raises(QdpError, match="Kraus"):
        Channel((np.eye(3),))
    with pytest.raises(QdpError, match="wires"):
        depolarizing(0.1).on((2,), 2)
    with pytest.raises(QdpError, match="different size"):
        depolarizing(0.1).then(identity(2))
    with pytest.raises(QdpError, match="'p'"):
        depolarizing(1.2)
    with pytest.raises(QdpError, match="tau"):
        pure_epsilon(depolarizing(0.1), 0.0)
    with pytest.raises(QdpError, match="adjacency"):
        epsilon_of_kappa(2.0, 0.5, adjacency="some")  # type: ignore[arg-type]


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_fewer_kraus_operators_are_the_same_channel(seed: int) -> None:
    channel = (
        from_qiskit(random_quantum_channel(2, 2, seed=seed)).then(depolarizing(0.3)).then(phase_damping(0.1))
    )
    assert len(channel.kraus) <= 4
    rho = random_states(np.random.default_rng(seed), 1, 2)[0]
    effect = random_states(np.random.default_rng(seed + 1), 1, 2)[0]
    assert np.trace(channel(rho) @ effect) == pytest.approx(np.trace(rho @ channel.adjoint(effect)))

"""States that fool: distances by linear algebra, the border from both sides, and the certificate that none undercuts."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import reduce

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.accounting.statistics import mean_over_seeds
from qflsec.attacks.challenges import EvasionChallenge
from qflsec.attacks.evasion import AutoPgd, certified_distance, fooling_states
from qflsec.attacks.evasion.base import white_box_loss
from qflsec.attacks.poisoning.quid import state_distances
from qflsec.attacks.tampering import encoder_of
from qflsec.base import IncompatibleAttack
from qflsec.circuits import Gate, Observable, statevector
from qflsec.federation import RunResult, RunSpec, Stack, run_batch
from qflsec.lab import build, load_spec
from qflsec.models import Vqc, build_model
from qflsec.threat import Records
from tests.federation.claims import told

PAULI = {"I": np.eye(2), "X": [[0, 1], [1, 0]], "Y": [[0, -1j], [1j, 0]], "Z": [[1, 0], [0, -1]]}


def measured(word: str, states: np.ndarray) -> np.ndarray:
    matrix = reduce(np.kron, [np.array(PAULI[letter]) for letter in word])
    return np.einsum("ni,ij,nj->n", states.conj(), matrix, states).real


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Half of the sum of the absolute eigenvalues."""
    return float(np.abs(np.linalg.eigvalsh(one - other)).sum() / 2)


def model_of(word: str) -> Vqc:
    model = build_model({"name": "vqc", "n_qubits": 3, "layers": 2})
    assert isinstance(model, Vqc)
    return replace(
        model, circuit=replace(model.circuit, observables=(Observable(((1.0, word),)),)), recipe=()
    )


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), word=st.sampled_from(["ZII", "IXY", "YZX"]))
def test_states_at_these_distances_are_answered_otherwise_and_none_nearer(seed: int, word: str) -> None:
    model, generator = model_of(word), torch.Generator().manual_seed(seed)
    params, features = (
        torch.rand(model.n_params, generator=generator) * 6,
        torch.rand(5, 3, generator=generator),
    )
    found = fooling_states(model, params, features)
    own = statevector(model.circuit, params.double(), features.double(), dtype=torch.complex128).numpy()
    values, states = measured(word, own), found.states.numpy()
    assert np.allclose(found.values, values, atol=1e-9)
    assert np.allclose(np.linalg.norm(states, axis=1), 1)
    assert (measured(word, states) * values < 0).all(), "just behind the border"
    assert np.abs(measured(word, states)).max() < 1e-5
    draws = np.random.default_rng(seed)
    for row in range(5):
        rho, pure = (np.outer(state, state.conj()) for state in (own[row], states[row]))
        assert distance(rho, pure) == pytest.approx(float(found.pure[row]), abs=1e-5)
        # straight down in the Bloch ball: the state and its mirror image at the border, mixed alike
        border = states[row]
        other = 2 * np.vdot(border, own[row]) * border - own[row]
        mixed = (rho + np.outer(other, other.conj())) / 2
        assert distance(rho, mixed) == pytest.approx(float(found.mixed[row]), abs=1e-5)
        # nobody gets there from nearer: states at random whose answer is turned
        for _ in range(20):
            near = own[row] + draws.normal(scale=0.4, size=8) + 1j * draws.normal(scale=0.4, size=8)
            near /= np.linalg.norm(near)
            if measured(word, near[None])[0] * values[row] < 0:
                assert distance(rho, np.outer(near, near.conj())) >= float(found.pure[row]) - 1e-9
    assert bool((found.mixed <= found.pure + 1e-12).all())


def test_the_certificate_is_the_distance_of_the_nearest_state() -> None:
    model = model_of("ZII")
    params, features = (
        torch.rand(model.n_params, generator=torch.Generator().manual_seed(1)) * 6,
        torch.rand(6, 3),
    )
    proved = certified_distance(model, params, features)
    assert proved is not None
    needed = fooling_states(model, params, features).mixed
    assert bool((proved <= needed).all())
    assert torch.allclose(proved, needed, atol=2e-5)


@pytest.mark.parametrize("one", [False, True])
def test_a_state_that_is_sure_of_its_answer(one: bool) -> None:
    """|000> or |100>, all gates taken away: the other answer is a quarter turn away."""
    model = model_of("ZII")
    gates = (Gate("X", (0,)),) if one else ()
    still = replace(model, circuit=replace(model.circuit, gates=gates))
    found = fooling_states(still, torch.zeros(model.n_params), torch.zeros(1, 3))
    assert float(found.values) == pytest.approx(-1.0 if one else 1.0)
    assert float(found.mixed) == pytest.approx(0.5)
    assert float(found.pure) == pytest.approx(math.sin(math.pi / 4))
    turned = measured("ZII", found.states.numpy())
    assert float(turned[0]) == pytest.approx(0.0, abs=1e-5)
    assert turned[0] * float(found.values) < 0


def test_models_whose_answer_is_no_single_word() -> None:
    for config in (
        {"name": "vqc", "n_qubits": 3, "layers": 1, "n_classes": 3},
        {"name": "classical", "n_features": 3, "n_classes": 2},
    ):
        model = build_model(config)
        with pytest.raises(IncompatibleAttack, match="one Pauli word"):
            fooling_states(model, torch.zeros(model.n_params), torch.zeros(1, 3))


def least_moves(run: RunResult, records: Records) -> torch.Tensor:
    """How far apart the states of records and of their moved versions are, for the nearest that is answered wrongly."""
    model, params = run.pipeline.model, run.params
    assert isinstance(model, Vqc)
    loss, encoder = white_box_loss(model, params, records.labels), encoder_of(model.circuit)
    least = torch.full((len(records.labels),), math.inf, dtype=torch.float64)
    for epsilon in np.linspace(0.05, 1.5, 30):
        asked = EvasionChallenge(
            seed=0, attack="auto-pgd", records=records, epsilon=float(epsilon), feature_range=(0.0, math.pi)
        )
        moved = AutoPgd(epsilon=float(epsilon)).moved(loss, asked)
        with torch.no_grad():
            wrong = model(params, moved).argmax(dim=-1) != records.labels
        apart = state_distances(encoder, records.features, moved).diagonal() / math.sqrt(2)
        least = torch.where(wrong, torch.minimum(least, apart), least)
    return least


@pytest.mark.slow
def test_features_take_longer_ways_through_state_space() -> None:
    """On the models of preset evasion; no way of the features is shorter than the nearest pure state is far."""
    matrix = build(load_spec("evasion")).matrix
    specs = [RunSpec(seed=seed, evaluate="never") for seed in matrix.spec.seeds]
    rows = []
    for run in run_batch(matrix.pipelines["quantum"], Stack(name="none"), specs):
        test = run.records("test")
        right = torch.nonzero(run.predict(test.features) == test.labels).flatten()
        records = test.at(right)
        found, ways = (
            fooling_states(run.pipeline.model, run.params, records.features),
            least_moves(run, records),
        )
        turned = ways.isfinite()
        assert bool((ways[turned] >= found.pure[turned] - 1e-6).all())
        figures = (found.mixed.mean(), found.pure.mean(), ways[turned].mean(), turned.double().mean())
        rows.append([float(one) for one in figures])
    for place, name in enumerate(("mixed:", "pure:", "features:", "share turned:")):
        told(name, torch.tensor(rows)[:, [place]])
    assert mean_over_seeds([row[2] / row[1] for row in rows]).low > 1.2

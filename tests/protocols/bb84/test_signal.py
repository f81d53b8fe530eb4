from __future__ import annotations

import ast
import copy
import gc
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest, chisquare, kstest, poisson

import qflsec
from qflsec.protocols.bb84.bits import Bits, pack, unpack
from qflsec.protocols.bb84.detector import FOCK, MAX_PHOTONS, PERFECT_DETECTORS, DetectorModel
from qflsec.protocols.bb84.signal import (
    Detectors,
    Nature,
    PulseTrain,
    SignalError,
    _candidates,
    attenuate,
    emit,
    measure,
)
from qflsec.protocols.bb84.tampering import (
    count_photons,
    divert,
    emit_photons,
    insert,
    probe_modulator,
    select,
    shift,
    split,
)

N = 4000


def plane(value: int, n: int = N) -> Bits:
    return pack(np.full(n, value, dtype=np.uint8))


def zeros(n: int = N, code: int = FOCK + 1, **more: Any) -> PulseTrain:
    """A train of bits 0 in basis Z."""
    return emit(Nature(1), n=n, sign=plane(0, n), x=plane(0, n), code=code, **more)


def perfect() -> Detectors:
    return Detectors(PERFECT_DETECTORS)


# --- a handle, and nothing more ---


def test_a_train_is_measured_once() -> None:
    train = zeros()
    measure(train, perfect(), x=plane(0))
    with pytest.raises(SignalError, match="spent"):
        measure(train, perfect(), x=plane(0))


@pytest.mark.parametrize(
    "act",
    [
        lambda t: attenuate(t, 0.5),
        count_photons,
        lambda t: split(count_photons(t)[1], np.zeros(N, dtype=np.uint8)),
        lambda t: divert(t, np.zeros(N, dtype=bool)),
        lambda t: select(t, np.arange(3)),
        lambda t: shift(t, np.zeros(N, dtype=np.uint8)),
        lambda t: probe_modulator(t, 1.0),
        lambda t: insert(count_photons(t)[1], zeros(), np.zeros(N, dtype=bool)),
    ],
)
def test_whatever_acts_on_a_train_spends_it(act: Callable[[PulseTrain], object]) -> None:
    train = zeros(isolation_db=10.0)
    act(train)
    with pytest.raises(SignalError, match="spent"):
        measure(train, perfect(), x=plane(0))
    with pytest.raises(SignalError, match="spent"):
        len(train)


@pytest.mark.parametrize("name", ["sign", "x", "code", "bits", "_light", "rng", "means"])
def test_the_content_of_a_train_cannot_be_read(name: str) -> None:
    with pytest.raises(SignalError, match="no readable content"):
        getattr(zeros(), name)


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_train_cannot_be_cloned(clone: Callable[[object], object]) -> None:
    with pytest.raises(SignalError, match="cannot be copied"):
        clone(zeros())


def test_a_train_refers_to_nothing() -> None:
    train = zeros()
    assert [held for held in gc.get_referents(train) if held is not PulseTrain] == []
    assert not hasattr(train, "__dict__")


def imports_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    return found | {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}


def test_only_physics_imports_what_handles_stand_for() -> None:
    root = Path(qflsec.__file__).parent
    users = {p.name for p in root.rglob("*.py") if "qflsec.protocols.bb84.light" in imports_of(p)}
    assert users == {"signal.py", "tampering.py"}


# --- measuring ---


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
@pytest.mark.parametrize("angle", range(8))
def test_outcomes_follow_the_angle_between_state_and_axis(axis: int, angle: int) -> None:
    """False alarm 1e-6 for each of the 32 pairs."""
    sign, x, half = angle >> 2 & 1, angle >> 1 & 1, angle & 1
    one = np.ones(N, dtype=np.uint8)
    train = emit_photons(Nature(3, axis, angle), photons=one, sign=plane(sign), x=plane(x), half=plane(half))
    clicks = measure(train, perfect(), x=plane(axis >> 1), half=plane(axis & 1))
    assert clicks.positions.tolist() == list(range(N))
    zero = int(np.sum(clicks.pattern == 1))
    expected = (1 + math.cos((angle - axis) * math.pi / 4)) / 2
    if expected in (0.0, 1.0):
        assert zero == N * expected
    else:
        assert binomtest(zero, N, expected).pvalue > 1e-6


def test_losses_multiply_and_misalignments_compose() -> None:
    """False alarm 1e-6 for each of the two."""
    n = 200_000
    train = attenuate(attenuate(zeros(n), 0.5, misalignment=0.1), 0.4, misalignment=0.2)
    clicks = measure(train, perfect(), x=plane(0, n))
    assert binomtest(clicks.positions.size, n, 0.2).pvalue > 1e-6
    wrong = int(np.sum(clicks.pattern == 2))
    assert binomtest(wrong, clicks.positions.size, 0.1 * 0.8 + 0.9 * 0.2).pvalue > 1e-6


def test_several_photons_in_the_other_basis_fire_both_detectors() -> None:
    """False alarm 1e-6."""
    train = zeros(code=FOCK + 2)
    clicks = measure(train, perfect(), x=plane(1))
    assert binomtest(int(np.sum(clicks.pattern == 3)), N, 0.5).pvalue > 1e-6


@pytest.mark.parametrize("probability", [0.05, 1e-3])
def test_rare_events_are_skipped_to_without_bias(probability: float) -> None:
    """Counts are binomial, places uniform; false alarm 1e-6 each."""
    rng = np.random.default_rng(5)
    n, runs = 3000, 400
    found = [_candidates(rng, n, probability) for _ in range(runs)]
    assert binomtest(sum(f.size for f in found), n * runs, probability).pvalue > 1e-6
    places = np.concatenate(found)
    # places are whole numbers: spread each evenly over its cell
    assert kstest((places + rng.random(places.size)) / n, "uniform").pvalue > 1e-6
    assert all(np.all(np.diff(f) > 0) for f in found)


def test_what_cannot_click_is_not_visited() -> None:
    assert _candidates(np.random.default_rng(0), 1000, 0.0).size == 0
    silent = measure(zeros(code=FOCK), perfect(), x=plane(0))
    assert silent.positions.size == 0


def test_skipping_and_visiting_all_gates_agree() -> None:
    """Gains of three intensities, of which one is bright enough to visit all gates; false alarm 1e-6 each."""
    n = 300_000
    for mean, t in ((5.0, 1.0), (5.0, 0.01), (0.5, 0.01)):
        detectors = Detectors(DetectorModel(efficiency=0.2, dark_count=1e-4))
        clicks = measure(attenuate(zeros(n, code=0, means=(mean,)), t), detectors, x=plane(0, n))
        gain = 1 - (1 - 1e-4) ** 2 * math.exp(-0.2 * t * mean)
        assert binomtest(clicks.positions.size, n, gain).pvalue > 1e-6


def test_remembered_false_clicks_follow_in_the_next_gate_across_blocks() -> None:
    """A click is followed by p false ones of the same detector, each by p more; false alarm about 1e-6."""
    p, gain, n = 0.2, 0.01, 50_000
    model = DetectorModel(efficiency=gain, dark_count=0.0, afterpulse=p, afterpulse_model="memory")
    detectors, offset, positions, patterns = Detectors(model), 0, [], []
    for block in range(40):
        clicks = measure(
            emit(Nature(2, block), n=n, sign=plane(0, n), x=plane(0, n), code=FOCK + 1),
            detectors,
            x=plane(0, n),
        )
        positions.append(clicks.positions + offset)
        patterns.append(clicks.pattern)
        offset += n
    at = np.concatenate(positions)
    assert set(np.concatenate(patterns)) == {1}
    # a gate clicks by itself or after a click: r = 1 - (1 - gain)(1 - p r)
    rate = gain / (1 - p * (1 - gain))
    spread = math.sqrt(rate * offset * (1 + p) / (1 - p))
    assert abs(at.size - rate * offset) < 5 * spread
    followed = int(np.sum(np.diff(at) == 1))
    assert binomtest(followed, at.size - 1, 1 - (1 - gain) * (1 - p)).pvalue > 1e-6


def test_two_detectors_fire_falsely_each_by_itself() -> None:
    """Both click in every other gate; what follows is 0, 1, 2 or both with 1/4 each; false alarm 1e-6."""
    n = 40_000
    model = DetectorModel(efficiency=1.0, dark_count=0.0, afterpulse=0.5, afterpulse_model="memory")
    code = np.where(np.arange(n) % 2, FOCK, FOCK + MAX_PHOTONS).astype(np.uint8)
    train = emit(Nature(8), n=n, sign=plane(0, n), x=plane(0, n), code=code)
    clicks = measure(train, Detectors(model), x=plane(1, n))
    gates = np.zeros(n, dtype=np.uint8)
    gates[clicks.positions] = clicks.pattern
    assert set(gates[::2]) == {3}
    assert chisquare(np.bincount(gates[1::2], minlength=4)).pvalue > 1e-6


def test_a_false_click_waits_for_the_next_block() -> None:
    model = DetectorModel(efficiency=1.0, dark_count=0.0, afterpulse=0.999999, afterpulse_model="memory")
    detectors = Detectors(model)
    measure(zeros(1), detectors, x=plane(0, 1))
    assert measure(zeros(4, code=FOCK), detectors, x=plane(0, 4)).positions.tolist() == [0, 1, 2, 3]


# --- what an adversary may do ---


def test_photon_numbers_of_coherent_light_are_poisson_and_stay() -> None:
    """False alarm 1e-6."""
    n, mean = 100_000, 0.7
    photons, train = count_photons(zeros(n, code=0, means=(mean,)))
    top = 5
    seen = np.bincount(np.minimum(photons, top), minlength=top + 1)
    odds = [*poisson.pmf(range(top), mean), poisson.sf(top - 1, mean)]
    assert chisquare(seen, np.array(odds) * n).pvalue > 1e-6
    again, train = count_photons(train)
    assert np.array_equal(photons, again)
    assert np.array_equal(measure(train, perfect(), x=plane(0, n)).positions, np.flatnonzero(photons))


def test_counting_after_a_loss_counts_what_is_left() -> None:
    """False alarm 1e-6 each."""
    n = 100_000
    one, _ = count_photons(attenuate(zeros(n), 0.3))
    assert binomtest(int(one.sum()), n, 0.3).pvalue > 1e-6
    many, _ = count_photons(attenuate(zeros(n, code=0, means=(2.0,)), 0.3))
    assert binomtest(int(np.sum(many == 0)), n, math.exp(-0.6)).pvalue > 1e-6


def test_a_photon_taken_out_has_the_state_of_the_others() -> None:
    photons, train = count_photons(zeros(code=FOCK + 3))
    kept, rest = split(train, np.ones(N, dtype=np.uint8))
    assert set(photons) == {3}
    assert set(count_photons(kept)[0]) == {1}
    left, rest = count_photons(rest)
    assert set(left) == {2}
    assert set(measure(rest, perfect(), x=plane(0)).pattern) == {1}


def test_no_photon_is_made_by_splitting() -> None:
    for train in (zeros(code=FOCK), zeros(code=0, means=(0.5,)), attenuate(zeros(), 0.5)):
        with pytest.raises(SignalError):
            split(train, np.ones(N, dtype=np.uint8))


def test_diverted_pulses_leave_a_vacuum_and_inserted_ones_fill_it() -> None:
    where = np.arange(N) % 3 == 0
    aside, through = divert(zeros(), where)
    assert measure(aside, perfect(), x=plane(0)).positions.tolist() == np.flatnonzero(where).tolist()
    fresh = emit(Nature(4), n=N, sign=plane(1), x=plane(0), code=FOCK + 1)
    clicks = measure(insert(through, fresh, where), perfect(), x=plane(0))
    assert clicks.positions.size == N
    assert np.array_equal(clicks.pattern == 2, where)


@pytest.mark.parametrize(
    "other", [lambda: zeros(8), lambda: attenuate(zeros(), 0.5), lambda: zeros(code=0, means=(1.0,))]
)
def test_a_train_that_does_not_fit_is_not_inserted(other: Callable[[], PulseTrain]) -> None:
    with pytest.raises(SignalError):
        insert(zeros(), other(), np.ones(N, dtype=bool))


def test_selected_pulses_are_those_selected() -> None:
    rng = np.random.default_rng(0)
    bits, late = rng.integers(0, 2, N, dtype=np.uint8), rng.integers(0, 3, N, dtype=np.uint8)
    code = (FOCK + rng.integers(0, 2, N)).astype(np.uint8)
    positions = np.sort(rng.choice(N, 777, replace=False))
    train = shift(emit(Nature(6), n=N, sign=pack(bits), x=plane(0), code=code), late)
    clicks = measure(select(train, positions), perfect(), x=plane(0, 777))
    lit = code[positions] > FOCK
    assert np.array_equal(clicks.positions, np.flatnonzero(lit))
    assert np.array_equal(clicks.pattern - 1, bits[positions][lit])


def test_too_many_photons_count_as_the_most_that_are_told_apart() -> None:
    photons = np.full(N, 5000)
    train = emit_photons(Nature(1), photons=photons, sign=plane(0), x=plane(0), half=plane(0))
    assert set(count_photons(train)[0]) == {MAX_PHOTONS}


@pytest.mark.parametrize("reflected", [0.0, 0.1, 1.0, 50.0])
def test_a_reflection_tells_the_basis_with_probability_one_minus_the_overlap(reflected: float) -> None:
    """False alarm 1e-6; what is found is never wrong."""
    n = 50_000
    x = np.random.default_rng(1).integers(0, 2, n, dtype=np.uint8)
    train = emit(Nature(7), n=n, sign=plane(0, n), x=pack(x), code=FOCK + 1, isolation_db=20.0)
    found, basis, train = probe_modulator(train, 100 * reflected)
    assert np.array_equal(basis[found], x[found])
    assert not basis[~found].any()
    assert binomtest(int(found.sum()), n, 1 - math.exp(-reflected)).pvalue > 1e-6
    assert measure(train, perfect(), x=pack(x)).pattern.tolist() == [1] * n


def test_nothing_is_reflected_beyond_the_senders_door() -> None:
    for train in (zeros(), attenuate(zeros(isolation_db=10.0), 0.9)):
        with pytest.raises(SignalError, match="no light is reflected"):
            probe_modulator(train, 1.0)


def test_planes_of_a_train_are_untouched_by_measuring_another() -> None:
    sign = pack(np.random.default_rng(0).integers(0, 2, N, dtype=np.uint8))
    before = unpack(sign, N).copy()
    measure(emit(Nature(1), n=N, sign=sign, x=plane(0), code=FOCK + 1), perfect(), x=plane(0), swap=plane(1))
    assert np.array_equal(unpack(sign, N), before)

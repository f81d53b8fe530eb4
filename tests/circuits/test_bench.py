from __future__ import annotations

import pytest
import torch

from qflsec.circuits.bench import BROADCAST, LIGHTNING, LOOP, TARGETS, BenchRow, bench, render


def test_targets_are_met() -> None:
    """The kernel's cost over PennyLane's broadcasting; a missed target is measured again, twice.

    The targets leave a factor of 1.4 or more to what was measured, so that three misses are a real loss.
    """
    missed: list[BenchRow] = []
    for n in (4, 8):
        for _ in range(3):
            rows = bench(qubits=(n,), repeats=3, slow_baselines=False)
            assert {(row.name, n) for row in rows if row.target} == {key for key in TARGETS if key[1] == n}
            if all(row.met for row in rows):
                break
        else:
            missed += [row for row in rows if not row.met]
    assert not missed, render(missed)


def test_slow_baselines_are_slow_and_threads_are_restored() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        rows = bench(qubits=(2,), repeats=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    one = next(row for row in rows if row.name == "one model")
    ratios = dict(one.ratios)
    assert set(ratios) == {BROADCAST, LOOP, LIGHTNING}
    assert ratios[LOOP] < ratios[BROADCAST] < 1
    assert [row.models for row in rows] == [1, 64, 1]
    assert one.microseconds_per_sample > 0


def test_table_of_ratios() -> None:
    rows = (
        BenchRow(
            name="one model",
            n_qubits=4,
            models=1,
            ratios=((BROADCAST, 0.05), (LOOP, 2.0)),
            microseconds_per_sample=12.5,
            target=0.1,
        ),
        BenchRow(
            name="64 models",
            n_qubits=4,
            models=64,
            ratios=((BROADCAST, 0.5),),
            microseconds_per_sample=1.0,
            target=0.25,
        ),
    )
    assert rows[0].met
    assert not rows[1].met
    assert render(rows).splitlines() == [
        "| case | qubits | kernel / PennyLane broadcasting | kernel / PennyLane sample by sample | target | µs per sample |",
        "| --- | --- | --- | --- | --- | --- |",
        "| one model | 4 | 1/20.0 | 2.00 | 1/10.0 (met) | 12.5 |",
        "| 64 models | 4 | 1/2.0 |  | 1/4.0 (MISSED) | 1 |",
    ]


@pytest.mark.slow
def test_whole_benchmark_meets_its_targets() -> None:
    assert all(row.met for row in bench()), "run qflsec bench"

"""What a plan costs is said before it runs; what no machine bears is refused at once."""

from __future__ import annotations

import resource
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qflsec.base import ConfigError
from qflsec.federation import Stack
from qflsec.lab import MatrixSpec, build, parse_spec, run, run_matrix
from qflsec.lab.grid import estimate as estimates
from qflsec.lab.grid.estimate import Estimate, Part, duration, refuse, volume
from qflsec.lab.grid.preview import preview
from qflsec.lab.worlds.federation.matrix import build_matrix
from qflsec.lab.worlds.federation.size import measured_seconds, refuse_table, size_of
from qflsec.models import build_model

GB = 1e9


def start(text: str, folder: Path, **options: Any) -> None:
    """Begin to run it, as far as the first word of progress."""
    steps = run_matrix(build(parse_spec(text, base=Path())), folder / "s.sqlite", jobs=1, **options)
    next(steps)
    steps.close()


BEYOND = {
    "40 qubits": (
        ("n_qubits = 2, layers = 1", "n_qubits = 40, layers = 1"),
        r"a state of 40 qubits does not fit .*; got 8.8 TB; expected at most 2\d qubits .*; lower 'n_qubits'",
    ),
    "a million qubits": (("n_qubits = 2", "n_qubits = 1000000"), "more than any machine has"),
    "10^6 layers": (("layers = 1", "layers = 1000000"), r"1,000,000 layers .*; expected at most 1,000,000; lower 'layers'"),
    "10^9 rounds": (("rounds = 2", "rounds = 1000000000"), r"pipelines.main: a run does not fit .*; got about 144 GB; expected at most 16 GB"),
    "10^12 steps": (("rounds = 2", "rounds = 2, local_steps = 1000000000000"), r"the plan is long.*years.*give --long"),
    "10^9 clients": (("n_clients = 3", "n_clients = 1000000000"), "does not fit into the memory"),
}  # fmt: skip


@pytest.mark.parametrize("case", BEYOND)
def test_what_is_beyond_the_machine_is_refused_in_a_second(
    case: str, tiny_text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (old, new), words = BEYOND[case]
    assert old in tiny_text
    monkeypatch.setattr(estimates, "machine_memory", lambda: 16 * GB)
    monkeypatch.setattr("qflsec.lab.worlds.federation.size.machine_memory", lambda: 16 * GB)
    build(parse_spec(tiny_text, base=Path()))  # imports and compiles what every matrix needs
    memory, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(ConfigError, match=words):
        start(tiny_text.replace(old, new), tmp_path)
    assert time.process_time() - started < 1.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 100_000, "kilobytes"
    assert not list(tmp_path.iterdir()), "no store is left behind"


def test_a_long_plan_runs_where_it_is_confirmed(
    tiny_text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "LONG_SECONDS", 1e-6)
    with pytest.raises(ConfigError, match=r"the plan is long.*give --long"):
        start(tiny_text, tmp_path)
    start(tiny_text, tmp_path, long=True)
    monkeypatch.undo()
    run(parse_spec(tiny_text, base=Path()), tmp_path / "s.sqlite", jobs=1)
    monkeypatch.setattr(estimates, "LONG_SECONDS", 1e-6)
    start(tiny_text, tmp_path)  # nothing is left, so there is nothing to confirm


def test_too_many_workers_are_told_how_many_fit() -> None:
    memory = estimates.machine_memory()
    part = Part(name="pipeline 'p'", runs=100, batches=100, memory_bytes=memory / 3.5, cpu_seconds=1.0)
    refuse(Estimate(trials=1, stored=0, parts=(part,)), jobs=3)
    with pytest.raises(ConfigError, match="give --jobs 3 or fewer"):
        refuse(Estimate(trials=1, stored=0, parts=(part,)), jobs=4)


def test_memory_grows_as_the_model_says(tiny: MatrixSpec) -> None:
    pipeline = build_matrix(tiny).pipelines["main"]

    def memory(**changes: Any) -> float:
        changed = replace(pipeline, **changes)
        return size_of(changed, lanes=4).memory_bytes - size_of(pipeline, lanes=4).memory_bytes

    model = build_model({"name": "vqc", "n_qubits": 14, "layers": 1, "n_features": 2})
    amplitudes = 4 * 12 * 2**14 * 8  # lanes, records, amplitudes, bytes
    assert 4 * amplitudes < memory(model=model) < 40 * amplitudes
    assert (
        memory(federation=replace(pipeline.federation, rounds=1002))
        == 4 * 1000 * 2 * 3 * pipeline.model.n_params * 4
    )


def test_epochs_are_as_many_steps_as_they_have_batches(tiny: MatrixSpec) -> None:
    """Three clients of four records: two batches of two in an epoch, and one of five."""
    pipeline = build_matrix(tiny).pipelines["main"]

    def seconds(**changes: Any) -> float:
        federation = replace(pipeline.federation, **changes)
        return size_of(replace(pipeline, federation=federation), lanes=1).cpu_seconds

    assert seconds(epochs=3, batch_size=2) == seconds(local_steps=6, batch_size=2)
    assert seconds(epochs=3, batch_size=5) == seconds(local_steps=3, batch_size=5)
    assert seconds(epochs=3) == seconds(local_steps=3) > seconds()


@pytest.mark.parametrize("qubits", [4, 8])
def test_the_model_of_time_is_right_to_a_factor(qubits: int, tiny_text: str) -> None:
    """Stated as a factor of three; a factor of eight leaves room for a machine that others use."""
    text = tiny_text.replace("n_qubits = 2, layers = 1", f"n_qubits = {qubits}, layers = 2").replace(
        "n_features = 2", f"n_features = {qubits}"
    ).replace("rounds = 2", "rounds = 5").replace("auxiliary = 8", "auxiliary = 40")  # fmt: skip
    pipeline = build_matrix(parse_spec(text, base=Path())).pipelines["main"]
    measured = measured_seconds(pipeline, Stack(name="none"), seed=0, lanes=2, secrets="seeded")
    modelled = size_of(pipeline, lanes=2).cpu_seconds
    assert measured / 8 < modelled < 8 * measured


def test_tables_of_other_models_are_left_to_them() -> None:
    refuse_table({"name": "mine", "width": 10**9})
    refuse_table({"name": "vqc", "n_qubits": "four"})
    with pytest.raises(ConfigError, match="does not fit"):
        refuse_table({"name": "hybrid", "n_qubits": 60})


def test_numbers_for_people() -> None:
    assert [volume(value) for value in (12, 4096, 3.2e9, 8.8e12)] == [
        "12 bytes",
        "4.1 kB",
        "3.2 GB",
        "8.8 TB",
    ]
    assert duration(0.5) == "0.5 seconds"
    assert duration(7200) == "2 hours"
    assert duration(1e12).endswith("years")


def test_a_preview_counts_what_is_left(tiny: MatrixSpec, tmp_path: Path) -> None:
    world, store = build(tiny), tmp_path / "s.sqlite"
    before = preview(world, store)
    assert (before.trials, before.stored, before.runs, before.batches) == (24, 0, 12, 3)
    assert sum(before.incompatible.values()) == 6
    assert all(part.source == "measured" for part in before.parts)
    assert before.attack_seconds is None
    assert not store.exists()
    run(tiny, store, jobs=1)
    after = preview(build(tiny), store)
    assert (after.stored, after.runs, after.batches, after.parts) == (24, 0, 0, ())
    more = preview(build(tiny.with_seeds(seeds=(0, 1, 2))), store)
    assert (more.stored, more.runs) == (24, 6)
    assert more.attack_seconds is not None
    assert more.attack_seconds > 0

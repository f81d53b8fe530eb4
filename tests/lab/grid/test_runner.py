"""Runs to rows: statuses, failures that stay where they are, resuming, extending and backends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qflsec.base import BackendError, DataError, MissingExtra
from qflsec.lab import MatrixResult, MatrixSpec, Progress, Store, build, parse_spec, run, run_matrix
from qflsec.lab.grid import backends as backends_module
from qflsec.lab.grid.spec import GridSpec

Dump = Callable[[Path], dict[str, list[tuple[Any, ...]]]]


def statuses(result: MatrixResult, attack: str, stack: str = "none") -> list[str]:
    return [row.status for row in result.cells[attack, stack].per_seed]


def attack(name: str, threat: str, more: str = "") -> str:
    return f'name = "{name}"\npipeline = "main"\nthreat = "{threat}"\n{more}'


def test_a_matrix_from_beginning_to_end(tiny: MatrixSpec, tmp_path: Path) -> None:
    seen: list[Progress] = []
    result = run(tiny, tmp_path / "s.sqlite", jobs=1, on_progress=seen.append)
    assert (seen[0].done, seen[-1].done, seen[-1].total) == (0, 24, 24)
    assert [step.done for step in seen] == sorted(step.done for step in seen)
    assert seen[-1].eta_seconds == 0.0
    assert statuses(result, "loss-threshold") == ["ok", "ok"]
    assert statuses(result, "withdrawn", "clip") == ["blocked", "blocked"]
    assert statuses(result, "scaled-sign-flip", "bad") == ["incompatible", "incompatible"]
    assert not result.failures
    assert len(result.runs) == 12
    assert all(len(row.accuracy) == 2 for row in result.runs)
    assert (
        result.summaries["link"].by_pipeline["main"].costs["network_bytes"].value
        > result.summaries["none"].by_pipeline["main"].costs["network_bytes"].value
    )
    assert {row["layer"] for row in result.ledgers["link", "wire-eavesdropper"]} >= {"aes-gcm-link"}


def test_equal_views_give_equal_rows(tiny: MatrixSpec, tmp_path: Path) -> None:
    """The server's view behind a link is that without one, so its attack must find the very same."""
    result = run(tiny, tmp_path / "s.sqlite", jobs=1)
    plain, linked = (result.cells["loss-threshold", stack] for stack in ("none", "link"))
    assert [row.advantage for row in plain.per_seed] == [row.advantage for row in linked.per_seed]
    assert [row.raw for row in plain.per_seed] == [row.raw for row in linked.per_seed]


def test_running_again_does_nothing_and_extending_does_the_rest(
    tiny: MatrixSpec, tmp_path: Path, dump: Dump
) -> None:
    path = tmp_path / "s.sqlite"
    run(tiny, path, jobs=1)
    before = dump(path)
    steps: list[Progress] = []
    run(tiny, path, jobs=1, on_progress=steps.append)
    assert (len(steps), steps[0].batches_total) == (1, 0)
    assert dump(path) == before
    more = tiny.with_seeds(seeds=(0, 1, 2))
    extended = run(more, path, jobs=1, on_progress=steps.append)
    assert sum(step.batches_total for step in steps[1:2]) == 3
    assert len(dump(path)["trial"]) == 36
    fresh = run(more, tmp_path / "fresh.sqlite", jobs=1)
    assert dump(path) == dump(tmp_path / "fresh.sqlite")
    assert extended.cells.keys() == fresh.cells.keys()


def test_a_stopped_matrix_keeps_its_finished_batches(tiny: MatrixSpec, tmp_path: Path, dump: Dump) -> None:
    path = tmp_path / "s.sqlite"
    steps = run_matrix(build(tiny), path, jobs=1)
    for step in steps:
        if step.batches_done == 1:
            break
    steps.close()
    assert 0 < len(dump(path)["trial"]) < 24
    run(tiny, path, jobs=1)
    run(tiny, tmp_path / "whole.sqlite", jobs=1)
    assert dump(path) == dump(tmp_path / "whole.sqlite")


def test_a_failed_attack_is_a_row_and_takes_no_other_down(
    with_attacks: Callable[..., MatrixSpec], tmp_path: Path
) -> None:
    spec = with_attacks(
        attack("broken-inference", "server"),
        attack("broken-manipulation", "clients"),
        attack("not-finite", "clients"),
        attack("wrong-shape", "clients"),
        attack("loss-threshold", "server"),
        attack("scaled-sign-flip", "clients"),
    )
    result = run(spec, tmp_path / "s.sqlite", jobs=1)
    for name in ("broken-inference", "broken-manipulation", "wrong-shape"):
        cell = result.cells[name, "none"]
        assert cell.state == "failed"
        assert statuses(result, name) == ["failed", "failed"]
        assert cell.advantage is None
    assert statuses(result, "loss-threshold") == ["ok", "ok"]
    assert set(statuses(result, "scaled-sign-flip")) <= {"ok", "undefined"}
    first = result.cells["broken-inference", "none"].per_seed[0]
    assert first.reason == "RuntimeError: a bug of the attack"
    assert "misbehaving.py" in first.traceback
    row = result.cells["broken-manipulation", "none"].per_seed[0]
    assert "ZeroDivisionError" in row.traceback
    assert "a bug of the manipulation" in row.reason
    assert "wrong shape" in result.cells["wrong-shape", "none"].per_seed[0].reason
    told = [failure.partition("\n")[0] for failure in result.failures]
    assert [text.partition(":")[0] for text in told] == ["2 trials failed alike"] * 3, told
    # what a corrupted client sends is input: an update that is not finite is no bug, and is dropped
    lie = result.cells["not-finite", "none"].per_seed[0]
    assert lie.status in {"ok", "undefined"}, lie.reason
    assert "finite" in lie.raw["dropped_because"][0]


def test_failed_trials_are_repeated_and_their_rows_kept(
    with_attacks: Callable[..., MatrixSpec], tmp_path: Path, dump: Dump
) -> None:
    switch, path = tmp_path / "mended", tmp_path / "s.sqlite"
    spec = with_attacks(
        attack("broken-inference", "server", f'params = {{ switch = "{switch}" }}'),
        attack("loss-threshold", "server"),
    )
    assert statuses(run(spec, path, jobs=1), "broken-inference") == ["failed", "failed"]
    switch.touch()
    steps: list[Progress] = []
    result = run(spec, path, jobs=1, on_progress=steps.append)
    assert statuses(result, "broken-inference") == ["ok", "ok"]
    assert steps[0].done == 2
    assert sorted(row[2] for row in dump(path)["trial"]) == ["failed"] * 2 + ["ok"] * 4


def test_an_abort_is_a_result(with_attacks: Callable[..., MatrixSpec], tmp_path: Path) -> None:
    spec = with_attacks(attack("saboteur", "clients"), stacks=("link",))
    document = spec.model_dump(mode="json", exclude_none=True)
    document["threats"]["tamper"] = {"kind": "wire-eavesdropper", "active": True}
    document["attacks"][0]["threat"] = "tamper"
    result = run(MatrixSpec.from_document(document), tmp_path / "s.sqlite", jobs=1)
    cell = result.cells["saboteur", "link"]
    assert cell.state == "aborted"
    assert not result.failures
    assert "aborted" not in cell.per_seed[0].reason
    assert cell.per_seed[0].traceback == ""


def test_a_batch_that_cannot_begin_fails_its_trials_only(
    tiny: MatrixSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qflsec.lab.worlds.federation import work

    whole = work.run_batch

    def broken(pipeline: Any, stack: Any, runs: Any, **options: Any) -> Any:
        if stack.name == "clip" and any(spec.seed == 1 for spec in runs):
            raise MemoryError("no room")
        return whole(pipeline, stack, runs, **options)

    monkeypatch.setattr(work, "run_batch", broken)
    result = run(tiny, tmp_path / "s.sqlite", jobs=1)
    assert statuses(result, "loss-threshold", "clip") == ["ok", "failed"]
    assert result.cells["loss-threshold", "clip"].state == "failed"
    assert statuses(result, "loss-threshold", "none") == ["ok", "ok"]
    assert "MemoryError" in result.cells["loss-threshold", "clip"].per_seed[1].traceback


def test_mistakes_in_the_data_come_before_any_work(tiny_text: str, tmp_path: Path) -> None:
    matrix = build(parse_spec(tiny_text.replace("n_clients = 3", "n_clients = 50"), base=tmp_path))
    with pytest.raises(DataError, match=r"pipelines\.main\.partition"):
        next(run_matrix(matrix, tmp_path / "s.sqlite"))
    assert not (tmp_path / "s.sqlite").exists()


def test_loky_and_dask_give_identical_rows(tiny: MatrixSpec, tmp_path: Path, dump: Dump) -> None:
    run(tiny, tmp_path / "one.sqlite", jobs=1)
    expected = dump(tmp_path / "one.sqlite")
    for backend in ("loky", "dask"):
        run(tiny, tmp_path / f"{backend}.sqlite", jobs=2, backend=backend)
        assert dump(tmp_path / f"{backend}.sqlite") == expected, backend
    with Store(tmp_path / "dask.sqlite") as store:
        assert sum(row.stage == "trial" for row in store.rows().values()) == len(expected["trial"]) == 24


def test_trials_that_stand_alone_do_not_depend_on_order_or_workers(
    pairs: GridSpec, tmp_path: Path, dump: Dump
) -> None:
    """A trial's streams come from its seed alone: in one process, in two, by the last seed first."""
    run(pairs, tmp_path / "one.sqlite", jobs=1)
    expected = dump(tmp_path / "one.sqlite")
    run(pairs, tmp_path / "two.sqlite", jobs=2)
    assert dump(tmp_path / "two.sqlite") == expected
    for seeds in ((2,), (1,), (0, 1, 2)):
        run(pairs.with_seeds(seeds=seeds), tmp_path / "turned.sqlite", jobs=1)
    assert dump(tmp_path / "turned.sqlite") == expected


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_trials_that_stand_alone_run_on_clusters(
    pairs: GridSpec, tmp_path: Path, dump: Dump, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(pairs, tmp_path / "one.sqlite", jobs=1)
    run(pairs, tmp_path / "cluster.sqlite", jobs=2, backend=backend)
    assert dump(tmp_path / "cluster.sqlite") == dump(tmp_path / "one.sqlite")


@pytest.mark.slow
def test_ray_gives_identical_rows(
    tiny: MatrixSpec, tmp_path: Path, dump: Dump, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(tiny, tmp_path / "one.sqlite", jobs=1)
    run(tiny, tmp_path / "ray.sqlite", jobs=2, backend="ray")
    assert dump(tmp_path / "ray.sqlite") == dump(tmp_path / "one.sqlite")


def test_backends_that_are_unknown_or_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match="one of local, loky, dask, ray"):
        backends_module.check_backend("spark")
    monkeypatch.setattr(backends_module.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'qflsec\[cluster\]'"):
        backends_module.check_backend("dask")


def test_a_cluster_that_is_not_there(tiny: MatrixSpec, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="--address"):
        run(tiny, tmp_path / "s.sqlite", jobs=2, backend="dask", address="not-an-address://x")


def test_a_users_own_model_and_table(tiny_text: str, tmp_path: Path) -> None:
    """A QNode and a CSV file beside the specification, the QNode's content in the id in the place of its path."""
    (tmp_path / "mine.py").write_text(
        "import pennylane as qml\n\n\n"
        "@qml.qnode(qml.device('default.qubit', wires=2))\n"
        "def circuit(weights, inputs):\n"
        "    qml.AngleEmbedding(inputs, wires=range(2))\n"
        "    qml.StronglyEntanglingLayers(weights, wires=range(2))\n"
        "    return qml.expval(qml.PauliZ(0))\n"
    )
    rows = "\n".join(f"{i},{i * i % 41},{i % 2}" for i in range(80))
    (tmp_path / "table.csv").write_text(f"a,b,y\n{rows}\n")
    text = tiny_text.replace('"breast-cancer"', '"csv", path = "table.csv", label_column = "y"')
    old = 'model = { name = "vqc", n_qubits = 2, layers = 1 }'
    assert old in text
    text = text.replace(old, 'model = { name = "qnode", path = "mine.py:circuit", weight_shape = [1, 2, 3] }')
    result = run(parse_spec(text, base=tmp_path), tmp_path / "s.sqlite", jobs=1)
    assert not result.failures
    assert statuses(result, "loss-threshold") == ["ok", "ok"]
    with Store(tmp_path / "s.sqlite") as store:
        identities = str([row.identity for row in store.rows().values()])
    assert str(tmp_path) not in identities
    assert ":circuit" in identities

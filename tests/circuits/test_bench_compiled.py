"""The compiled kernel against the torch kernel: what is measured, and how it is told."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch

from qflsec.base import ConfigError
from qflsec.circuits import bench_compiled as module
from qflsec.circuits.bench_compiled import (
    CompileCost,
    KernelRow,
    bench_compiled,
    first_compile,
    gradient_memory,
    render_kernels,
)
from qflsec.lab.bench_training import bench_training

pytest.importorskip("numba")
from qflsec.circuits.compiled.products import products


@pytest.mark.parametrize("kernel", module.KERNELS)
def test_both_kernels_take_the_same_steps(kernel: str) -> None:
    steps = module._cases(3)
    (one,), (each,) = (
        steps[name](module._evaluate(kernel, 3))() for name in ("one model", "per-sample gradients")
    )
    assert each.shape == (32, *one.shape)
    torch.testing.assert_close(each.sum(0), one, rtol=1e-4, atol=1e-4)
    (reference,) = steps["one model"](module._evaluate("torch", 3))()
    torch.testing.assert_close(one, reference, rtol=1e-4, atol=1e-4)


def test_memory_is_that_of_the_gradient(capsys: pytest.CaptureFixture[str]) -> None:
    """The torch kernel keeps states of all records for the way back: far more than one of them."""
    module.print_memory("torch", 10, 256)
    one_state = 256 * 2**10 * 8 / 2**20
    assert 3 * one_state < float(capsys.readouterr().out) < 500 * one_state


def test_a_process_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys, "executable", "false")
    for measure in (gradient_memory, first_compile):
        with pytest.raises(ConfigError, match="could not be measured"):
            measure()


def test_the_first_compile_takes_both_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process finds no kernel of an earlier one, and its two numbers keep their places."""
    asked = {}

    def run(words: list[str], *, env: dict[str, str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.update(
            folder=Path(env["NUMBA_CACHE_DIR"]), empty=not any(Path(env["NUMBA_CACHE_DIR"]).iterdir())
        )
        return subprocess.CompletedProcess(words, 0, "12.5\n8.0\n", "")

    monkeypatch.setattr(module.subprocess, "run", run)
    found = first_compile()
    assert found == CompileCost(single=12.5, double=8.0)
    assert asked["empty"]
    assert not asked["folder"].exists()
    assert not found.met
    assert CompileCost(single=12.0, double=8.0).met
    assert "20.5 s of processor time" in str(found)
    assert "MISSED" in str(found)


def test_both_precisions_are_compiled(capsys: pytest.CaptureFixture[str]) -> None:
    module.print_compile()
    assert len(capsys.readouterr().out.split()) == 2
    signatures = {str(found[-1].dtype) for found in products.signatures}
    assert signatures == {"float32", "float64"}


def test_table_and_document() -> None:
    rows = (
        KernelRow(name="one model", n_qubits=4, unit="us", compiled=250.0, torch=1000.0, target=1 / 3),
        KernelRow(
            name="memory of a gradient", n_qubits=14, unit="mib", compiled=40.0, torch=80.0, target=1 / 4
        ),
    )
    assert render_kernels(rows).splitlines()[2:] == [
        "| one model | 4 | 1/4.0 | 1/3.0 (met) | 250 µs | 1 ms |",
        "| memory of a gradient | 14 | 1/2.0 | 1/4.0 (MISSED) | 40 MiB | 80 MiB |",
    ]
    assert rows[0].to_json() == {
        "name": "one model",
        "n_qubits": 4,
        "compiled_us": 250.0,
        "torch_us": 1000.0,
        "ratio": 0.25,
        "target": 1 / 3,
        "met": True,
    }


@pytest.mark.slow
def test_targets_are_met() -> None:
    """A missed target is measured again, twice."""
    for _ in range(3):
        memory = gradient_memory()
        assert memory is not None
        rows = [*bench_compiled(), *bench_training(), memory]
        if all(row.met for row in rows):
            return
    pytest.fail(render_kernels(rows))

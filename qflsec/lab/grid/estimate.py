"""What a plan asks of the machine, before anything runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from qflsec.base import ConfigError

__all__ = [
    "LONG_SECONDS",
    "Estimate",
    "Part",
    "duration",
    "machine_memory",
    "refuse",
    "refuse_memory",
    "volume",
]

LONG_SECONDS = 24 * 3600.0
"""A plan that takes longer than this has to be confirmed."""
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_UNITS = ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
_TIMES = ((365.25 * 86400, "years"), (86400, "days"), (3600, "hours"), (60, "minutes"))


@dataclass(frozen=True, kw_only=True)
class Part:
    """What is left to do of one part of a plan.

    Attributes:
        name: What it is, such as a pipeline.
        runs: Runs that are left.
        batches: Batches that are left.
        memory_bytes: Memory of one worker on its largest batch; None where nothing is known.
        cpu_seconds: Processor time of all its runs; None where nothing is known.
        source: Whether the time follows from a stated cost model, or was measured on short runs.
        basis: What the time rests on, in words.
    """

    name: str
    runs: int
    batches: int
    memory_bytes: float | None = None
    cpu_seconds: float | None = None
    source: Literal["model", "measured"] = "model"
    basis: str = ""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What is left to do of a plan, and what it costs.

    Attributes:
        trials: Trials of the matrix.
        stored: Trials that are in the store already.
        parts: The parts.
        attack_seconds: Processor time of the attacks themselves; None where the store has no trials of them.
        incompatible: Why cells cannot run, and how many trials that is.
        remarks: What is to be said before anything is run.
    """

    trials: int
    stored: int
    parts: tuple[Part, ...] = ()
    attack_seconds: float | None = None
    incompatible: Mapping[str, int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def memory_bytes(self) -> float:
        """Memory of one worker on the largest batch."""
        return max((part.memory_bytes or 0.0 for part in self.parts), default=0.0)

    @property
    def cpu_seconds(self) -> float:
        """Processor time, as far as it is known."""
        return sum(part.cpu_seconds or 0.0 for part in self.parts) + (self.attack_seconds or 0.0)

    @property
    def batches(self) -> int:
        """Batches that are left."""
        return sum(part.batches for part in self.parts)

    @property
    def runs(self) -> int:
        """Runs that are left."""
        return sum(part.runs for part in self.parts)


def machine_memory() -> float:
    """The memory of this machine, or what its container may use.

    Units:
        bytes
    """
    limits = [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    for name in _CGROUP_LIMITS:
        path = Path(name)
        text = path.read_text(encoding="ascii").strip() if path.is_file() else ""
        if text.isdecimal():
            limits.append(float(text))
    return min(limits)


def refuse_memory(needed: float) -> None:
    """Refuse a run that needs more than the memory of this machine.

    Args:
        needed: What it needs.

    Units:
        bytes

    Raises:
        ConfigError: It does not fit.
    """
    memory = machine_memory()
    if needed > memory:
        raise ConfigError(
            "a run does not fit into the memory of this machine",
            got=f"about {volume(needed)}",
            expected=f"at most {volume(memory)}",
            fix="lower the number of qubits, layers, records, clients or rounds",
        )


def refuse(estimate: Estimate, *, jobs: int, long: bool = False) -> None:
    """Refuse a plan that the machine cannot bear, or a long one that nobody confirmed.

    Args:
        estimate: The plan's estimate.
        jobs: The number of workers.
        long: Whether a long plan is confirmed.

    Raises:
        ConfigError: It cannot be run, or is to be confirmed.
    """
    memory = machine_memory()
    largest = max(estimate.parts, key=lambda part: part.memory_bytes or 0.0, default=None)
    if largest is not None and estimate.memory_bytes > memory:
        raise ConfigError(
            f"{largest.name} does not fit into the memory of this machine",
            got=f"about {volume(estimate.memory_bytes)} for one batch",
            expected=f"at most {volume(memory)}",
            fix="lower the number of qubits, layers, records, clients or rounds",
        )
    workers = min(jobs, max(1, estimate.batches))
    if largest is not None and estimate.memory_bytes * workers > memory:
        raise ConfigError(
            f"so many workers on {largest.name} do not fit into the memory of this machine",
            got=f"{workers} times about {volume(estimate.memory_bytes)}",
            expected=f"at most {volume(memory)}",
            fix=f"give --jobs {int(memory // estimate.memory_bytes)} or fewer",
        )
    seconds = estimate.cpu_seconds / workers
    if seconds > LONG_SECONDS and not long:
        raise ConfigError(
            "the plan is long, by a model of its cost",
            got=f"about {duration(seconds)} with {workers} worker{'s' if workers > 1 else ''}",
            expected=f"at most {duration(LONG_SECONDS)} without a confirmation",
            fix="give --long to run it all the same, or --dry-run to see what takes so long",
        )


def volume(n_bytes: float) -> str:
    """Bytes for people."""
    for size, unit in _UNITS:
        if n_bytes >= size:
            return (
                f"{n_bytes / size:,.3g} {unit}" if n_bytes < 1000 * size else f"{n_bytes / size:,.0f} {unit}"
            )
    return f"{n_bytes:.0f} bytes"


def duration(seconds: float) -> str:
    """A time for people."""
    for size, unit in _TIMES:
        if seconds >= 2 * size or (seconds >= size and unit == "hours"):
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} seconds" if seconds >= 10 else f"{seconds:.1f} seconds"

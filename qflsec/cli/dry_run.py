"""``qflsec matrix run --dry-run``: what would be run, and what it would cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from qflsec.cli.options import check_workers, parse_seeds
from qflsec.cli.render import print_json

if TYPE_CHECKING:
    from qflsec.lab.grid.estimate import Estimate

__all__ = ["dry_run_command"]


def dry_run_command(
    spec: str,
    *,
    store: Path | None,
    jobs: int | None,
    seeds: str | None,
    seed: int,
    as_json: bool,
    engine: str | None = None,
) -> None:
    """Print the plan of a matrix with its memory and time; write nothing.

    Args:
        spec: A preset or a file.
        store: The result store; NAME.sqlite of the matrix by default.
        jobs: Worker processes.
        seeds: Seeds in the place of the specification's.
        seed: Added to every seed.
        as_json: Whether to print one document.
        engine: What makes the runs; what the specification says by default.

    Raises:
        QflsecError: The plan cannot be run at all.
    """
    from qflsec.lab import load_spec
    from qflsec.lab.specs import look, with_engine

    check_workers(jobs, "local", None)
    chosen = with_engine(load_spec(spec), engine).with_seeds(seeds=parse_seeds(seeds), offset=seed)
    look(chosen)
    from qflsec.lab import build
    from qflsec.lab.grid.backends import default_jobs
    from qflsec.lab.grid.estimate import refuse
    from qflsec.lab.grid.preview import preview

    place = store if store is not None else Path(f"{chosen.name}.sqlite")
    world = build(chosen)
    workers = jobs or default_jobs()
    refuse(preview(world, place, measure=False), jobs=workers, long=True)
    found = preview(world, place)
    workers = min(workers, max(1, found.batches))
    if as_json:
        print_json(_document(chosen.name, found, workers))
    else:
        _print(chosen.name, found, workers)


def _document(name: str, found: Estimate, workers: int) -> dict[str, Any]:
    return {
        "schema": "qflsec-matrix-plan/1",
        "name": name,
        "trials_total": found.trials,
        "trials_stored": found.stored,
        "trials_incompatible": dict(found.incompatible),
        "remarks": list(found.remarks),
        "runs": found.runs,
        "batches": found.batches,
        "workers": workers,
        "memory_per_worker_bytes": _memory(found),
        "cpu_seconds": _time(found),
        "attacks_cpu_seconds": found.attack_seconds,
        "parts": [
            {
                "name": part.name,
                "runs": part.runs,
                "batches": part.batches,
                "memory_bytes": part.memory_bytes,
                "cpu_seconds": part.cpu_seconds,
                "source": part.source,
                "basis": part.basis,
            }
            for part in found.parts
        ],
    }


def _memory(found: Estimate) -> float | None:
    """Memory of one worker, or None where nothing is known of any part."""
    unknown = found.parts and all(part.memory_bytes is None for part in found.parts)
    return None if unknown else found.memory_bytes


def _time(found: Estimate) -> float | None:
    """Processor time of all, or None where it is not known of every part."""
    return None if any(part.cpu_seconds is None for part in found.parts) else found.cpu_seconds


def _total(found: Estimate, workers: int) -> str:
    """What all of it takes, as far as that is known."""
    from qflsec.lab.grid.estimate import duration, machine_memory, volume

    memory, seconds = _memory(found), _time(found)
    apart = ", attacks and scoring apart" if found.attack_seconds is None else ""
    time = "an unknown time" if seconds is None else f"about {duration(seconds / workers)}"
    need = "an unknown part" if memory is None else f"at most {volume(workers * memory)}"
    return (
        f"In all {time} with {workers} worker{'s' if workers > 1 else ''}{apart}; "
        f"{need} of {volume(machine_memory())} memory."
    )


def _print(name: str, found: Estimate, workers: int) -> None:
    from qflsec.lab.grid.estimate import LONG_SECONDS, duration, volume

    impossible = sum(found.incompatible.values())
    typer.echo(
        f"{name}: {found.trials} trials, {found.stored} of them stored, {impossible} that cannot be run; "
        f"{found.runs} runs in {found.batches} batches are left."
    )
    for reason, count in found.incompatible.items():
        typer.echo(f"  cannot be run ({count}): {reason}")
    for remark in found.remarks:
        typer.echo(f"  note: {remark}")
    for part in found.parts:
        memory = "unknown" if part.memory_bytes is None else volume(part.memory_bytes)
        time = "unknown" if part.cpu_seconds is None else f"{duration(part.cpu_seconds)} ({part.source})"
        typer.echo(
            f"  {part.name}: {part.runs} runs in {part.batches} batches; memory {memory}; processor time {time}"
        )
    known = found.attack_seconds
    typer.echo(
        "  attacks and scoring: not in the estimate, as the store holds none of them yet"
        if known is None
        else f"  attacks and scoring: {duration(known)}, by their times in the store"
    )
    typer.echo(_total(found, workers))
    for source, basis in dict.fromkeys((part.source, part.basis) for part in found.parts if part.basis):
        typer.echo(f"({source}: {basis})")
    if found.cpu_seconds / workers > LONG_SECONDS:
        typer.echo("That is more than a day: it runs with --long alone.")

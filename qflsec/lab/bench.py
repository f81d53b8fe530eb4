"""What whole matrices cost: processor time in all processes, and where it goes."""

from __future__ import annotations

import math
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from qflsec.base import ConfigError

__all__ = ["MatrixCost", "bench_matrices"]

_NUMPY = ("-c", "import numpy")
_START = ("-c", "import qflsec.lab.worlds.federation.world")
# What a run and a trial took stands in their rows; a run's in its costs, as it shares its batch with others.
_TIMED = {
    "runs": "SELECT coalesce(sum(json_extract(content, '$.costs.cpu_seconds')), 0) FROM units WHERE stage = 'run'",
    "attacks and scores": "SELECT coalesce(sum(seconds), 0) FROM units WHERE stage = 'trial'",
}


@dataclass(frozen=True, kw_only=True)
class MatrixCost:
    """What one matrix costs.

    Attributes:
        name: The preset or file.
        seconds: The least processor time of a run with its report, in all processes.
        shares: Where it went, as fractions of it: runs, attacks and scores, the report, starting (the imports of one
            process), and the rest (ledgers, data, the store, further processes).
        against_seconds: The same of the other checkout, measured in alternation; None without one.
        numpy: Its processor time over that of ``python -c "import numpy"``.
        trials: The number of rows of trials.

    Units:
        seconds, against_seconds: seconds.
    """

    name: str
    seconds: float
    shares: Mapping[str, float] = field(default_factory=dict)
    against_seconds: float | None = None
    numpy: float
    trials: int

    @property
    def ratio(self) -> float | None:
        """Processor time over that of the other checkout; None without one."""
        return None if self.against_seconds is None else self.seconds / self.against_seconds


def bench_matrices(
    names: Sequence[str],
    *,
    seeds: str | None = None,
    jobs: int | None = None,
    repeats: int = 1,
    against: Path | None = None,
) -> list[MatrixCost]:
    """Run matrices with their reports in processes of their own, this version and another in alternation.

    Args:
        names: Presets, or files of specifications.
        seeds: Seeds in the place of the specifications' own, such as ``"0,1"``.
        jobs: Worker processes; as many as there are cores by default.
        repeats: How often each is run; the least time counts.
        against: The root of another checkout.

    Raises:
        ConfigError: The other checkout holds no such package, or a command fails.
    """
    here = Path(__file__).resolve().parents[2]
    if against is not None and not (against / "qflsec" / "__main__.py").is_file():
        raise ConfigError(
            "no checkout to compare with", got=str(against), expected="a folder with 'qflsec' in it"
        )
    roots = [here] if against is None else [here, against.resolve()]
    extra = [*(["--seeds", seeds] if seeds else []), *(["--jobs", str(jobs)] if jobs else [])]
    with TemporaryDirectory() as name:
        folder = Path(name)
        numpy = min(_timed(_NUMPY, here, folder) for _ in range(3))
        start = _timed(_START, here, folder)
        return [_cost(asked, extra, repeats, roots, folder, numpy=numpy, start=start) for asked in names]


def _cost(
    name: str,
    extra: Sequence[str],
    repeats: int,
    roots: Sequence[Path],
    folder: Path,
    *,
    numpy: float,
    start: float,
) -> MatrixCost:
    spec = str(Path(name).resolve()) if Path(name).is_file() else name
    store, page = folder / "store.sqlite", str(folder / "page.html")
    least = [math.inf] * len(roots)
    for _ in range(repeats):
        for place in reversed(range(len(roots))):  # this version last: its store is read below
            store.unlink(missing_ok=True)
            words = ("matrix", "run", spec, *extra, "--store", str(store), "--report", page)
            least[place] = min(least[place], _timed(("-m", "qflsec", *words), roots[place], folder))
    with closing(sqlite3.connect(store)) as rows:
        parts = {part: float(rows.execute(query).fetchone()[0]) for part, query in _TIMED.items()}
        (trials,) = rows.execute("SELECT count(*) FROM units WHERE stage = 'trial'").fetchone()
    read, shown = (
        _timed(("-m", "qflsec", "matrix", *words, "--store", str(store)), roots[0], folder)
        for words in (("status",), ("report", "--out", page))
    )
    parts |= {"report": max(0.0, shown - read), "starting": start}
    parts["the rest"] = max(0.0, least[0] - sum(parts.values()))
    return MatrixCost(
        name=name,
        seconds=least[0],
        shares={part: seconds / least[0] for part, seconds in parts.items()},
        against_seconds=least[1] if len(roots) > 1 else None,
        numpy=least[0] / numpy,
        trials=trials,
    )


def _timed(words: Sequence[str], root: Path, folder: Path) -> float:
    """Processor time of one command of a checkout and of all processes that it starts, in seconds."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, *words],
        cwd=folder,
        env={**kept, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise ConfigError(f"'{' '.join(words)}' of {root} cannot be measured", got=done.stderr.strip()[-300:])
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

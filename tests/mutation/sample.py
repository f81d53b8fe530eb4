"""Mutation testing on a seeded sample: ``make mutants``, or ``python tests/mutation/sample.py --help``.

mutmut changes one operator, number, argument or assignment at a time and runs the tests that reach the function.
A mutant that no test notices is a fault that the suite would let through. All mutants of the packages named in
``[tool.mutmut]`` are generated, a seeded sample of them is tested, and the survivors are written with their changes
to be judged. Words are not mutated: changes of string literals and inside ``raise`` statements are passed over.

The folder ``mutants/`` keeps what was learnt of the tests; delete it after the code or the tests changed.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path

FOLDER = Path("mutants")
MUTMUT = Path(sys.executable).with_name("mutmut")
# what a mutant's tests ended with: a crash or a time-out is a fault that was noticed, too
NOTICED = {
    1: "killed",
    3: "killed",
    36: "timeout",
    -24: "timeout",
    24: "timeout",
    152: "timeout",
    255: "timeout",
}
NOTICED |= {-11: "crashed", -9: "crashed"}
MISSED = {0: "survived", 5: "no test reaches it", 33: "no test reaches it"}


def main() -> int:
    """Generate, sample, test, report."""
    options = _options()
    _prepare(options.jobs)
    names = _sample(random.Random(options.seed), options.mutants)
    _shorten(options.seconds)
    _run(names, options.jobs, options.minutes)
    outcomes = _tested(names)
    # mutmut forks its workers from a process whose caches the clean tests have filled: faults in what made those hide
    survivors = [name for name, code in outcomes.items() if code == 0]
    with ThreadPool(options.jobs) as pool:
        outcomes |= dict(zip(survivors, pool.map(_alone, survivors), strict=True))
    return _report(names, outcomes, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample (default: %(default)s)")
    parser.add_argument("--mutants", type=int, default=300, help="size of the sample (default: %(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=60, help="bound on the tests' time (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=float, default=60, help="time of tests for a mutant (default: %(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--least", type=float, default=0.85, help="the score to reach (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("results/mutants.txt"), help="(default: %(default)s)"
    )
    return parser.parse_args()


def _prepare(jobs: int) -> None:
    """Generate all mutants, and learn which tests reach which function."""
    if (FOLDER / "mutmut-stats.json").exists():
        return
    print("generating mutants, and learning which tests reach which function", flush=True)
    steps = (
        "import mutmut.__main__ as m; m.makedirs('mutants', exist_ok=True); m.copy_src_dir(); "
        "m.copy_also_copy_files(); m.setup_source_paths(); "
        f"m.create_mutants({jobs}); m.collect_or_load_stats(m.get_mutant_runner({jobs}))"
    )
    _quietly([sys.executable, "-c", steps])


def _quietly(command: Sequence[str]) -> None:
    """Run a command, and show the end of what it printed only where it fails."""
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if ended.returncode:
        sys.exit(f"{ended.stdout[-30000:]}\n{ended.stderr[-4000:]}\nno tests to go by: see above")


def _sample(rng: random.Random, size: int) -> list[str]:
    found = sorted(name for meta in FOLDER.rglob("*.meta") for name in _outcomes(meta))
    rng.shuffle(found)
    kept: list[str] = []
    for name in found:
        if len(kept) == size:
            break
        if not _words(*_versions(name)):
            kept.append(name)
    return kept


def _outcomes(meta: Path) -> dict[str, int | None]:
    outcomes: dict[str, int | None] = json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"]
    return outcomes


def _versions(name: str) -> tuple[ast.AST, ast.AST]:
    """The function before and after the change."""
    module, _, function = name.rpartition(".")
    path = FOLDER / Path(*module.split(".")).with_suffix(".py")
    if not path.exists():
        path = path.with_suffix("") / "__init__.py"
    spans = json.loads(Path(f"{path}.spans").read_text(encoding="utf-8"))["spans"]
    lines = path.read_text(encoding="utf-8").splitlines()
    original = f"{function.rpartition('__mutmut_')[0]}__mutmut_orig"
    return _parsed(lines, spans[original]), _parsed(lines, spans[function])


def _parsed(lines: Sequence[str], span: Sequence[int]) -> ast.AST:
    source = lines[span[0] - 1 : span[1]]
    # a span may begin with empty lines
    first = next(line for line in source if line.strip())
    indent = len(first) - len(first.lstrip())
    # a method is still indented; lines inside of texts need not be
    parsed = ast.parse("if True:\n" + "\n".join(source) if indent else "\n".join(source))
    body = parsed.body[0]
    function = body.body[0] if isinstance(body, ast.If) else body
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    function.name = "function"
    return function


def _words(before: ast.AST, after: ast.AST) -> bool:
    """Whether the change is one of words: of a string literal, or inside a ``raise`` statement."""
    for old, new in _differing(before, after):
        if isinstance(old, ast.Raise):
            return True
        if isinstance(old, ast.Constant) and isinstance(old.value, str) and isinstance(new, ast.Constant):
            return True
    return False


def _differing(before: ast.AST, after: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    """The nodes from the function down to the change."""
    yield before, after
    if type(before) is not type(after):
        return
    old, new = list(ast.iter_child_nodes(before)), list(ast.iter_child_nodes(after))
    changed = [pair for pair in zip(old, new, strict=False) if ast.dump(pair[0]) != ast.dump(pair[1])]
    if len(old) == len(new) and len(changed) == 1:
        yield from _differing(*changed[0])


def _shorten(seconds: float) -> None:
    """Leave each function its quickest tests, up to so many seconds: a mutant that only the others notice counts as missed."""
    path = FOLDER / "mutmut-stats.json"
    stats = json.loads(path.read_text(encoding="utf-8"))
    durations = stats["duration_by_test"]
    for function, tests in stats["tests_by_mangled_function_name"].items():
        left = seconds
        kept: list[str] = []
        for test in sorted(tests, key=lambda test: (durations[test], test)):
            left -= durations[test]
            if left < 0 and kept:
                break
            kept.append(test)
        stats["tests_by_mangled_function_name"][function] = kept
    path.write_text(json.dumps(stats), encoding="utf-8")


def _run(names: Sequence[str], jobs: int, minutes: float) -> None:
    log = FOLDER / "run.log"
    print(f"testing {len(names)} mutants; mutmut's own words go to {log}", flush=True)
    with log.open("w", encoding="utf-8") as said:
        process = subprocess.Popen(
            [str(MUTMUT), "run", "--max-children", str(jobs), *names],
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(timeout=60 * minutes)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            process.wait()
    if process.returncode > 0:
        sys.exit(f"{log.read_text(encoding='utf-8', errors='replace')[-4000:]}\nmutmut stopped: see above")


def _tested(names: Sequence[str]) -> dict[str, int]:
    outcomes: dict[str, int | None] = {}
    for meta in FOLDER.rglob("*.meta"):
        outcomes |= _outcomes(meta)
    return {name: code for name in names if (code := outcomes.get(name)) is not None}


def _alone(name: str) -> int:
    """How a mutant's tests end in a process of its own; they pass without it, so whatever else happens is its doing."""
    stats = json.loads((FOLDER / "mutmut-stats.json").read_text(encoding="utf-8"))
    tests = stats["tests_by_mangled_function_name"][name.rpartition("__mutmut_")[0]]
    command = [
        sys.executable,
        "-c",
        "import sys, pytest; sys.path.insert(0, '.'); sys.exit(pytest.main(sys.argv[1:]))",
    ]
    ended = subprocess.run(
        [*command, "-x", "-q", "-p", "no:cacheprovider", *sorted(tests)],
        cwd=FOLDER,
        env={**os.environ, "MUTANT_UNDER_TEST": name},
        check=False,
        capture_output=True,
    )
    return ended.returncode


def _report(names: Sequence[str], tested: Mapping[str, int], options: argparse.Namespace) -> int:
    noticed = {name for name, code in tested.items() if code not in MISSED}
    packages = Counter(name.split(".")[1] for name in tested)
    lines = [f"{len(noticed)} of {len(tested)} mutants noticed (seed {options.seed}; {len(names)} drawn)"]
    for package, total in sorted(packages.items()):
        killed = sum(1 for name in noticed if name.split(".")[1] == package)
        lines.append(f"  {package}: {killed} of {total}")
    for ended, count in sorted(
        Counter(NOTICED.get(code, "other") for n, code in tested.items() if n in noticed).items()
    ):
        lines.append(f"  {ended}: {count}")
    missed = sorted(set(tested) - noticed)
    shown = [f"\n# {MISSED[tested[name]]}\n{_change(name)}" for name in missed]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join([*lines, *shown]) + "\n", encoding="utf-8")
    print("\n".join([*lines, f"survivors with their changes: {options.out}"]))
    score = len(noticed) / max(1, len(tested))
    if len(tested) < len(names):
        print(
            f"{len(names) - len(tested)} were not tested in {options.minutes:g} minutes: allow more (--minutes)"
        )
    return int(score < options.least or len(tested) < len(names))


def _change(name: str) -> str:
    made = subprocess.run([str(MUTMUT), "show", name], capture_output=True, text=True, check=False)
    return made.stdout or f"{name}: {made.stderr.strip()}"


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parents[2])
    sys.exit(main())

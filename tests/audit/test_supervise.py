"""The user's code runs in a process of its own: whatever it does is one clean line, and the other checks go on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from qflsec.audit import AuditResult, ClaimsFile, audit, find_target
from qflsec.audit.collect import parts_of
from qflsec.audit.host import _told
from qflsec.base import ConfigError

RULE = (
    "def aggregate(updates, counts):\n    return sum(c * u for c, u in zip(counts, updates)) / sum(counts)\n"
)


def audited(folder: Path, text: str, **options: object) -> AuditResult:
    (folder / "pipe.py").write_text(text)
    return audit(find_target(str(folder / "pipe.py")), **{"budget": 60.0, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("class Own(BaseException): pass\nraise Own('a\\nb')", "Own: a b"),
        ("import os; os._exit(4)", "exit code 4"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "SIGTERM"),
        ("import os; os.closerange(3, 256)", "file descriptor"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_one_line(tmp_path: Path, text: str, why: str) -> None:
    result = audited(tmp_path, text)
    (load,) = [run for run in result.runs if run.check == "load"]
    assert load.state == "failed"
    assert why in load.why
    assert "\n" not in load.why
    assert result.exit_code == 3
    by_name = {run.check: run for run in result.runs}
    assert by_name["unpickling"].state == "clean"  # it needs no run
    assert by_name["aggregate-shape"].state == "skipped"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (SystemExit(3), "the pipeline ended the process with exit code 3"),
        (ModuleNotFoundError("No module", name="absent"), "the pipeline needs the package absent, which is not installed here"),
        (ZeroDivisionError("division\nby zero"), "ZeroDivisionError: division by zero"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (ConfigError("so", fix="thus"), "so. thus"),
    ],
)  # fmt: skip
def test_what_the_users_code_raises_is_one_line(error: BaseException, line: str) -> None:
    told = _told(error)
    assert told.startswith(line[:2])
    assert "\n" not in told
    assert line in told or isinstance(error, ConfigError)


UNRULY = """
import io, os, signal, sys, threading, time
os.fork()
sys.stdout, sys.stderr = None, io.StringIO()
sys.stderr.close()
for one in (signal.SIGTERM, signal.SIGINT):
    signal.signal(one, signal.SIG_IGN)
threading.Thread(target=lambda: time.sleep(1000)).start()
os.environ.clear()
def __getattr__(name):
    raise RuntimeError(name)
def load_data():
    raise FileNotFoundError("data.csv")
def aggregate(updates, counts):
    os.fork()
    sys.stdin.close()
    return sum(c * u for c, u in zip(counts, updates)) / sum(counts)
"""


def test_what_a_file_does_to_its_process_stops_no_check(tmp_path: Path) -> None:
    """Copies that run on, streams that are gone, signals, threads; records that are not there fail alone."""
    result = audited(tmp_path, UNRULY, checks=["aggregate-shape", "non-finite-updates"])
    assert [(run.check, run.subject, run.state) for run in result.runs] == [
        ("load", "load_data", "failed"), ("aggregate-shape", "aggregate", "clean"), ("non-finite-updates", "aggregate", "found"),
    ]  # fmt: skip
    assert result.runs[0].why == "FileNotFoundError: data.csv"
    assert not result.notes
    assert not result.stopped


def test_what_is_printed_is_read_and_not_kept(tmp_path: Path) -> None:
    text = (
        "import os\nprint('x' * 10_000_000, flush=True)\nprint('\\x1b[91mthe end', flush=True)\nos._exit(5)\n"
    )
    result = audited(tmp_path, text, checks=["aggregate-shape"])
    assert result.stopped == "the pipeline ended the process with exit code 5: the end"


def test_a_file_that_hangs_is_given_up(tmp_path: Path) -> None:
    result = audited(tmp_path, "import time\ntime.sleep(1000)", budget=4.0)
    (late,) = [run for run in result.runs if run.state == "out of time" and run.check in {"start", "load"}]
    assert "it did not end within" in late.why or "half of the budget" in late.why
    assert result.exit_code == 3


DEEDS = """
import os, sys, time
def aggregate(updates, counts):
    if (updates[0] == updates[1]).all():
        time.sleep(1000)
    if updates[3][0] != updates[3][0]:
        os.kill(os.getpid(), 11)
    if counts[-1] > 1e6:
        sys.exit(2)
    if updates[-1][0] > 1e5:
        os._exit(7)
    return sum(c * u for c, u in zip(counts, updates)) / float(sum(counts))
"""


def test_a_check_that_the_pipeline_ends_takes_no_other_down(tmp_path: Path) -> None:
    """Of a budget that is long enough to begin on a busy machine; the one that sleeps has a fifth of it."""
    names = ["aggregate-shape", "no-clients", "non-finite-updates", "stated-counts", "unbounded-influence"]
    result = audited(tmp_path, DEEDS, budget=40.0, checks=names)
    assert {run.check: (run.state, run.why) for run in result.runs} == {
        "aggregate-shape": ("out of time", "it did not end within its share of the budget"),
        "no-clients": ("found", ""),
        "non-finite-updates": ("failed", "the pipeline's process was ended by SIGSEGV"),
        "stated-counts": ("failed", "the pipeline ended the process with exit code 2"),
        "unbounded-influence": ("failed", "the pipeline ended the process with exit code 7"),
    }
    assert result.exit_code == 3


def test_nothing_of_the_users_is_changed(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    text = (
        "import os, pathlib\nhere = pathlib.Path(__file__).parent\n(here / 'kept.txt').unlink()\n"
        "pathlib.Path('made.txt').write_text('x')\nos.chdir('/')\nprint('noise')\n" + RULE
    )
    result = audited(tmp_path, text)
    assert (tmp_path / "kept.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.txt", "pipe.py"]
    assert ("aggregate", "Aggregation") in result.parts


def test_a_pipeline_to_which_nothing_applies_never_passes(tmp_path: Path) -> None:
    result = audited(tmp_path, "x = 1", checks=["aggregate-shape"])
    assert [run.state for run in result.runs] == ["skipped"]
    assert result.exit_code == 3


def test_errors_decide_the_exit_code(tmp_path: Path) -> None:
    bad = audited(
        tmp_path, "import numpy as np\n" + RULE.replace("return ", "return np.mean(updates) + 0 * ")
    )
    assert bad.exit_code == 1
    guarded = (
        "import numpy as np\ndef aggregate(updates, counts):\n"
        "    kept = [u for u in updates if np.isfinite(u).all()]\n    return np.median(kept, axis=0)\n"
    )
    good = audited(tmp_path, guarded, checks=["aggregate-shape", "non-finite-updates", "unbounded-influence"])
    assert [run.state for run in good.runs] == ["clean"] * 3
    assert good.exit_code == 0


def test_bad_targets_are_told(tmp_path: Path) -> None:
    for name in ("nothing.py", "nothing.py:train"):
        with pytest.raises(ConfigError, match="nothing to audit there"):
            find_target(str(tmp_path / name))
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(ConfigError, match="no Python file"):
        find_target(str(tmp_path / "a.txt"))
    with pytest.raises(ConfigError, match="no such check"):
        audited(tmp_path, "", checks=["nonsense"])
    result = audited(tmp_path, "", claims=ClaimsFile(roles={"train": "absent"}))
    assert "nothing of this name for the role 'train'" in next(
        run.why for run in result.runs if run.check == "load"
    )


def test_files_of_packages_import_their_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: blanks in names, and a package whose name is taken."""
    monkeypatch.setattr(sys, "path", list(sys.path))  # a folder with a json of its own would stay in front
    for package in ("my_pkg", "json"):
        (tmp_path / "a b" / package).mkdir(parents=True)
        (tmp_path / "a b" / package / "__init__.py").touch()
        (tmp_path / "a b" / package / "mean.py").write_text("def mean(u): return sum(u) / len(u)\n")
        (tmp_path / "a b" / package / "my rule.py").write_text(
            "from .mean import mean\ndef aggregate(u): return mean(u)\n"
        )
    target = find_target(str(tmp_path / "a b" / "my_pkg" / "my rule.py"))
    assert target.file == "my_pkg/my rule.py"
    ((part,), _) = parts_of(target.folder, target.file, given={}, wanted="")
    assert str(part.place) == "my_pkg/my rule.py:2"
    with pytest.raises(ModuleNotFoundError):  # the standard library's has no such module
        parts_of(target.folder, "json/my rule.py", given={}, wanted="")
    with pytest.raises(ConfigError, match="another package of this name"):
        parts_of(target.folder, "json/__init__.py", given={}, wanted="")

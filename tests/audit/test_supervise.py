"""The user's code runs in a process of its own: whatever it does is one clean line, and the other checks go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from qflsec.audit import AuditResult, ClaimsFile, audit, find_target
from qflsec.base import ConfigError

RULE = (
    "def aggregate(updates, counts):\n    return sum(c * u for c, u in zip(counts, updates)) / sum(counts)\n"
)


def audited(folder: Path, text: str, **options: object) -> AuditResult:
    (folder / "pipe.py").write_text(text)
    return audit(find_target(str(folder / "pipe.py")), **{"budget": 30.0, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("raise SystemExit(3)", "exit code 3"),
        ("import os; os._exit(4)", "exit code 4"),
        ("import a_package_that_is_not_there", "needs the package a_package_that_is_not_there"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("1 / 0", "ZeroDivisionError"),
        ("def f(:", "SyntaxError"),
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


def test_a_file_that_hangs_is_given_up(tmp_path: Path) -> None:
    result = audited(tmp_path, "import time\ntime.sleep(1000)", budget=4.0)
    (load,) = [run for run in result.runs if run.check == "load"]
    assert load.state == "out of time"
    assert result.seconds < 20
    assert result.exit_code == 3


@pytest.mark.parametrize(
    "deed", ["os._exit(7)", "os.kill(os.getpid(), 11)", "sys.exit(2)", "time.sleep(1000)"]
)
def test_a_check_that_the_pipeline_ends_takes_no_other_down(tmp_path: Path, deed: str) -> None:
    text = f"import os, sys, time\n{RULE.replace('    return', f'    if updates[3][0] != updates[3][0]: {deed}{chr(10)}    return')}"
    result = audited(tmp_path, text, budget=5.0, checks=["non-finite-updates", "aggregate-shape"])
    by_name = {run.check: run for run in result.runs}
    assert by_name["non-finite-updates"].state == ("out of time" if "sleep" in deed else "failed")
    assert by_name["aggregate-shape"].state == "clean"
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

"""An audit from without: begin the process of the pipeline, keep the budget, and collect what is found."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qflsec.audit.claim import claim_from_config
from qflsec.audit.claims_file import ClaimsFile
from qflsec.audit.flower.observers import DEFAULT_PARTIES, PARTIES
from qflsec.audit.outcome import AuditResult, CheckRun, State, Verdict, run_from_json, verdict_from_json
from qflsec.audit.target import Target, copied
from qflsec.base import ConfigError, names
from qflsec.lab.grid.files import load_user_plugins
from qflsec.version import __version__

__all__ = ["audit"]

_LOADING_SHARE = 0.5
"""Of the budget: a file that takes longer to load is given up."""
_PATIENCE = 3.0
_PACKAGES = ("numpy", "torch", "pennylane", "opacus", "qiskit", "flwr", "tenseal")
_CHUNK = 1 << 16
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(kw_only=True)
class _Found:
    """What has come so far."""

    runs: list[CheckRun] = field(default_factory=list)
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    parts: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    now: tuple[str, str] = ("start", "")
    done: bool = False
    shut: bool = False

    def take(self, event: Mapping[str, Any]) -> None:
        content = {key: value for key, value in event.items() if key != "event"}
        match event["event"]:
            case "begin":
                self.now = (content["check"], content["subject"])
            case "loading":
                self.now = ("load", content["subject"])
            case "run":
                self.runs.append(run_from_json(content))
            case "verdict":
                self.verdicts[content["index"]] = verdict_from_json(content["verdict"])
            case "parts":
                self.parts = [(name, kind) for name, kind in content["parts"]]
                self.notes += content["notes"]
            case "unloaded":
                self.runs.append(
                    CheckRun(check="load", subject=content["subject"], state="failed", why=content["why"])
                )
            case "done":
                self.done = True


def audit(
    target: Target,
    claims: ClaimsFile | None = None,
    *,
    budget: float = 300.0,
    seed: int = 0,
    checks: Sequence[str] = (),
    threats: Sequence[str] = DEFAULT_PARTIES,
    plugins: Sequence[str] = (),
    in_place: bool = False,
    command: str = "",
    progress: Callable[[str], None] = lambda _: None,
) -> AuditResult:
    """Audit a pipeline.

    The pipeline's code runs in a process of its own, in a copy of its folder, and is ended when the budget is spent.
    That keeps accidents apart; it is no sandbox against code that means harm.

    Args:
        target: The file or the folder.
        claims: What its author claims.
        budget: Wall time in seconds.
        seed: Of the audit's own draws.
        checks: The checks that are made; all by default.
        threats: The parties whose views of a Flower app are attacked: ``server``, ``client``, ``network``, ``public``.
        plugins: Files or modules that register further checks and claims.
        in_place: Whether the code runs in its own folder in place of a copy.
        command: The command, for the report.
        progress: Called with a line now and then.

    Raises:
        ConfigError: The system cannot fork, the folder cannot be copied, or a check has no such name.
    """
    if not hasattr(os, "fork"):
        raise ConfigError("audits need a system that can fork", got=sys.platform, expected="Linux or macOS")
    files = [str(Path(one).resolve()) if one.endswith(".py") else one for one in plugins]
    load_user_plugins(files)
    unknown = [name for name in checks if name not in names("check")]
    if unknown:
        raise ConfigError("no such check", got=", ".join(unknown), expected=", ".join(names("check")))
    if strangers := [name for name in threats if name not in PARTIES]:
        raise ConfigError("no such party", got=", ".join(strangers), expected=", ".join(PARTIES))
    given = claims or ClaimsFile()
    begun = time.monotonic()
    found, stopped = _Found(), ""
    with tempfile.TemporaryDirectory(prefix="qflsec-audit-", ignore_cleanup_errors=True) as scratch:
        folder = target.folder if in_place else copied(target, _made(Path(scratch) / "copy"))
        request = {
            "folder": str(folder), "file": target.file, "wanted": target.wanted, "roles": dict(given.roles),
            "claims": [dict(table) for table in given.claims], "checks": list(checks), "plugins": files, "seed": seed, "threats": list(threats),
            "seconds": max(0.0, budget - (time.monotonic() - begun)),
        }  # fmt: skip
        try:
            stopped = _follow(request, Path(scratch), found, begun + budget, budget, progress)
        except KeyboardInterrupt:
            stopped = "interrupted"
    return AuditResult(
        target=target.named,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        seed=seed,
        budget_s=budget,
        seconds=time.monotonic() - begun,
        stopped=stopped,
        versions=_versions(),
        parts=tuple(found.parts),
        notes=tuple(found.notes),
        runs=tuple(found.runs),
        verdicts=tuple(_all_verdicts(given.claims, found, stopped)),
    )


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _follow(
    request: Mapping[str, Any],
    scratch: Path,
    found: _Found,
    deadline: float,
    budget: float,
    progress: Callable[[str], None],
) -> str:
    """Begin the process and take what it tells; why it ended early."""
    (scratch / "request.json").write_text(json.dumps(request), encoding="utf-8")
    ours, theirs = os.pipe()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-m", "qflsec.audit.host", str(scratch / "request.json"), str(theirs)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=request["folder"],
        env={**environment, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        pass_fds=(theirs,),
        start_new_session=True,
    )
    os.close(theirs)
    printed = _Printed(process)
    try:
        for event in _events(ours, found, deadline, budget):
            found.take(event)
            if found.done:  # what the pipeline began may still hold the pipe open
                break
            if event["event"] in {"begin", "loading"}:
                progress(f"{found.now[0]}: {found.now[1]}")
        if found.shut:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE)
        ended = process.poll()
    finally:
        os.close(ours)
        _end(process)
    if found.done:
        return ""
    return _cut(request, found, ended, printed.last_line())


class _Printed:
    """What a process prints: read all the time, so that it never waits for us, and only the end of it kept."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # it is a pipe
        self._stream, self._kept = process.stdout, b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while piece := self._stream.read1(_CHUNK):  # type: ignore[attr-defined]
            self._kept = (self._kept + piece)[-_CHUNK:]

    def last_line(self) -> str:
        """The last line that is not empty."""
        self._thread.join(_PATIENCE)
        text = _COLOURS.sub("", self._kept.decode("utf-8", errors="replace"))
        lines = text.strip().splitlines()
        return lines[-1][:500] if lines else ""


def _events(pipe: int, found: _Found, deadline: float, budget: float) -> Iterator[dict[str, Any]]:
    """What the process tells, until it ends or its time is over."""
    limit = float("inf")  # the process must have begun before the file's own time counts
    rest = b""
    with selectors.DefaultSelector() as ready:
        ready.register(pipe, selectors.EVENT_READ)
        while True:
            if found.now[0] != "load":
                limit = float("inf")
            elif limit == float("inf"):
                limit = time.monotonic() + _LOADING_SHARE * budget
            until = min(deadline + _PATIENCE, limit)
            if not ready.select(max(0.0, until - time.monotonic())):
                return
            piece = os.read(pipe, _CHUNK)
            if not piece:
                found.shut = True
                return
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                try:
                    event = json.loads(line)
                except ValueError:
                    found.notes.append(
                        "the pipeline wrote into the channel of the audit, so that a line was lost"
                    )
                    continue
                yield event


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and what it began; it ends its own copies on SIGTERM."""
    with suppress(OSError):
        process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE)
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _cut(request: Mapping[str, Any], found: _Found, code: int | None, printed: str) -> str:
    """Why there is no more to come; the last stage is a row of the coverage.

    Args:
        request: What the process was asked.
        found: What has come.
        code: How the process ended by itself; None where it did not.
        printed: The last line that it printed.
    """
    check, subject = found.now
    state: State = "failed"
    if code is None and not found.shut:
        state, why = "out of time", "it did not end within the budget"
        if check == "load":
            why = "the file did not end loading within half of the budget"
    elif code is None:
        why = "the pipeline closed the channel of the audit, a file descriptor that it did not open"
    elif code < 0:
        why = f"the pipeline's process was ended by {signal.Signals(-code).name}"
    else:
        why = f"the pipeline ended the process with exit code {code}{f': {printed}' if code and printed else ''}"
    found.runs.append(CheckRun(check=check, subject=subject, state=state, why=why))
    made = {run.check for run in found.runs}
    missing = [name for name in request["checks"] or names("check") if name not in made]
    found.runs += [
        CheckRun(check=name, subject="", state="skipped", why=f"not reached: {why}") for name in missing
    ]
    return why


def _all_verdicts(claims: Sequence[Mapping[str, Any]], found: _Found, stopped: str) -> Iterator[Verdict]:
    for index, table in enumerate(claims):
        verdict = found.verdicts.get(index)
        yield verdict or claim_from_config(table).untested(stopped or "the audit did not come to it")


def _versions() -> dict[str, str]:
    found = {"qflsec": __version__, "python": sys.version.split()[0]}
    for name in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found

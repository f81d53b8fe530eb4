"""The process in which a user's code runs: it loads the file, and makes every check in a copy of itself.

A copy (fork) for each check keeps what one check breaks from the next, and can be ended when its time is over. What is
found goes to the process that began this one, a JSON line each, through a pipe that the user's prints cannot reach.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from qflsec.audit.check import Bench, Check, examined
from qflsec.audit.claim import Claim, claim_from_config
from qflsec.audit.collect import parts_of, source_code
from qflsec.audit.outcome import CheckRun, State
from qflsec.audit.parts import Part, SourceCode
from qflsec.base import QflsecError, find, names
from qflsec.base.failures import own_traceback
from qflsec.lab.grid.files import load_user_plugins

__all__ = ["serve"]

_GRACE = 2.0
"""Seconds that a check gets beyond its time to say what it has."""
_CHUNK = 1 << 16
_TRAINING_SHARE = 0.3
"""Of the time, for the clients of an app to train: loading it and this must end within half of the budget."""
_CLAIM_WEIGHT = 6.0
"""A claim's share of the time against a check's of weight 1."""


@dataclass(kw_only=True)
class _Host:
    """The process's state: what it was asked, and where it tells."""

    request: Mapping[str, Any]
    pipe: int
    deadline: float
    unloaded: bool = False
    process: int = field(default_factory=os.getpid)

    def tell(self, event: str, **content: Any) -> None:  # noqa: ANN401 - JSON
        if os.getpid() != self.process:  # the pipeline made a copy of us that runs on
            os._exit(0)
        os.write(self.pipe, json.dumps({"event": event, **content}).encode() + b"\n")

    def run(self) -> None:
        folder, file = Path(self.request["folder"]), self.request["file"]
        load_user_plugins(self.request["plugins"])
        checks = [(name, find("check", name)()) for name in self._chosen()]
        claims = [claim_from_config(table) for table in self.request["claims"]]
        source = source_code(folder, file)
        self._examine([(n, c, source) for n, c in checks if c.looks_at is SourceCode], later=len(checks))
        self.tell("loading", subject=file or "the folder")
        parts = self._load(folder, file)
        others = [(n, c) for n, c in checks if c.looks_at is not SourceCode]
        work = [(n, c, part) for n, c in others for part in parts if isinstance(part, c.looks_at)]
        weight = _CLAIM_WEIGHT * len(claims)
        self._examine(sorted(work, key=lambda one: one[1].weight), later=weight)
        for name, check in others:
            if not any(isinstance(part, check.looks_at) for part in parts):
                why = f"the pipeline shows no part of the kind {check.looks_at.__name__}"
                self.tell(
                    "run", **asdict(_absent(name, "the file could not be run" if self.unloaded else why))
                )
        for index, claim in enumerate(claims):
            self._judge(index, claim, [source, *parts], len(claims) - index)
        self.tell("done")

    def _chosen(self) -> list[str]:
        return [
            name for name in names("check") if not self.request["checks"] or name in self.request["checks"]
        ]

    def _load(self, folder: Path, file: str) -> list[Part]:
        broken: list[tuple[str, BaseException]] = []
        try:
            parts, notes = parts_of(
                folder,
                file,
                given=self.request["roles"],
                wanted=self.request["wanted"],
                seconds=_TRAINING_SHARE * self.request["seconds"],
                seed=self.request["seed"],
                threats=self.request["threats"],
                broken=broken,
            )
        except BaseException as error:  # noqa: BLE001 - whatever the user's file does is told
            self.unloaded = True
            self.tell("unloaded", subject=file or "the folder", why=_told(error))
            return []
        for name, reason in broken:
            self.tell("unloaded", subject=name, why=_told(reason))
        self.tell("parts", parts=[[part.name, type(part).__name__] for part in parts], notes=notes)
        return parts

    def _examine(self, work: Sequence[tuple[str, Check, Part]], *, later: float) -> None:
        weight = sum(check.weight for _, check, _ in work) + later
        for name, check, part in work:
            share = max(0.0, self.deadline - time.monotonic()) * check.weight / max(weight, check.weight)
            weight -= check.weight
            self.tell("run", **self._one(name, check, part, share))

    def _one(self, name: str, check: Check, part: Part, share: float) -> dict[str, Any]:
        """One check of one part within its share of the time."""
        begun = time.monotonic()
        late = CheckRun(
            check=name, subject=part.name, state="out of time", why="the budget was spent before it began"
        )
        if share <= 0:
            return asdict(late)
        bench = Bench(seed=self.request["seed"], deadline=begun + share)
        self.tell("begin", check=name, subject=part.name)
        said = _in_a_copy(lambda: asdict(examined(name, check, part, bench)), bench.deadline, self.pipe)
        if "failed" in said:
            state: State = "out of time" if said["late"] else "failed"
            seconds = time.monotonic() - begun
            return asdict(replace(late, state=state, why=said["failed"], seconds=seconds))
        return said

    def _judge(self, index: int, claim: Claim, parts: Sequence[Part], left: int) -> None:
        share = (self.deadline - time.monotonic()) / left
        if share <= 0:
            self.tell(
                "verdict", index=index, verdict=asdict(claim.untested("the budget was spent before it began"))
            )
            return
        bench = Bench(seed=self.request["seed"], deadline=time.monotonic() + share)
        self.tell("begin", check=f"claim {claim.kind}", subject=claim.sentence)
        said = _in_a_copy(lambda: asdict(claim.verdict(parts, bench)), bench.deadline, self.pipe)
        if "failed" in said:
            said = asdict(claim.untested(said["failed"]))
        self.tell("verdict", index=index, verdict=said)


def _absent(name: str, why: str) -> CheckRun:
    return CheckRun(check=name, subject="", state="skipped", why=why)


def _in_a_copy(work: Callable[[], dict[str, Any]], deadline: float, parents: int) -> dict[str, Any]:
    """What a function gives in a copy of this process, or why it gave nothing."""
    ours, theirs = os.pipe()
    _flush()
    child = os.fork()
    if not child:
        _be_the_copy(work, theirs, (ours, parents))
    os.close(theirs)
    with suppress(OSError):  # the copy does the same; whoever is first
        os.setpgid(child, child)
    signal.signal(signal.SIGTERM, lambda *_: _end(child))
    try:
        text, late = _read(ours, deadline + _GRACE)
    finally:
        os.close(ours)
        with suppress(OSError):
            os.killpg(child, signal.SIGKILL)  # with everything that it began
        _, status = os.waitpid(child, 0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if late:
        return {"failed": "it did not end within its share of the budget", "late": True}
    try:
        said: dict[str, Any] = json.loads(text)
    except ValueError:
        return {"failed": _ended(status), "late": False}
    return said


def _end(child: int) -> NoReturn:
    with suppress(OSError):
        os.killpg(child, signal.SIGKILL)
    os._exit(1)


def _be_the_copy(work: Callable[[], dict[str, Any]], pipe: int, others: tuple[int, ...]) -> NoReturn:
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for other in others:
        os.close(other)
    process = os.getpid()
    try:
        said = json.dumps(work(), default=_plain)
    except BaseException as error:  # noqa: BLE001 - whatever the user's code does is told
        with suppress(Exception):  # the pipeline may have put anything in its place
            sys.stderr.write(own_traceback(error))
        said = json.dumps({"failed": _told(error), "late": False})
    if os.getpid() == process:  # else the pipeline made a copy of us that runs on
        with suppress(OSError):
            left = said.encode()
            while left:
                left = left[os.write(pipe, left) :]
        _flush()
    os._exit(0)


def _flush() -> None:
    """Write out what the pipeline printed; it may have closed or replaced the streams."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Numbers of NumPy and torch as JSON has them."""
    item = getattr(value, "item", None)
    return item() if callable(item) else str(value)


def _read(pipe: int, deadline: float) -> tuple[bytes, bool]:
    """What stands in a pipe until its other end is closed, and whether that took too long."""
    found = b""
    while True:
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return found, True
        piece = os.read(pipe, _CHUNK)
        if not piece:
            return found, False
        found += piece


def _ended(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"the pipeline's process was ended by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"the pipeline ended the process with exit code {os.waitstatus_to_exitcode(status)}"


def _told(error: BaseException) -> str:
    """An error of the user's code on one line."""
    if isinstance(error, SystemExit):
        return f"the pipeline ended the process with exit code {error.code or 0}"
    if isinstance(error, ModuleNotFoundError):
        return f"the pipeline needs the package {error.name}, which is not installed here"
    if isinstance(error, QflsecError):
        return " ".join(str(error).split())
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}"[:500] if said else type(error).__name__


def serve(request: Mapping[str, Any], pipe: int) -> None:
    """Load, check and judge, and tell each result as it comes.

    Args:
        request: folder, file, wanted, roles, claims, checks, plugins, seed, seconds, threats.
        pipe: Where to tell.
    """
    sys.argv[:] = [request["file"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _Host(request=request, pipe=pipe, deadline=time.monotonic() + request["seconds"]).run()


if __name__ == "__main__":
    serve(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), int(sys.argv[2]))

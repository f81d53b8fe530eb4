"""``qflsec flower run``: an app on this machine, by Flower's own SuperLink and SuperNodes over TLS."""

from __future__ import annotations

import json
import shutil
import socket
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qflsec.base import ConfigError
from qflsec.flower.certificates import make_certificates
from qflsec.flower.homes import make_homes
from qflsec.flower.processes import Processes, free_ports
from qflsec.flower.warm import can_warm, write_command
from qflsec.threat import SERVER, client

__all__ = ["Deployment", "Finished"]

_POLL = 0.25
_START = 60.0
_EXPECTED = "an app written by 'qflsec flower new', or one whose configuration has num-clients, server-home and ledger"


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How a run ended.

    Attributes:
        outcome: ``"completed"``, ``"aborted: "`` or ``"failed: "`` with the reason, or ``"stopped: "`` where no end was
            written.
        rounds: What happened in each round, as the ledger says.
        scores: What the server says of the final model.
        logs: The folder of the logs.
        seconds: How long it took.
    """

    outcome: str
    rounds: tuple[Mapping[str, Any], ...]
    scores: Mapping[str, float]
    logs: Path
    seconds: float


@dataclass(kw_only=True)
class Deployment:
    """One run of an app.

    Attributes:
        app: The app's folder.
        nodes: The number of SuperNodes.
        folder: Where keys, logs and the ledger go.
        config: Values of the app's run configuration that are set for this run.
        limit: After how long the run is stopped.
        told: Is called with each new line of the ledger.
        while_running: Is called again and again with the processes, for tests that end some of them.
        imports: What the process that nodes answer in copies of imports besides what every app needs.
        warm: Whether nodes answer in copies of a process that has everything imported, where the system allows it; else in
            new ones, as Flower starts them.

    Units:
        limit: seconds
    """

    app: Path
    nodes: int
    folder: Path
    config: Mapping[str, str | int | float] = field(default_factory=dict)
    limit: float = 3600.0
    told: Callable[[Mapping[str, Any]], None] | None = None
    while_running: Callable[[Deployment, Processes], None] | None = None
    imports: tuple[str, ...] = ()
    warm: bool = True
    lines: list[Mapping[str, Any]] = field(default_factory=list)
    _forgotten: bool = field(default=False, init=False)

    def run(self) -> Finished:
        """Start everything, wait for the end, and stop everything.

        Raises:
            ConfigError: The folder holds no app that says what it does, or something could not be started.
        """
        began = time.monotonic()
        with self.started() as processes:
            self.submit(processes, {"ledger": str(self.folder / "ledger.jsonl"), **self.config})
            outcome = self._watch(processes, began)
        end = next((line for line in self.lines if line["kind"] == "end"), {})
        return Finished(
            outcome=outcome,
            rounds=tuple(line for line in self.lines if line["kind"] == "round"),
            scores=end.get("scores", {}),
            logs=self.folder / "logs",
            seconds=time.monotonic() - began,
        )

    @contextmanager
    def started(self) -> Iterator[Processes]:
        """A SuperLink and SuperNodes with keys of their own, until the context is left; then all of that is gone.

        Raises:
            ConfigError: The folder holds no app that says what it does, or something could not be started.
        """
        self.check()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (self.folder / "ledger.jsonl").exists():
            raise ConfigError(f"there is a run already in {self.folder}", fix="name another folder")
        homes = make_homes(self.folder / "keys", self.nodes)
        authority, certificate, key = make_certificates(self.folder / "tls")
        self._port, *ports = free_ports(1 + self.nodes)
        flower = self.folder / "flower"
        flower.mkdir(exist_ok=True)
        self._write_connection(flower, authority)
        self._authority, self._ports, self._homes = authority, ports, homes
        environment = {
            "FLWR_HOME": str(flower),
            "FLWR_TELEMETRY_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.3",
        }
        with ExitStack() as last:
            # whoever gets hold of them later could read what was recorded of the run
            last.callback(shutil.rmtree, self.folder / "keys", ignore_errors=True)
            last.callback(key.unlink)
            first = last.enter_context(tempfile.TemporaryDirectory(prefix="qflsec-")) if self._warm else ""
            processes = last.enter_context(
                Processes(self.folder / "logs", environment, first=[first] if first else [])
            )
            if first:
                self._start_nursery(processes, Path(first))
            link = ["flower-superlink", "--host", "127.0.0.1", "--port", str(self._port)]
            link += ["--ssl-ca-certfile", str(authority), "--ssl-certfile", str(certificate)]
            link += ["--ssl-keyfile", str(key), "--disable-runtime-dependency-installation"]
            self._link = link
            processes.start("superlink", link)
            self._wait_for_link(processes)
            for index in range(self.nodes):
                self.start_node(processes, index)
            yield processes

    def submit(self, processes: Processes, config: Mapping[str, str | int | float]) -> None:
        """Ask the SuperLink for a run of the app.

        Args:
            processes: The processes that were started.
            config: Values of the app's run configuration; the number of clients and the server's home are set.
        """
        self._forgotten = False
        values = {**config, "num-clients": self.nodes, "server-home": str(self._homes[SERVER])}
        settings = " ".join(f"{name}={json.dumps(value)}" for name, value in values.items())
        # it goes on for as long as the run does, and its log is that of the server's app
        command = ["flwr", "run", str(self.app), "local", "--stream", "--run-config", settings]
        processes.start("flwr-run", command)

    def start_node(self, processes: Processes, index: int) -> None:
        """Start the SuperNode of one client, with that client's home.

        Args:
            processes: The processes of the run.
            index: The client.
        """
        where = f'partition-id={index} num-partitions={self.nodes} qflsec-home="{self._homes[client(index)]}"'
        command = ["flower-supernode", "--superlink", f"127.0.0.1:{self._port}"]
        command += ["--root-certificates", str(self._authority), "--host", "127.0.0.1"]
        command += ["--port", str(self._ports[index]), "--node-config", where]
        processes.start(f"supernode-{index}", command)

    @property
    def _warm(self) -> bool:
        return self.warm and can_warm()

    def _start_nursery(self, processes: Processes, folder: Path) -> None:
        """Start the process that nodes answer in copies of."""
        place = write_command(folder)
        processes.start("nursery", [sys.executable, "-m", "qflsec.flower.warm", str(place), *self.imports])
        deadline = time.monotonic() + _START
        while not place.exists():
            if "nursery" in processes.ended() or time.monotonic() > deadline:
                raise ConfigError("the apps' process did not start", fix=f"read {processes.log('nursery')}")
            time.sleep(_POLL)

    def start_link(self, processes: Processes) -> None:
        """Start the SuperLink again, which knows nothing of the run any more: a run that was going on has ended.

        Args:
            processes: The processes of the run.
        """
        processes.start("superlink", self._link)
        self._wait_for_link(processes)
        self._forgotten = True

    def check(self) -> None:
        """Refuse an app that does not fit, before anything is started.

        Raises:
            ConfigError: The folder holds no app that says what it does, or its configuration has no such value.
        """
        try:
            project = tomllib.loads((self.app / "pyproject.toml").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError("the folder holds no Flower app", got=error, expected=_EXPECTED) from None
        known = project.get("tool", {}).get("flwr", {}).get("app", {}).get("config", {})
        missing = {"num-clients", "server-home", "ledger"} - set(known)
        if missing:
            raise ConfigError("the app's configuration lacks values", got=sorted(missing), expected=_EXPECTED)
        if unknown := set(self.config) - set(known):
            raise ConfigError(
                "the app's configuration has no such values",
                got=sorted(unknown),
                expected=f"some of {', '.join(known)}",
                fix="add them to [tool.flwr.app.config] of its pyproject.toml if the app reads them",
            )
        for name, value in self.config.items():
            if not _fits(value, known[name]):
                raise ConfigError(
                    f"the app's configuration has another type of value for {name!r}",
                    got=repr(value),
                    expected=f"a value such as {known[name]!r}",
                )

    def _write_connection(self, flower: Path, authority: Path) -> None:
        (flower / "config.toml").write_text(
            f'[superlink]\ndefault = "local"\n\n[superlink.local]\naddress = "127.0.0.1:{self._port}"\n'
            f'root-certificates = "{authority}"\n',
            encoding="utf-8",
        )

    def _wait_for_link(self, processes: Processes) -> None:
        deadline = time.monotonic() + _START
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
                return
            if "superlink" in processes.ended():
                break
            time.sleep(_POLL)
        raise ConfigError("the SuperLink did not start", fix=f"read {processes.log('superlink')}")

    def _watch(self, processes: Processes, began: float) -> str:
        """Follow the ledger until it ends, or nothing can end it any more."""
        place = 0
        while True:
            # before the ledger is read, whose end may be written last of all
            stopped = self._stopped(processes, began)
            place = self._follow(place)
            if self.lines and self.lines[-1]["kind"] == "end":
                return str(self.lines[-1]["outcome"])
            if stopped:
                return stopped
            if self.while_running is not None:
                self.while_running(self, processes)
            time.sleep(_POLL)

    def _follow(self, place: int) -> int:
        """Take in the whole lines of the ledger from a place on; the place behind them."""
        path = self.folder / "ledger.jsonl"
        if not path.exists():
            return place
        with path.open(encoding="utf-8") as file:
            file.seek(place)
            while (line := file.readline()).endswith("\n"):
                place = file.tell()
                self.lines.append(json.loads(line))
                if self.told is not None:
                    self.told(self.lines[-1])
        return place

    def _stopped(self, processes: Processes, began: float) -> str:
        """Why nothing can end the run any more; empty where something can."""
        if self._forgotten:
            return "stopped: the SuperLink was started again, and knows nothing of the run"
        ended = processes.ended()
        if "superlink" in ended:
            return "stopped: the SuperLink ended, and the run with it"
        if "flwr-run" in ended:
            what = "the run could not be started"
            if ended["flwr-run"] == 0:
                what = "the server's app ended without an outcome"
            return f"stopped: {what}; read {processes.log('flwr-run')}"
        if time.monotonic() - began > self.limit:
            return f"stopped: the run did not end within {self.limit:g} s"
        return ""


def _fits(value: object, known: object) -> bool:
    """Whether a value is of the type of another; a whole number does for any number."""
    return type(value) is type(known) or (type(value) is int and type(known) is float)

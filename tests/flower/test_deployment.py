"""Apps as processes: Flower's own SuperLink and SuperNodes on the loopback, some of which are killed."""

from __future__ import annotations

import importlib
import json
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import qflsec.flower.processes as processes_module
from qflsec.base import ConfigError
from qflsec.flower.certificates import make_certificates
from qflsec.flower.deployment import Deployment, Finished
from qflsec.flower.grid import run_in_process
from qflsec.flower.homes import make_homes
from qflsec.flower.processes import Processes, free_ports
from qflsec.flower.project import new_project
from qflsec.threat import SERVER, client

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "flower"


def test_a_certificate_is_of_this_machine_and_of_one_authority(tmp_path: Path) -> None:
    files = make_certificates(tmp_path / "one")
    strangers = make_certificates(tmp_path / "other")
    assert stat.S_IMODE(files[2].stat().st_mode) == 0o600

    def greeted(authority: Path, name: str) -> bool:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(files[1], files[2])
        a, b = socket.socketpair()
        thread = threading.Thread(target=_answer, args=(server, a))
        thread.start()
        try:
            with ssl.create_default_context(cafile=str(authority)).wrap_socket(
                b, server_hostname=name
            ) as end:
                end.send(b"x")
        except ssl.SSLError:
            return False
        finally:
            b.close()
            thread.join()
            a.close()
        return True

    assert greeted(files[0], "127.0.0.1")
    assert not greeted(files[0], "example.org")
    assert not greeted(strangers[0], "127.0.0.1")


def _answer(context: ssl.SSLContext, raw: socket.socket) -> None:
    with suppress(OSError), context.wrap_socket(raw, server_side=True) as end:
        end.recv(1)


def test_processes_end_with_their_context_and_all_that_they_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that ignore the polite signal, and what runs under them."""
    script = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid, flush=True)
time.sleep(60)
"""
    monkeypatch.setattr(processes_module, "_GRACE", 0.2)
    processes = Processes(tmp_path / "logs", {})

    def interrupted() -> None:
        with processes:
            before = processes.start("one", [sys.executable, "-c", "import time; time.sleep(60)"])
            processes.start("one", [sys.executable, "-c", "pass"])  # another of the name takes its place
            assert before.poll() is not None
            processes.start("one", [sys.executable, "-c", script])
            while not processes.log("one").read_text():
                time.sleep(0.02)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    child = int(processes.log("one").read_text())
    assert set(processes.ended()) == {"one"}
    assert eventually(lambda: not running(child)), "what the process started still runs"
    with pytest.raises(ConfigError, match="is not installed"):
        processes.start("none", ["no-such-command-here"])
    assert len(set(free_ports(5))) == 5


def test_ctrl_c_while_a_process_starts_is_not_lost_and_neither_is_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raised during a fork it would be ignored; raised behind it, the process would not be known yet."""
    made: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def pressed(*arguments: Any, **settings: Any) -> subprocess.Popen[bytes]:
        with suppress(KeyboardInterrupt):  # as Python's own hooks do
            signal.raise_signal(signal.SIGINT)
        made.append(popen(*arguments, **settings))
        return made[-1]

    monkeypatch.setattr(subprocess, "Popen", pressed)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), Processes(tmp_path, {}) as processes:
            processes.start("one", [sys.executable, "-c", "import time; time.sleep(60)"])
    finally:
        signal.signal(signal.SIGINT, before)
    assert made[0].poll() is not None


def test_an_app_is_written_once_and_runs_in_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app of ``qflsec flower new``, with nodes that are calls: 3 nodes, 2 rounds."""
    folder = tmp_path / "app"
    assert len(new_project(folder, nodes=3)) == 6
    with pytest.raises(ConfigError, match="nothing is overwritten"):
        new_project(folder)
    monkeypatch.syspath_prepend(str(folder))
    server = importlib.import_module("hospitals.server_app").app
    client_app = importlib.import_module("hospitals.client_app").app
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    homes = make_homes(folder / "keys", 3)
    ledger = folder / "ledger.jsonl"
    config = project["tool"]["flwr"]["app"]["config"] | {
        "num-server-rounds": 2,
        "local-steps": 1,
        "server-home": str(homes[SERVER]),
        "ledger": str(ledger),
    }
    run_in_process(
        server, client_app, 3, config=config, nodes=lambda i: {"qflsec-home": str(homes[client(i)])}
    )
    *rounds, end = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert [line["ids"] for line in rounds] == [[0, 1, 2]] * 2
    assert end["outcome"] == "completed"
    assert 0.3 < end["scores"]["accuracy"] < 1
    for name in [name for name in sys.modules if name.startswith("hospitals")]:
        del sys.modules[name]
    rows = [row for line in rounds for row in line["ledger"] if row["layer"] == "ddp"]
    assert any(row["guarantee"] == "differential privacy" and row["epsilon"] for row in rows)


def test_nodes_as_processes_train_under_secure_aggregation_and_leave_nothing_running(tmp_path: Path) -> None:
    """The app of ``examples/flower``: a SuperLink and 3 SuperNodes over TLS, 2 rounds."""
    place, seen = tmp_path / "run", set()

    def hook(_: Deployment, processes: Processes) -> None:
        seen.update(name for name in ("superlink", "supernode-2") if running(processes.leader(name)))

    finished = Deployment(
        app=EXAMPLE,
        nodes=3,
        folder=place,
        config={"num-server-rounds": 2, "stack": "sums"},
        limit=300.0,
        while_running=hook,
    ).run()
    assert finished.outcome == "completed", finished
    assert [line["ids"] for line in finished.rounds] == [[0, 1, 2]] * 2
    assert {row["layer"] for row in finished.rounds[-1]["ledger"]} >= {"secagg"}
    assert finished.scores["accuracy"] > 0.6
    assert seen == {"superlink", "supernode-2"}
    assert not (place / "keys").exists()
    mark = f"FLWR_HOME={place}".encode()
    assert sys.platform != "linux" or eventually(lambda: not marked(mark)), marked(mark)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"stak": "median"}, "no such values; got \\['stak'\\]; expected some of num-clients,"),
        (
            {"patience": "soon"},
            "another type of value for 'patience'; got 'soon'; expected a value such as 120.0",
        ),
        ({"liar": 1.5}, "another type of value for 'liar'"),
        ({"liar": True}, "another type of value for 'liar'"),
    ],
)
def test_a_value_that_the_app_does_not_read_is_refused_before_anything_starts(
    given: dict[str, Any], why: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=why):
        Deployment(app=EXAMPLE, nodes=3, folder=tmp_path / "run", config=given).run()
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_an_app_that_fails_ends_the_run_and_its_error_is_in_the_log(tmp_path: Path) -> None:
    config = {"stack": "none such", "patience": 60}
    done = Deployment(app=EXAMPLE, nodes=1, folder=tmp_path / "run", config=config, limit=300.0).run()
    log = done.logs / "flwr-run.log"
    assert done.outcome == f"stopped: the server's app ended without an outcome; read {log}"
    assert "KeyError: 'none such'" in log.read_text()


@pytest.mark.parametrize(
    ("ended", "outcome"),
    [
        ({"flwr-run": 0}, "stopped: the server's app ended without an outcome; read"),
        ({"flwr-run": 1}, "stopped: the run could not be started; read"),
        ({"flwr-run": 1, "superlink": 0}, "stopped: the SuperLink ended"),
    ],
)
def test_a_run_that_nothing_can_end_is_not_waited_for_and_an_outcome_that_is_written_counts(
    ended: dict[str, int], outcome: str, tmp_path: Path
) -> None:
    def watched(told: str) -> str:
        class Ended:
            def ended(self) -> dict[str, int]:
                # what is written between a look at the processes and one at the ledger
                (tmp_path / "ledger.jsonl").write_text(told)
                return ended

            def log(self, name: str) -> Path:
                return tmp_path / name

        deployment = Deployment(app=EXAMPLE, nodes=1, folder=tmp_path)
        return deployment._watch(Ended(), time.monotonic())  # type: ignore[arg-type]

    assert watched("").startswith(outcome)
    assert watched('{"kind": "end", "outcome": "completed"}\n') == "completed"


@pytest.mark.parametrize(
    ("stack", "liar", "least", "most"),
    [("none", -1, 0.85, 1), ("none", 2, 0, 0.5), ("median", 2, 0.8, 1), ("sums", 2, 0, 0.5)],
)
def test_one_clinic_that_lies_spoils_a_mean_and_a_sum_and_no_median(
    stack: str, liar: int, least: float, most: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example with nodes that are calls."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    server = importlib.import_module("clinics.server_app").app
    clinic = importlib.import_module("clinics.client_app").app
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())
    homes = make_homes(tmp_path / "keys", 5)
    ledger = tmp_path / "ledger.jsonl"
    config = project["tool"]["flwr"]["app"]["config"] | {
        "stack": stack,
        "liar": liar,
        "server-home": str(homes[SERVER]),
        "ledger": str(ledger),
    }
    run_in_process(server, clinic, 5, config=config, nodes=lambda i: {"qflsec-home": str(homes[client(i)])})
    for name in [name for name in sys.modules if name.startswith("clinics")]:
        del sys.modules[name]
    end = json.loads(ledger.read_text().splitlines()[-1])
    assert end["outcome"] == "completed"
    assert least <= end["scores"]["accuracy"] <= most


def deployed(
    tmp_path: Path, *, nodes: int, rounds: int, hook: Any, limit: float = 1500.0, patience: float = 60.0
) -> Finished:
    new_project(tmp_path / "app", nodes=nodes)
    config = {"num-server-rounds": rounds, "local-steps": 1, "patience": patience}
    return Deployment(
        app=tmp_path / "app",
        nodes=nodes,
        folder=tmp_path / "run",
        config=config,
        limit=limit,
        while_running=hook,
    ).run()


def heard(processes: Processes, index: int) -> int:
    """How many messages a node got."""
    return processes.log(f"supernode-{index}").read_text(errors="replace").count("Receiving: train message")


@pytest.mark.slow
@pytest.mark.parametrize(
    "stage", range(1, 6), ids=["keys", "shares", "vectors", "statements", "opened shares"]
)
def test_a_node_that_is_killed_at_a_stage_costs_its_own_update_at_most(tmp_path: Path, stage: int) -> None:
    """The last of 4 nodes gets SIGKILL when it got the stage's message, which is one behind the greeting."""
    killed: list[float] = []

    def hook(_: Deployment, processes: Processes) -> None:
        if not killed and heard(processes, 3) > stage:
            processes.kill("supernode-3")
            killed.append(time.monotonic())

    finished = deployed(tmp_path, nodes=4, rounds=1, hook=hook)
    assert finished.outcome == "completed", finished
    (line,) = finished.rounds
    assert killed
    assert line["ids"] == ([0, 1, 2] if stage <= 3 else [0, 1, 2, 3])
    assert set(line["missing"]) == ({"3"} if stage <= 3 else set())


@pytest.mark.slow
def test_a_node_that_was_killed_comes_back(tmp_path: Path) -> None:
    """Its new process finds its key and states in its home, proves whose they are, and takes part again."""
    steps: list[str] = []

    def hook(run: Deployment, processes: Processes) -> None:
        if not steps and heard(processes, 3) > 2:
            processes.kill("supernode-3")
            steps.append("killed")
        elif steps == ["killed"] and run.lines:
            run.start_node(processes, 3)
            steps.append("started")

    finished = deployed(tmp_path, nodes=4, rounds=3, hook=hook)
    assert finished.outcome == "completed", finished
    assert [line["ids"] for line in finished.rounds][::2] == [[0, 1, 2], [0, 1, 2, 3]]


@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True], ids=["killed", "and started again"])
def test_a_superlink_that_is_killed_ends_the_run_with_a_reason(tmp_path: Path, again: bool) -> None:
    def hook(run: Deployment, processes: Processes) -> None:
        processes.kill("superlink")
        if again:
            run.start_link(processes)

    finished = deployed(tmp_path, nodes=3, rounds=2, hook=hook)
    why = "was started again, and knows nothing of the run" if again else "ended, and the run with it"
    assert finished.outcome == f"stopped: the SuperLink {why}"
    assert finished.rounds == ()


@pytest.mark.skipif(sys.platform != "linux", reason="the system call is Linux's")
def test_nothing_is_left_where_who_started_the_processes_is_killed(tmp_path: Path) -> None:
    """SIGKILL leaves no chance to end them: the system does."""
    script = """
import sys, time
from pathlib import Path
from qflsec.flower.processes import Processes
with Processes(Path(sys.argv[1]), {}) as processes:
    print(processes.start("one", [sys.executable, "-c", "import time; time.sleep(60)"]).pid, flush=True)
    time.sleep(60)
"""
    starter = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert starter.stdout is not None
    child = int(starter.stdout.readline())
    assert running(child)
    starter.kill()
    starter.wait()
    starter.stdout.close()
    assert eventually(lambda: not running(child))


def running(process: int) -> bool:
    state = Path(f"/proc/{process}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


def eventually(what: Callable[[], bool], seconds: float = 5.0) -> bool:
    for _ in range(int(seconds / 0.02)):
        if what():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the system call is Linux's")
def test_a_run_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    """Everything that a run starts finds its folder in its environment."""
    new_project(tmp_path / "app", nodes=3)
    place = tmp_path / "run"
    script = "import sys; from qflsec.cli.app import main; main()"
    command = ["flower", "run", str(tmp_path / "app"), "--nodes", "3", "--out", str(place)]
    started = subprocess.Popen([sys.executable, "-c", script, *command], stdout=subprocess.DEVNULL)
    try:
        mark = f"FLWR_HOME={place}".encode()
        wanted = 1 + 2 + 2 * 3  # the link and its executor, the nursery or more, each node and its executor
        assert eventually(lambda: len(marked(mark)) > wanted, 120)
    finally:
        started.kill()
        started.wait()
    assert eventually(lambda: not marked(mark), 60), marked(mark)


def marked(mark: bytes) -> list[str]:
    """The commands of processes whose environment holds a mark."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (process / "environ").read_bytes() and running(int(process.name)):
                found.append((process / "cmdline").read_text().replace("\0", " "))
    return found

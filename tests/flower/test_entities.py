"""Key management entities that are killed while a federation of processes goes on."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from fleet import eventually, sail

from qflsec.flower.deployment import Deployment
from qflsec.flower.processes import Processes, free_ports
from qflsec.protocols.keystore import KeyLink, KeyStore

N, ROUNDS, KEYS = 3, 4, 12
HELPERS = Path(__file__).parents[1] / "protocols" / "keystore" / "conftest.py"
ENTITY = Path(__file__).parent / "entity.py"


class Entities:
    """An entity for each party, with a store of its own, as a process."""

    def __init__(self, folder: Path) -> None:
        spec = importlib.util.spec_from_file_location("keystore_helpers", HELPERS)
        assert spec is not None
        assert spec.loader is not None
        helpers = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(helpers)
        clients = [f"client-{i}" for i in range(N)]
        self._names, self._folder = [*clients, "server"], folder
        authority = helpers.Authority(folder)
        authority.issue("kme", server=True)
        for name in self._names:
            authority.issue(name)
        for name in clients:
            for link in (KeyLink(master=name, slave="server"), KeyLink(master="server", slave=name)):
                keys = helpers.made_keys(KEYS)
                for owner in (name, "server"):
                    store = KeyStore(folder / f"{owner}.keys", capacity=200)
                    store.add(keys, link=link, role="master" if owner == link.master else "slave")
        self._ports = dict(zip(self._names, free_ports(len(self._names)), strict=True))
        (folder / "ports.json").write_text(json.dumps(self._ports))
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        others = [other for other in self._names if (other == "server") != (name == "server")]
        command = [sys.executable, str(ENTITY), str(self._folder), name]
        self._running[name] = subprocess.Popen([*command, str(self._ports[name]), ",".join(others)])
        assert eventually(lambda: self._answers(name), 60)

    def kill(self, name: str) -> None:
        """By SIGKILL."""
        running = self._running.pop(name)
        running.kill()
        running.wait()

    def _answers(self, name: str) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._ports[name]), timeout=1):
            return True
        return False

    @contextmanager
    def started(self) -> Iterator[None]:
        try:
            for name in self._names:
                self.start(name)
            yield
        finally:
            for name in list(self._running):
                self.kill(name)


@pytest.mark.slow
def test_entities_that_are_killed_give_no_key_twice_and_the_rest_goes_on(tmp_path: Path) -> None:
    """Those of client 1 and the server are killed within a round and started again; later that of client 2 for good."""
    folder = tmp_path / "entities"
    folder.mkdir(mode=0o700)
    entities, pauses = Entities(folder), list[int]()

    def hook(run: Deployment, _: Processes) -> None:
        paused = tmp_path / "paused"
        if not paused.exists():
            return
        pauses.append(len(run.lines))
        if len(pauses) == 2:  # what clients sent in the first round has arrived, and is not opened yet
            for name in ("client-1", "server"):
                entities.kill(name)
                entities.start(name)
        if len(pauses) == 4:
            entities.kill("client-2")
        paused.unlink()

    with entities.started():
        sailed = sail(
            tmp_path,
            nodes=N,
            rounds=ROUNDS,
            hook=hook,
            layer="qkd",
            keys=str(folder),
            pauses=True,
            patience=60.0,
            limit=900.0,
        )
    assert sailed.finished.outcome == "completed", sailed.finished
    assert len(pauses) == 1 + ROUNDS
    *whole, last = sailed.finished.rounds
    assert [line["ids"] for line in whole] == [[0, 1, 2]] * 3
    assert last["ids"] == [0, 1]
    assert "no answer from the KME" in last["missing"]["2"]
    sailed.check_sums(tolerance=1e-5)
    drawn, fetched = ((folder / what).read_text().split() for what in ("drawn", "fetched"))
    assert (
        len(drawn) == 2 * N * ROUNDS - 1
    )  # a letter each way for each client and round, but for the last answer
    assert len(set(drawn)) == len(drawn)
    assert len(set(fetched)) == len(fetched) == len(drawn) - 1
    assert set(fetched) < set(drawn)

"""States survive a process: written before an answer leaves, locked meanwhile, and of one party alone."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from apps import mean_of, plan_of, run

from qflsec.base import ConfigError, StoreError
from qflsec.flower.boxes import FolderBoxes
from qflsec.flower.homes import identity_of_home, make_homes
from qflsec.protocols.links import AesGcmLink
from qflsec.protocols.secagg import HeBfv, Masked, SecAgg
from qflsec.threat import SERVER, client

LAYERS = {
    "masked": (Masked(),),
    "secagg": (SecAgg(),),
    "secagg, later keys": (SecAgg(agreement="hybrid", signature="ml-dsa-65"),),
    "he-bfv": (HeBfv(),),
    "secagg over links": (SecAgg(), AesGcmLink()),
}


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_clients_forget_everything_but_their_folders_between_messages(tmp_path: Path, layers: Any) -> None:
    """Each message finds the states in a file, as in a new process; secrets are the operating system's."""
    homes = make_homes(tmp_path, 4)
    moved, side = run(
        plan_of(*layers, n=4, seed=None),
        home=homes[SERVER],
        nodes=lambda index: {"qflsec-home": str(homes[client(index)])},
    )
    assert side.outcome == "completed"
    assert [record.ids for record in side.records] == [(0, 1, 2, 3)] * 2
    assert moved == pytest.approx(2 * mean_of(range(4)), abs=1e-2)
    assert len(list((homes[client(0)] / "runs").glob("*.box"))) == 1


def test_a_box_is_open_once_and_keeps_what_was_put_in_before_an_error(tmp_path: Path) -> None:
    boxes, order = FolderBoxes(tmp_path / "boxes"), []

    def second() -> None:
        with boxes.open(1, 2) as box:
            order.append(box["stage"])

    other = threading.Thread(target=second)

    def first() -> None:
        with boxes.open(1, 2) as box:
            other.start()
            time.sleep(0.05)
            order.append("first")
            box["stage"] = "spent"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        first()
    other.join()
    assert order == ["first", "spent"]


def test_a_folder_that_others_may_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(StoreError, match="open to others"):
        FolderBoxes(tmp_path / "open")
    boxes = FolderBoxes(tmp_path / "mine")
    (tmp_path / "mine" / "run-1.box").write_bytes(b"no box")
    with pytest.raises(StoreError, match="cannot be read"), boxes.open(1, 2):
        pass


def test_a_home_is_of_one_party(tmp_path: Path) -> None:
    homes = make_homes(tmp_path, 3)
    others = [SERVER, client(1), client(2)]
    assert identity_of_home(homes[client(0)], client(0), others).party == client(0)
    with pytest.raises(ConfigError, match="is not that of client:1"):
        identity_of_home(homes[client(0)], client(1), [SERVER, client(0), client(2)])
    with pytest.raises(ConfigError, match="other parties than the plan"):
        identity_of_home(homes[client(0)], client(0), [SERVER])
    with pytest.raises(ConfigError, match="there is a key already"):
        make_homes(tmp_path, 3)
    with pytest.raises(ConfigError, match="cannot be read"):
        identity_of_home(tmp_path, client(0), others)

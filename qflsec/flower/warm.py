"""ClientApps in processes that begin with everything imported (Linux).

Flower starts a process for every message that a node gets, and importing torch and this package takes it longer than most
messages do. One process, the nursery, imports once what apps need, and nothing else: it runs no app and has a single thread,
so that a copy of it (fork) is sound. What Flower starts in the place of its command is a small program that has the
nursery make such a copy, hands it its arguments and streams, and ends with it; the copy runs Flower's own command, and ends
where that program does.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from qflsec.base.randomness import draw_anew

__all__ = ["COMMAND", "can_warm", "serve", "write_command"]

COMMAND = "flwr-clientapp"
"""What Flower's SuperNodes start for a message."""
_SOCKET = "nursery"
_MODULES = (
    "torch",
    "pennylane",
    "sklearn.datasets",
    "qflsec.flower.client",
    "qflsec.flower.pipeline_app",
    "qflsec.federation.loop",
    "flwr.supernode.cli",
)
_STREAMS = 3
_LENGTH = struct.Struct(">I")
_MOST = 1 << 22
_SHIM = """#!{python} -IS
import json, os, socket, struct, sys
with socket.socket(socket.AF_UNIX) as nursery:
    nursery.connect({place!r})
    asked = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(nursery, [struct.pack(">I", len(asked))], [0, 1, 2])
    nursery.sendall(asked)
    code = nursery.recv(1)
os._exit(code[0] if code else 1)
"""


def can_warm() -> bool:
    """Whether this system has what copies of a process need; elsewhere Flower's own command starts anew."""
    return sys.platform == "linux"


def write_command(folder: Path) -> Path:
    """Put a command of the name of Flower's own into a folder, for the front of a ``PATH``.

    Args:
        folder: Where to; made where it is missing, closed to others.

    Returns:
        The socket that the nursery is to listen at.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = folder / _SOCKET
    command = folder / COMMAND
    command.write_text(_SHIM.format(python=sys.executable, place=str(place)), encoding="utf-8")
    command.chmod(0o700)
    return place


def serve(place: Path, *modules: str) -> None:
    """Make copies for whoever asks at a socket, until this process is ended.

    Args:
        place: The socket.
        modules: What is imported besides what every app needs.
    """
    for module in (*_MODULES, *modules):
        importlib.import_module(module)
    signal.signal(signal.SIGCHLD, _bury)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place))
        listening.listen(128)
        while True:
            asked, _ = listening.accept()
            with asked:
                if os.fork() == 0:
                    listening.close()
                    _run(asked)


def _bury(_number: int, _frame: FrameType | None) -> None:
    """Wait for copies that ended, so that their processor time counts as that of whoever started the nursery."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _run(asked: socket.socket) -> NoReturn:
    """Run Flower's command with what was asked, and say how it ended."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        draw_anew()
        arguments, place, environment = _read(asked)
        threading.Thread(target=_end_with, args=(asked.fileno(),), daemon=True).start()
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(place)
        sys.argv = [COMMAND, *arguments]
        from flwr.supernode.cli import flwr_clientapp

        flwr_clientapp()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - nothing of the nursery may run in a copy of it
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        with suppress(OSError):
            asked.sendall(bytes([code & 0xFF]))
        os._exit(code & 0xFF)


def _read(asked: socket.socket) -> tuple[list[str], str, Mapping[str, str]]:
    """What was asked; its streams become those of this process."""
    head, streams, _, _ = socket.recv_fds(asked, _LENGTH.size, _STREAMS, socket.MSG_WAITALL)
    if len(head) != _LENGTH.size or len(streams) != _STREAMS:
        raise ConnectionError("whoever asked is gone")
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    (left,) = _LENGTH.unpack(head)
    if left > _MOST:
        raise ConnectionError("a request is too long")
    body = b""
    while len(body) < left:
        more = asked.recv(left - len(body))
        if not more:
            raise ConnectionError("whoever asked is gone")
        body += more
    arguments, place, environment = json.loads(body)
    return arguments, place, environment


def _end_with(asked: int) -> None:
    """End this process as soon as whoever asked is gone, whatever it is doing."""
    watch = select.poll()
    watch.register(asked, 0)
    watch.poll()
    os._exit(1)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), *sys.argv[2:])

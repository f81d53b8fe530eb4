"""The toolkit's protections and attacks inside Flower apps: mods for clients, a strategy for the server.

A :class:`Plan` says once what both sides follow. The client's mod and the server's strategy call the layers, the
protocol states and the server's half of a round that the training loop calls: there is no second implementation::

    plan = Plan(stack=Stack.from_layers("mine", [LocalDp(), SecAgg()]), n_clients=10, rounds=20)
    client = ClientApp(mods=[ClientSide(plan)])
    ServerSide(plan).start(grid, arrays, num_rounds=20)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qflsec.base.faces import lazily

if TYPE_CHECKING:
    from qflsec.flower.arrays import ArrayLayout
    from qflsec.flower.client import ClientSide
    from qflsec.flower.grid import InProcessGrid, run_in_process
    from qflsec.flower.pipeline_app import PipelineApp
    from qflsec.flower.plan import Plan
    from qflsec.flower.recorder import Recorder
    from qflsec.flower.strategy import ServerSide

__all__ = [
    "ArrayLayout",
    "ClientSide",
    "InProcessGrid",
    "PipelineApp",
    "Plan",
    "Recorder",
    "ServerSide",
    "run_in_process",
]

__getattr__, __dir__ = lazily(__name__)

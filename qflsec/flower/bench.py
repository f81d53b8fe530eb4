"""What a round costs over Flower's messages: stacks of ours, Flower's FedAvg, and its own secure aggregation.

All in one process and over one grid, which counts the bytes of records and the processor time of the ClientApps; training is a
sum, so that what is measured is the protocol, its messages and their encoding.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from qflsec.federation import Stack
from qflsec.federation.layers import ClientLayer
from qflsec.flower.client import ClientSide
from qflsec.flower.grid import InProcessGrid
from qflsec.flower.plan import Plan
from qflsec.flower.quiet import quiet
from qflsec.flower.strategy import ServerSide
from qflsec.protocols.secagg import Masked, SecAgg

__all__ = ["FlowerCost", "bench_flower"]

_BASE = "flower fedavg"
_COUNT = 10


@dataclass(frozen=True, kw_only=True)
class FlowerCost:
    """One way to run a round.

    Attributes:
        name: What was run.
        clients: The number of clients.
        parameters: The number of parameters.
        up_bytes: What a client sent in a round.
        down_bytes: What it was sent.
        client_ms: Processor time of a client in a round.
        server_ms: Processor time of the server in a round.
        error: The largest difference to the mean of what the clients trained.

    Units:
        bytes; milliseconds of processor time
    """

    name: str
    clients: int
    parameters: int
    up_bytes: float
    down_bytes: float
    client_ms: float
    server_ms: float
    error: float


def bench_flower(*, n_clients: int, n_params: int, rounds: int = 2) -> list[FlowerCost]:
    """Measure all ways on the same updates, the baseline first.

    Args:
        n_clients: The number of clients.
        n_params: The number of parameters.
        rounds: The rounds of each, greetings and keys of a session included.
    """
    updates = np.random.default_rng(0).normal(size=(n_clients, n_params)).astype(np.float32) * 0.1
    ways: list[tuple[str, Callable[[], tuple[InProcessGrid, Callable[[], np.ndarray[Any, Any]]]]]] = [
        (_BASE, lambda: _stock(updates, rounds)),
        ("qflsec, no layer", lambda: _ours(updates, rounds, ())),
        ("qflsec masked", lambda: _ours(updates, rounds, (Masked(),))),
        ("qflsec secagg", lambda: _ours(updates, rounds, (SecAgg(),))),
        ("flower secagg+", lambda: _secagg_plus(updates, rounds)),
    ]
    expected = rounds * updates.astype(np.float64).mean(axis=0)
    found = []
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    with quiet(logging.ERROR):
        for name, make in ways:
            grid, run = make()
            began = time.process_time()
            model = run()
            spent = time.process_time() - began
            each = rounds * n_clients
            found.append(
                FlowerCost(
                    name=name,
                    clients=n_clients,
                    parameters=n_params,
                    up_bytes=grid.bytes_up / each,
                    down_bytes=grid.bytes_down / each,
                    client_ms=1e3 * grid.client_seconds / each,
                    server_ms=1e3 * (spent - grid.carried_seconds) / rounds,
                    error=float(np.abs(model - expected).max()),
                )
            )
    return found


def _ours(
    updates: np.ndarray[Any, Any], rounds: int, layers: Sequence[ClientLayer]
) -> tuple[InProcessGrid, Callable[[], np.ndarray[Any, Any]]]:
    plan = Plan(
        stack=Stack(name="bench", client=tuple(layers)),
        n_clients=len(updates),
        rounds=rounds,
        max_count=_COUNT,
        seed=0,
    )
    grid = InProcessGrid(_app(updates, ClientSide(plan)), len(updates))
    return grid, lambda: _final(ServerSide(plan).start(grid, _first(updates), num_rounds=rounds))


def _stock(
    updates: np.ndarray[Any, Any], rounds: int
) -> tuple[InProcessGrid, Callable[[], np.ndarray[Any, Any]]]:
    grid = InProcessGrid(_app(updates), len(updates))
    return grid, lambda: _final(FedAvg(fraction_evaluate=0.0).start(grid, _first(updates), num_rounds=rounds))


def _secagg_plus(
    updates: np.ndarray[Any, Any], rounds: int
) -> tuple[InProcessGrid, Callable[[], np.ndarray[Any, Any]]]:
    """Flower's workflow of its older interface, with every client a neighbour of every other, as in ``secagg``."""
    from flwr.client import NumPyClient
    from flwr.client.mod import secaggplus_mod
    from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
    from flwr.server import LegacyContext, ServerConfig
    from flwr.server.strategy import FedAvg as OlderFedAvg
    from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow

    class Node(NumPyClient):
        def __init__(self, index: int) -> None:
            self._index = index

        def fit(self, parameters: Any, config: Any) -> Any:  # noqa: ANN401 - Flower's
            return [parameters[0] + updates[self._index]], _COUNT, {}

    def client_fn(context: Context) -> Any:  # noqa: ANN401 - Flower's
        return Node(int(context.node_config["partition-id"])).to_client()

    grid = InProcessGrid(ClientApp(client_fn=client_fn, mods=[secaggplus_mod]), len(updates))
    kept: list[Any] = [np.zeros(updates.shape[1], np.float32)]

    class Kept(OlderFedAvg):
        def aggregate_fit(self, *args: Any) -> Any:  # noqa: ANN401 - Flower's
            result = super().aggregate_fit(*args)
            assert result[0] is not None
            kept[0] = parameters_to_ndarrays(result[0])[0]
            return result

    def run() -> np.ndarray[Any, Any]:
        strategy = Kept(
            fraction_evaluate=0.0,
            min_available_clients=len(updates),
            initial_parameters=ndarrays_to_parameters([kept[0]]),
        )
        context = LegacyContext(
            Context(1, 1, {}, RecordDict(), {}), ServerConfig(num_rounds=rounds), strategy
        )
        workflow = SecAggPlusWorkflow(num_shares=1.0, reconstruction_threshold=0.67)
        DefaultWorkflow(fit_workflow=workflow)(grid, context)
        return np.asarray(kept[0])

    return grid, run


def _app(updates: np.ndarray[Any, Any], *mods: Any) -> ClientApp:  # noqa: ANN401 - mods have no common type
    app = ClientApp(mods=list(mods))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        made = (
            message.content.array_records["arrays"]["w"].numpy()
            + updates[int(context.node_config["partition-id"])]
        )
        answer = RecordDict(
            {
                "arrays": ArrayRecord({"w": Array(made)}),
                "metrics": MetricRecord({"num-examples": _COUNT}),
            }
        )
        return Message(answer, reply_to=message)

    return app


def _first(updates: np.ndarray[Any, Any]) -> ArrayRecord:
    return ArrayRecord({"w": Array(np.zeros(updates.shape[1], np.float32))})


def _final(result: Any) -> np.ndarray[Any, Any]:  # noqa: ANN401 - Flower's
    return np.asarray(result.arrays["w"].numpy())

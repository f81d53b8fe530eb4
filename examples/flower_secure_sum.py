"""Secure aggregation inside a Flower app, over a grid in this process: the server reads the sum of those who stay.

Run: python examples/flower_secure_sum.py
"""

from __future__ import annotations

import logging

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from qflsec.federation import Stack
from qflsec.flower import ClientSide, InProcessGrid, Plan, ServerSide
from qflsec.protocols.secagg import SecAgg

logging.getLogger("flwr").setLevel(logging.WARNING)
# a seed is for the lab: without one every node needs a folder with its key, as `qflsec flower run` makes them
plan = Plan(stack=Stack(name="sums", client=(SecAgg(threshold=3),)), n_clients=5, rounds=2, seed=0)
app = ClientApp(mods=[ClientSide(plan)])


@app.train()
def train(message, context):
    """Client i moves every parameter by i."""
    index = context.node_config["partition-id"]
    model = message.content["arrays"]["weights"].numpy()
    answer = {
        "arrays": ArrayRecord({"weights": Array(model + np.float32(index))}),
        "metrics": MetricRecord({"num-examples": 10, "loss": 0.1 * index}),
    }
    return Message(RecordDict(answer), reply_to=message)


def main() -> None:
    """Two rounds; client 4 goes after the first."""
    grid = InProcessGrid(app, plan.n_clients)
    side = ServerSide(plan)
    arrays = ArrayRecord({"weights": Array(np.zeros(3, np.float32))})
    evaluated = []

    def after(round_index, model):
        evaluated.append(model["weights"].numpy())
        if round_index == 1:
            grid.gone.add(4)

    side.start(grid, arrays, num_rounds=plan.rounds, evaluate_fn=after)
    for record, before, now in zip(side.records, evaluated, evaluated[1:], strict=False):
        print(f"round {record.round}: the mean of clients {record.ids} is {(now - before).round(3)}")
        print(
            f"  not counted: {dict(record.missing) or 'nobody'}; losses that the server saw: {dict(record.metrics) or 'none'}"
        )
    print(f"{side.outcome}: {grid.bytes_up} bytes up, {grid.bytes_down} bytes down")


if __name__ == "__main__":
    main()

"""The server."""

from __future__ import annotations

from flwr.app import ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from clinics.task import Net

app = ServerApp()


@app.main()
def main(grid, context):
    result = FedAvg().start(
        grid=grid,
        initial_arrays=ArrayRecord(Net().state_dict()),
        num_rounds=context.run_config["num-server-rounds"],
    )
    print(result.evaluate_metrics_clientapp)

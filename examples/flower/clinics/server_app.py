"""The server."""

from __future__ import annotations

from flwr.app import ArrayRecord
from flwr.serverapp import ServerApp

from clinics.plan import plan
from clinics.task import Net, accuracy
from qflsec.flower import ServerSide

app = ServerApp()


@app.main()
def main(grid, context):
    """All rounds; the ledger ends with the accuracy on records that no clinic has."""
    config = context.run_config
    side = ServerSide(
        plan(context), home=config["server-home"] or None, ledger=config["ledger"] or None, score=score
    )
    side.start(grid, ArrayRecord(Net().state_dict()), num_rounds=config["num-server-rounds"])


def score(arrays):
    """What stands beside the outcome in the ledger."""
    net = Net()
    net.load_state_dict(arrays.to_torch_state_dict())
    return {"accuracy": accuracy(net)}

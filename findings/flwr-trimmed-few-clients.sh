#!/usr/bin/env bash
# Library:  flwr 1.42.0 (PyPI), Python 3.11
# Input:    three, four and five clients, one of which sends 100 where the others send 0; FedTrimmedAvg with its default beta 0.2
# Guess:    "fraction to cut off of both tails": at least one reply is cut at each end, whatever the number of clients
# Seen:     the number is rounded down. With three or four clients none is cut and the result is the plain average (33.3 and 25);
#           from five on it is 0. Small federations that choose the strategy for its robustness get FedAvg without weights.
# Fails if the library behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check flwr==1.42.0 numpy==2.4.6
FLWR_TELEMETRY_ENABLED=0 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import logging
from importlib.metadata import version

logging.disable(logging.CRITICAL)
import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

# a message names the task that makes it; flwr's runtime sets these
TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1


def reply(array):
    content = {"arrays": ArrayRecord([array]), "metrics": MetricRecord({"num-examples": 10})}
    return Message(RecordDict(content), reply_to=Message(RecordDict(), 7, "train"))


def aggregate(strategy, arrays):
    made, _ = strategy.aggregate_train(1, [reply(array) for array in arrays])
    return next(iter(made.values())).numpy()


from flwr.serverapp.strategy import FedTrimmedAvg

found = {
    n: float(aggregate(FedTrimmedAvg(), [np.zeros(2)] * (n - 1) + [np.full(2, 100.0)])[0]) for n in (3, 4, 5)
}
print("flwr", version("flwr"), found)
assert np.allclose(list(found.values()), [100 / 3, 25, 0]), found
PYTHON

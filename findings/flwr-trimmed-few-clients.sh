#!/usr/bin/env bash
# Library:  flwr 1.42.0 (PyPI), Python 3.11
# Input:    three, four and five clients that send 1, 2, 6; 1, 2, 3, 10; and 1, 2, 3, 4, 15; FedTrimmedAvg with its default beta 0.2
# Guess:    "fraction to cut off of both tails": at least one reply is cut at each end, whatever the number of clients
# Seen:     the number is rounded down. With three or four clients none is cut and the result is the plain average (3 and 4);
#           with five one is cut at each end and it is 3, the average being 5. Small federations that
#           choose the strategy for its robustness get FedAvg without weights.
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

sent = {3: (1, 2, 6), 4: (1, 2, 3, 10), 5: (1, 2, 3, 4, 15)}
found = {
    n: float(aggregate(FedTrimmedAvg(), [np.full(2, float(value)) for value in values])[0]) for n, values in sent.items()
}
print("flwr", version("flwr"), found)
assert np.allclose(list(found.values()), [3, 4, 3]), found
PYTHON

#!/usr/bin/env bash
# Library:  flwr 1.42.0 (PyPI), Python 3.11
# Input:    two clients whose model has one array each, of shapes (2, 3) and (1, 3): another head, or an older version of the app
# Guess:    replies whose arrays differ in shape are refused, as replies are whose arrays differ in name
# Seen:     shapes that NumPy broadcasts are averaged without a word: FedAvg gives an array of shape (2, 3) in which the one row
#           of the second client counts for both rows. Names are compared, shapes are not.
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


from flwr.serverapp.strategy import FedAvg

made = aggregate(FedAvg(), [np.zeros((2, 3)), np.ones((1, 3))])
print("flwr", version("flwr"), made.shape, made.tolist())
assert made.shape == (2, 3), made.shape
assert np.allclose(made, 0.5), made
PYTHON

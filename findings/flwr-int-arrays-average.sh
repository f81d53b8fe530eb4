#!/usr/bin/env bash
# Library:  flwr 1.42.0 (PyPI), Python 3.11
# Input:    three equal replies whose array is int64, as num_batches_tracked of torch's batch normalisation is; or bool
# Guess:    the aggregate of arrays has their dtype, as that of float16 and of float32 has
# Seen:     float64: FedAvg and FedMedian give int64 and bool back as float64. A state dictionary that went once through a
#           server holds its counters as floats, and a mask of booleans as numbers; who compares dtypes finds another model.
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


from flwr.serverapp.strategy import FedAvg, FedMedian

found = {
    f"{strategy.__name__}, {kind}": str(aggregate(strategy(), [np.ones(2, dtype=kind)] * 3).dtype)
    for strategy in (FedAvg, FedMedian)
    for kind in ("int64", "bool", "float32", "float16")
}
print("flwr", version("flwr"), found)
assert all(dtype == "float64" for name, dtype in found.items() if name.endswith(("int64", "bool"))), found
assert all(name.endswith(dtype) for name, dtype in found.items() if "float" in name), found
PYTHON

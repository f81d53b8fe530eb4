"""A clinic."""

from __future__ import annotations

import torch
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from clinics.task import Net, load_data

app = ClientApp()


def received(message):
    net = Net()
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    return net


def own_data(context):
    where = context.node_config
    return load_data(where["partition-id"], where["num-partitions"])


@app.train()
def train(message, context):
    net, ((x, y), _) = received(message), own_data(context)
    optimizer = torch.optim.Adam(net.parameters(), lr=context.run_config["learning-rate"])
    for _ in range(context.run_config["local-epochs"]):
        for batch in torch.randperm(len(x)).split(8):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(net(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
    metrics = MetricRecord({"num-examples": len(x), "loss": loss.item()})
    return Message(
        RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics}), reply_to=message
    )


@app.evaluate()
def evaluate(message, context):
    net, (_, (x, y)) = received(message), own_data(context)
    with torch.no_grad():
        right = int((net(x).argmax(1) == y).sum())
    metrics = MetricRecord({"num-examples": len(x), "accuracy": right / len(x)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)

"""A clinic. Without the mods it is a plain app of Flower: a model in, a model out."""

from __future__ import annotations

from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from clinics.plan import plan
from qflsec.attacks.poisoning import ScaledSignFlip
from qflsec.flower import ClientSide

honest, corrupted = ClientSide(plan), ClientSide(plan, adversary=ScaledSignFlip(scale=10.0))


def side(message, context, call):
    """The mod: one clinic may be corrupted, which its own train function knows nothing of."""
    lies = context.node_config["partition-id"] == context.run_config["liar"]
    return (corrupted if lies else honest)(message, context, call)


app = ClientApp(mods=[side])


@app.train()
def train(message, context):
    """A few steps on the clinic's own records."""
    from clinics.task import Net, fit, records

    where, config = context.node_config, context.run_config
    net = Net()
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    x, y = records(where["partition-id"], config["num-clients"])
    fit(net, x, y, steps=config["local-steps"], rate=config["learning-rate"])
    metrics = MetricRecord({"num-examples": len(x)})
    return Message(
        RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics}), reply_to=message
    )

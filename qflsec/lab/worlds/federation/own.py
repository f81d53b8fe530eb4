"""What parts that clients keep are worth: beside the same clients each alone, and sharing everything."""

from __future__ import annotations

from dataclasses import replace

import torch

from qflsec.federation import Gossip, Pipeline, RunResult, RunSpec, Stack, run_batch

__all__ = ["alone", "own_mix", "own_mixes"]


def alone(pipeline: Pipeline) -> Pipeline:
    """The same clients without each other: they begin with the same model, train as often, and nothing is sent.

    Args:
        pipeline: The pipeline.
    """
    return replace(
        pipeline,
        personal=(),
        topology=Gossip(neighbours="none"),
        # there is no model of others to be pulled to
        federation=replace(pipeline.federation, proximal=0.0, server_learning_rate=1.0),
    )


def own_mix(run: RunResult) -> float:
    """The mean over the clients of the accuracy of each one's model, on test records weighted by its own classes.

    A client with the share p_c of its training records in class c counts sum over c of p_c times the accuracy on the test
    records of class c: what it would reach on new records of its own kind, where only classes differ between clients.

    Args:
        run: A run with test records.
    """
    test, found = run.records("test"), []
    for index in range(len(run.clients)):
        labels = run.client_records(index).labels
        if not len(labels):
            continue
        with torch.no_grad():
            right = run.pipeline.model(run.model_of(index), test.features).argmax(dim=-1) == test.labels
        shares = {label: float((labels == label).double().mean()) for label in sorted(set(labels.tolist()))}
        each = {label: right[test.labels == label] for label in shares}
        # a class that no test record has says nothing
        known = {label: share for label, share in shares.items() if len(each[label])}
        total = sum(known.values())
        if total:
            found.append(
                sum(share * float(each[label].double().mean()) for label, share in known.items()) / total
            )
    return sum(found) / len(found)


def own_mixes(run: RunResult) -> dict[str, float]:
    """:func:`own_mix` of an honest run, of the same clients alone, and where they share everything by federated averaging.

    Args:
        run: A run whose clients keep a part of the model; nothing is said of others, and of none without test records.
    """
    if not run.pipeline.personal or not len(run.records("test").labels):
        return {}
    spec = RunSpec(seed=run.spec.seed, evaluate="never")
    shared = replace(run.pipeline, personal=())
    found = {"personal": own_mix(run)}
    for name, pipeline in (("alone", alone(run.pipeline)), ("shared", shared)):
        found[name] = own_mix(run_batch(pipeline, Stack(name=name), [spec])[0])
    return found

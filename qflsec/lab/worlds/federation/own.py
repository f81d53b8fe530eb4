"""What parts that clients keep are worth: beside the same clients each alone, and sharing everything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch

from qflsec.federation import Gossip, Pipeline, RunResult, RunSpec, Stack, Star, run_batch
from qflsec.lab.scoring import ranking

__all__ = ["alone", "own_mix", "own_mixes", "own_rankings"]


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
        federation=replace(pipeline.federation, proximal=0.0, server_learning_rate=1.0, own_models=None),
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


def own_rankings(run: RunResult) -> dict[str, float]:
    """The same for the class that the pipeline detects: the mean over the clients of AUROC and AUPR on their own mix.

    Clients that have no record of the class, or none of another, are left out: there is nothing to rank at home.

    Args:
        run: A run with test records.

    Returns:
        ``auroc`` and ``aupr``; nothing where no client is left, or no class is detected.
    """
    test, detects, found = run.records("test"), run.pipeline.detects, []
    if detects is None:
        return {}
    for index in range(len(run.clients)):
        labels = run.client_records(index).labels
        weights = torch.zeros(len(test.labels), dtype=torch.float64)
        for label in set(labels.tolist()):
            those = test.labels == label
            weights[those] = float((labels == label).double().sum()) / max(1, int(those.sum()))
        with torch.no_grad():
            logits = run.pipeline.model(run.model_of(index), test.features)
        found.append(ranking(logits, test.labels, detects, weights=weights))
    ranked = [one for one in found if one]
    return (
        {name: sum(one[name] for one in ranked) / len(ranked) for name in ("auroc", "aupr")} if ranked else {}
    )


def own_mixes(run: RunResult) -> dict[str, float]:
    """:func:`own_mix` of an honest run, of the same clients alone, and where they share everything by federated averaging.

    Where the pipeline names a class to detect, :func:`own_rankings` of all three come on top, as ``personal_auroc`` and so on.

    Args:
        run: A run whose clients keep a part of the model, or a model of their own; nothing is said of others, and of none without test records.
    """
    made = run.pipeline.kept or run.pipeline.topology.personal
    if not made or not len(run.records("test").labels):
        return {}
    federation = replace(run.pipeline.federation, own_models=None)
    topology = Star() if run.pipeline.topology.personal else run.pipeline.topology
    shared = replace(run.pipeline, personal=(), federation=federation, topology=topology)
    config = json.dumps(shared.to_config(), sort_keys=True)
    baselines = _baselines(_Asked(config=config, seed=run.spec.seed, shared=shared))
    found = {"personal": own_mix(run), **{name: mix for name, (mix, _) in baselines.items()}}
    for name, ranked in {"personal": own_rankings(run), **{n: r for n, (_, r) in baselines.items()}}.items():
        found |= {f"{name}_{what}": value for what, value in ranked.items()}
    return found


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A pipeline that shares everything, told by what an id is made from, and a seed."""

    config: str
    seed: int
    shared: Pipeline = field(compare=False)


@lru_cache(maxsize=256)
def _baselines(asked: _Asked) -> Mapping[str, tuple[float, Mapping[str, float]]]:
    """Mix and rankings of what does not depend on the stack, nor on the part that clients keep: made once in a process."""
    spec, found = RunSpec(seed=asked.seed, evaluate="never"), {}
    for name, pipeline in (("alone", alone(asked.shared)), ("shared", asked.shared)):
        (run,) = run_batch(pipeline, Stack(name=name), [spec])
        found[name] = own_mix(run), own_rankings(run)
    return found

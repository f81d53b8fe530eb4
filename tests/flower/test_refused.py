"""What an app cannot have is refused when its plan is written, with a sentence."""

from __future__ import annotations

import pytest
from apps import plan_of

from qflsec.base import IncompatibleStack, find, names
from qflsec.circuits import NoiseModel
from qflsec.data import DataSpec
from qflsec.federation import FederationConfig, Pipeline, RunSpec, Sporadic, Stack
from qflsec.federation.layers import AggregationLayer
from qflsec.flower.engine import run_in_grid
from qflsec.models import Execution, build_model

WORKING = {"ddp", "he-bfv", "he-masked", "he-threshold", "masked", "secagg"}
ELSEWHERE = {"ghz", "he-ckks", "validated", "validated-groups"}


def test_protocols_that_work_within_one_process_are_refused_by_name() -> None:
    kinds = {name: find("layer", name) for name in names("layer")}
    protocols = {name: kind for name, kind in kinds.items() if issubclass(kind, AggregationLayer)}
    assert set(protocols) == WORKING | ELSEWHERE
    settings = {"he-ckks": {"precision": 0.01}}
    for name in ELSEWHERE:
        with pytest.raises(IncompatibleStack, match=f"'{name}' works within one process only"):
            plan_of(protocols[name](**settings.get(name, {})), n=9)


def test_clients_that_sit_out_are_refused_as_an_app_asks_everybody() -> None:
    noisy = Execution(noise=NoiseModel(kind="local-depolarizing", p=0.1, where="every-gate"))
    pipeline = Pipeline(
        data=DataSpec(name="breast-cancer", n_features=2, members=9, nonmembers=9, auxiliary=9, test=9),
        model=build_model({"name": "vqc", "n_qubits": 2, "layers": 1}),
        federation=FederationConfig(n_clients=3, rounds=1, sporadic=Sporadic(threshold=0.99)),
        client_executions={1: noisy},
    )
    with pytest.raises(IncompatibleStack, match=r"sit out, but a Flower app asks them too; got \[1\]"):
        run_in_grid(pipeline, Stack(name="none"), RunSpec(seed=0))

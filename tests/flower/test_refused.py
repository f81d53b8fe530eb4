"""What an app cannot have is refused when its plan is written, with a sentence."""

from __future__ import annotations

import pytest
from apps import plan_of

from qflsec.base import IncompatibleStack, find, names
from qflsec.federation.layers import AggregationLayer

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

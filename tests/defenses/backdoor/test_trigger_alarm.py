"""The alarm of the trigger search: its rate on clean models holds whatever sizes are like, and p-values are ranks."""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

import numpy as np
import pytest
import torch

from qflsec.base import ConfigError, IncompatibleStack, ProtocolAbort
from qflsec.data import DataSpec
from qflsec.defenses.backdoor import TriggerAlarm, clean_models, trigger_sizes
from qflsec.defenses.robust import Median
from qflsec.federation import FederationConfig, OwnModels, Pipeline, RoundUpdates, Stack
from qflsec.models import Classical


@pytest.mark.parametrize(("classes", "kind"), [(2, "lognormal"), (6, "pareto"), (3, "discrete")])
def test_the_rate_on_clean_models_holds_for_any_sizes(classes: int, kind: str) -> None:
    """Of 600 calibrations, each with one clean model more, alarms are at most the rate, and near it where no two are equal."""
    generator = np.random.default_rng(classes)
    alarms = 0
    for _ in range(600):
        shape = (39, classes)
        drawn = {
            "lognormal": lambda shape=shape: generator.lognormal(size=shape),
            "pareto": lambda shape=shape: 1.0 + generator.pareto(1.0, size=shape),
            "discrete": lambda shape=shape: generator.integers(1, 4, size=shape).astype(float),
        }[kind]()
        sizes = torch.from_numpy(drawn)
        alarm = TriggerAlarm.calibrated(sizes[:38], rate=0.2)
        alarms += bool(alarm.suspected(sizes[38]))
    assert alarms <= 600 * 0.2 + 3 * (600 * 0.2 * 0.8) ** 0.5
    if kind != "discrete":
        assert alarms >= 600 * 0.2 - 3 * (600 * 0.2 * 0.8) ** 0.5


def test_p_values_are_ranks_and_a_small_trigger_is_named() -> None:
    sizes = torch.from_numpy(np.random.default_rng(0).lognormal(0.5, 0.2, size=(40, 3)))
    alarm = TriggerAlarm.calibrated(sizes)
    model = torch.tensor([1.6, 0.3, 1.5])
    logs = sizes[:20].log()
    score = (logs.mean(dim=0) - model.double().log()) / logs.std(dim=0)
    others = ((logs.mean(dim=0) - sizes[20:].log()) / logs.std(dim=0)).amax(dim=1)
    expected = [(1 + int((others >= one).sum())) / 21 for one in score]
    assert alarm.p_values(model).tolist() == pytest.approx(expected)
    assert alarm.suspected(model) == (1,), "p = 1/21, below 0.05"
    assert alarm.suspected(torch.tensor([1.6, 1.7, 1.5])) == ()
    assert TriggerAlarm.calibrated(sizes[:38]).suspected(model) == (1,), "1/20 is the rate itself"


def test_equal_sizes_have_no_chance_to_differ() -> None:
    alarm = TriggerAlarm.calibrated(torch.full((8, 2), 3.0), rate=0.2)
    assert alarm.suspected(torch.tensor([3.0, 3.0])) == ()
    assert alarm.suspected(torch.tensor([3.0, 2.9])) == (1,)


def test_what_is_refused() -> None:
    sizes = torch.ones(40, 2)
    for bad in ({"rate": 0.0}, {"rate": 1.0}):
        with pytest.raises(ConfigError, match="'rate' is a share"):
            TriggerAlarm.calibrated(sizes, **bad)
    with pytest.raises(ConfigError, match=r"got 36 models, a rate of 0.05; expected 37 or more"):
        TriggerAlarm.calibrated(sizes[:36])
    assert [clean_models(rate) for rate in (0.05, 0.1, 0.2, 0.3, 0.9)] == [37, 17, 7, 5, 4]
    for wrong in (-sizes, sizes[0], sizes * float("inf")):
        with pytest.raises(ConfigError, match="sizes of triggers are positive"):
            TriggerAlarm.calibrated(wrong)


def test_models_without_records_of_the_server_are_not_searched() -> None:
    pipeline = Pipeline(
        data=DataSpec(name="breast-cancer", n_features=3, members=20, nonmembers=0, auxiliary=4, test=10),
        model=Classical(n_features=3),
        federation=FederationConfig(n_clients=2, rounds=1),
    )
    first, again = (trigger_sizes(pipeline, Stack(name="none"), seeds, records=9) for seeds in ((1, 2), (2,)))
    assert torch.equal(first[1:], again)
    with pytest.raises(ConfigError, match="clean records of the server; got 0 of 4"):
        trigger_sizes(pipeline, Stack(name="none"), (0,), records=0)
    own = replace(pipeline, federation=replace(pipeline.federation, own_models=OwnModels(pull=0.3)))
    with pytest.raises(IncompatibleStack, match=r"one model at the server.*; got a model of its own"):
        trigger_sizes(own, Stack(name="none"), (0,))


def test_a_run_that_ended_early_has_no_model_to_search() -> None:
    pipeline = Pipeline(
        data=DataSpec(name="breast-cancer", n_features=3, members=20, nonmembers=0, auxiliary=4, test=10),
        model=Classical(n_features=3),
        federation=FederationConfig(n_clients=3, rounds=1),
    )

    class Stopping(Median):
        """A rule that stops."""

        def act(self, batch: RoundUpdates, state: object) -> NoReturn:
            raise ProtocolAbort("the rule stopped")

    with pytest.raises(ConfigError, match="no model to search; got seed 1: aborted: the rule stopped"):
        trigger_sizes(pipeline, Stack(name="stops", server=(Stopping(),)), (1,))

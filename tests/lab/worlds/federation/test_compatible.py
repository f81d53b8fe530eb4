"""What cannot run is found in the plan: the cell is incompatible, with a reason, and nothing is trained for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from qflsec.base import IncompatibleAttack
from qflsec.federation import RunSpec, Stack
from qflsec.federation.loop import check_runs, run_batch
from qflsec.lab import parse_spec, run
from qflsec.lab.worlds.federation import work
from qflsec.lab.worlds.federation.world import FederationWorld
from qflsec.threat import corrupted_clients

SPEC = """
name = "plan"
seeds = [0]
secrets = "seeded"
[pipelines.main]
data = {{ name = "breast-cancer", n_features = 2, members = 12, nonmembers = {nonmembers}, auxiliary = 8, test = 20 }}
model = {{ name = "vqc", n_qubits = 2, layers = 1 }}
federation = {{ n_clients = 3, rounds = 2{training} }}
[stacks]
none = []
{stack}
[threats.t]
{threat}
[[attacks]]
name = "{attack}"
pipeline = "main"
threat = "t"
params = {{ {params} }}
"""
SERVER = 'kind = "honest-but-curious-server"'
CLIENTS = 'kind = "corrupted-clients"\nn = 1'


def text(
    attack: str, threat: str, *, params: str = "", training: str = "", nonmembers: int = 8, stack: str = ""
) -> str:
    return SPEC.format(
        attack=attack, threat=threat, params=params, training=training, nonmembers=nonmembers, stack=stack
    )


MISTAKES = {
    "disaggregation on Adam": (
        text("disaggregation", SERVER, training=', optimizer = "adam"'),
        text("dlg", SERVER, training=', optimizer = "adam"'),
        "smoothly from round to round; got optimizer='adam'",
    ),
    "disaggregation on mini-batches": (
        text("disaggregation", SERVER, training=", batch_size = 2"),
        text("dlg", SERVER, training=", batch_size = 2"),
        "batch_size=2",
    ),
    "disaggregation on a state that lives over rounds": (
        text("disaggregation", SERVER, training=', momentum = 0.5, optimizer_state = "run"'),
        text("dlg", SERVER, training=", momentum = 0.5, epochs = 2, proximal = 0.1"),
        "optimizer_state='run'; expected optimizer = 'sgd', no batch_size, and no state",
    ),
    "membership without non-members": (
        text("loss-threshold", SERVER, nonmembers=0),
        text("loss-threshold", SERVER),
        "members and non-members; got 12 and 0",
    ),
    "a class that does not exist": (
        text("feature-trigger", CLIENTS, params="target_class = 2"),
        text("feature-trigger", CLIENTS, params="target_class = 1"),
        "got target_class=2; expected 0 to 1",
    ),
    "a feature that does not exist": (
        text("feature-trigger", CLIENTS, params="features = [2]"),
        text("feature-trigger", CLIENTS, params="features = [1]"),
        "marks a feature that no record has",
    ),
    "a victim that does not exist": (
        text("inconsistent-models", 'kind = "malicious-server"', params="victim = 3"),
        text("inconsistent-models", 'kind = "malicious-server"', params="victim = 2"),
        "names a victim that the pipeline does not have",
    ),
    "a round that does not exist": (
        text("inconsistent-models", 'kind = "malicious-server"', params="round = 2"),
        text("inconsistent-models", 'kind = "malicious-server"', params="round = 1"),
        "got round=2; expected 0 to 1",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_incompatible_and_the_right_value_is_not(case: str) -> None:
    wrong, right, words = MISTAKES[case]
    for spec, expected in ((wrong, words), (right, "")):
        (trial,) = FederationWorld.make(parse_spec(spec, base=Path())).layout.trials.values()
        assert expected in trial.incompatible
        assert bool(trial.incompatible) == bool(expected), trial.incompatible


def test_a_quantum_server_is_one_only_where_something_is_delegated() -> None:
    spec = text(
        "read-delta",
        'kind = "honest-but-curious-quantum-server"',
        stack='blind = [{ name = "blind", shots = 10, tests = 0 }]',
    )
    trials = FederationWorld.make(parse_spec(spec, base=Path())).layout.trials
    assert "nothing in this stack is delegated to one" in trials["read-delta", "none", 0].incompatible
    assert trials["read-delta", "blind", 0].incompatible == ""


def test_sampling_of_clients_that_a_sum_does_not_bear_is_found_in_the_plan() -> None:
    spec = text(
        "loss-threshold",
        SERVER,
        training=', client_sampling = "poisson", participation = 0.5',
        stack='masked = [{ name = "masked" }]',
    )
    trials = FederationWorld.make(parse_spec(spec, base=Path())).layout.trials
    assert "Poisson sampling" in trials["loss-threshold", "masked", 0].incompatible
    assert trials["loss-threshold", "none", 0].incompatible == ""


def test_nothing_is_trained_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    monkeypatch.setattr(work, "run_batch", _counted(made))
    result = run(
        parse_spec(MISTAKES["a class that does not exist"][0], base=Path()), tmp_path / "s.sqlite", jobs=1
    )
    cell = result.cells["feature-trigger", "none"]
    assert cell.state == "incompatible"
    assert "got target_class=2" in cell.sentence
    assert not result.failures
    assert made == [1], "the honest run of the utility pipeline alone"


def _counted(made: list[int]) -> Callable[..., object]:
    def counted(pipeline: object, stack: object, specs: list[RunSpec], **options: object) -> object:
        made.append(len(specs))
        return run_batch(pipeline, stack, specs, **options)  # type: ignore[arg-type]

    return counted


def test_a_single_run_asks_too() -> None:
    matrix = FederationWorld.make(parse_spec(MISTAKES["a class that does not exist"][0], base=Path())).matrix
    attack = matrix.attacks[0].attack
    spec = RunSpec(seed=0, adversary=attack, threat=corrupted_clients(n=1))  # type: ignore[arg-type]
    with pytest.raises(IncompatibleAttack, match="a class that the model does not have"):
        check_runs(matrix.pipelines["main"], Stack.from_layers("none", []), [spec])

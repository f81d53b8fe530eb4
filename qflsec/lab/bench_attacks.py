"""What attacks on privacy cost, as ratios in one process: shadow models, what is made of them, and inversion.

Costs are processor time of this process with one torch thread. The shadow models and their baselines are measured
several times over in turn, and so is the matrix, after a first pass that loads what a process loads once; the least of each
counts. Inversion is measured once.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from qflsec.attacks.inversion.dlg import DeepLeakage
from qflsec.circuits.bench import Step, fraction, least_costs, one_thread
from qflsec.circuits.executors import executor_name
from qflsec.circuits.to_pennylane import to_qnode
from qflsec.data import DataSpec, load
from qflsec.federation import FederationConfig, Pipeline, RunSpec, Stack
from qflsec.federation.loop import run_batch
from qflsec.federation.shadows import ShadowTrainer
from qflsec.lab.challenges import challenge_for
from qflsec.lab.grid.units import Row
from qflsec.lab.specs import parse_spec
from qflsec.lab.worlds.federation.plan import ShadowBatch
from qflsec.lab.worlds.federation.world import FederationWorld
from qflsec.models import Execution, build_model
from qflsec.models.base import Generators
from qflsec.models.plain import plain_circuit
from qflsec.models.vqc import Vqc
from qflsec.threat import Records, ThreatModel

__all__ = ["AttackCost", "bench_attacks", "render_attacks"]

MEMBERS, CLIENTS, ROUNDS, STEPS, RATE = 20, 10, 40, 2, 0.5
_MODEL = '{ name = "vqc", n_qubits = 4, layers = 10, encoder = "reuploading", scale = 6.0 }'
_MEMBERSHIP = f"""
name = "bench"
seeds = [0]
secrets = "seeded"

[pipelines.few-records]
data = {{ name = "breast-cancer", n_features = 4, balanced = true, members = {MEMBERS}, nonmembers = {MEMBERS}, auxiliary = 60, test = 150 }}
model = {_MODEL}
federation = {{ n_clients = {CLIENTS}, rounds = {ROUNDS}, local_steps = {STEPS}, learning_rate = {RATE} }}

[stacks]
none = []

[threats.server]
kind = "honest-but-curious-server"
"""
# With the parameters of each: all ask for the same set of shadow models, or for none.
_ATTACKS = {
    "loss-threshold": "",
    "calibrated-loss": "shadows = {count}",
    "lira": "shadows = {count}",
    "rmia": "shadows = {count}",
    "trajectory": "shadows = {count}",
    "update-alignment": "",
    "sum-alignment": "",
    "gradient-regression": "",
}
_EACH = "PennyLane, each federation for itself, its clients and records in one broadcast"
_TOGETHER = "PennyLane, all federations in one broadcast"


@dataclass(frozen=True, kw_only=True)
class AttackCost:
    """What something costs beside something else.

    Attributes:
        name: What.
        baseline: Beside what.
        seconds: Its processor time.
        baseline_seconds: That of the other.
        target: The largest ratio that is accepted.

    Units:
        seconds, baseline_seconds: seconds.
    """

    name: str
    baseline: str
    seconds: float
    baseline_seconds: float
    target: float

    @property
    def ratio(self) -> float:
        """The one over the other."""
        return self.seconds / self.baseline_seconds

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        return self.ratio <= self.target


def bench_attacks(*, models: int = 64, restarts: int = 16, repeats: int = 3) -> tuple[AttackCost, ...]:
    """Measure shadow federations, membership attacks on top of them, and gradient matching.

    The federations are 10 clients with two records each, 40 rounds of two steps, 10 re-uploading layers of 4 qubits.
    PennyLane broadcasts with torch in two ways: over the records and weights of the clients of one federation, as a
    program that trains one after the other does; and over those of all federations at once, which is the best that
    it can do. A step of one federation and one of all are measured, and counted as often as there are steps; nothing
    of a federation around them is.

    Args:
        models: Shadow federations.
        restarts: Of gradient matching.
        repeats: How often the federations and their baselines are measured.

    Returns:
        The rows; none where numba is missing, as half of them compare with the compiled kernel.
    """
    if executor_name("auto") == "torch":
        return ()
    with one_thread():
        world = FederationWorld.make(parse_spec(_membership(models), base=Path()))  # type: ignore[arg-type]
        pipeline = world.matrix.pipelines["few-records"]
        steps = _shadow_steps(pipeline, models)
        costs = least_costs(steps, repeats)
        trained = costs["federations"]
        several, steps_each = f"{models} shadow federations", ROUNDS * STEPS
        return (
            AttackCost(
                name=several,
                baseline=_EACH,
                seconds=trained,
                baseline_seconds=costs[_EACH] * models * steps_each,
                target=1 / 40,
            ),
            AttackCost(
                name=several,
                baseline=_TOGETHER,
                seconds=trained,
                baseline_seconds=costs[_TOGETHER] * steps_each,
                target=1 / 40,
            ),
            AttackCost(
                name=several,
                baseline="the bare kernel",
                seconds=trained,
                baseline_seconds=costs["kernel"],
                target=3,
            ),
            _attacks_on_top(world, repeats),
            _matching(restarts, world.matrix.threats["server"]),
        )


def _membership(models: int) -> str:
    entries = [
        f'[[attacks]]\nname = "{name}"\npipeline = "few-records"\nthreat = "server"\n'
        f"params = {{ {params.format(count=models)} }}\n"
        for name, params in _ATTACKS.items()
    ]
    return _MEMBERSHIP + "\n".join(entries)


def _shadow_steps(pipeline: Pipeline, models: int) -> dict[str, Step]:
    """The federations; their steps by the kernel alone; by PennyLane one step of one of them, and one of all."""
    data = load(pipeline.data, 0)
    rows = torch.cat([data.member_idx, data.nonmember_idx])
    features, labels = data.take(rows)
    pool = Records(features=features, labels=labels)
    generator = torch.Generator().manual_seed(0)
    members = torch.rand(models, len(rows), generator=generator).argsort(dim=1) < MEMBERS
    trainer = ShadowTrainer(pipeline=pipeline, like=data, seed=0)
    own = torch.stack([features[row] for row in members]).reshape(-1, features.shape[-1])
    answers = torch.stack([labels[row] for row in members]).reshape(-1)
    weights = torch.rand(models * CLIENTS, pipeline.model.n_params, generator=generator) * 2 * torch.pi
    return {
        "federations": lambda: trainer(pool, members),
        "kernel": _kernel(pipeline, own, answers, weights),
        _EACH: _pennylane(pipeline, own[:MEMBERS], answers[:MEMBERS], weights[:CLIENTS]),
        _TOGETHER: _pennylane(pipeline, own, answers, weights),
    }


def _kernel(pipeline: Pipeline, features: Tensor, labels: Tensor, weights: Tensor) -> Step:
    """Every step of all clients, without anything around them."""
    from qflsec.circuits.compiled import first_states, load_circuit
    from qflsec.circuits.compiled.loaded import Optimiser, Plan, Rule
    from qflsec.circuits.compiled.loaded import Records as Rows
    from qflsec.circuits.compiled.training import CROSS_ENTROPY

    plain, count = plain_circuit(pipeline.model), len(weights)
    assert plain is not None
    loaded = load_circuit(plain.circuit, np.dtype(np.float32))
    rule = Rule(CROSS_ENTROPY, plain.low, plain.scale, 0.0)
    records = Rows(features.numpy(), first_states(plain.circuit, features), labels.numpy())
    each, nothing = MEMBERS // CLIENTS, np.zeros((0, 0, 0), np.float32)
    used = np.ones((STEPS, count, each), np.float32)
    plan = Plan(nothing.astype(np.int64), used, nothing, np.full((STEPS, count), each, np.float32))

    def train() -> Tensor:
        params = weights.clone().numpy()
        state = Optimiser(
            kind=0,
            rate=RATE,
            momentum=0.0,
            betas=(0.9, 0.999),
            epsilon=1e-8,
            pull=np.zeros(0, np.float32),
            steps=np.zeros(count, np.int64),
            moments=np.zeros((0, count, 1), np.float32),
        )
        for _ in range(ROUNDS):
            loaded.train(rule, records, plan, state, params)
        return torch.from_numpy(params)

    return train


def _pennylane(pipeline: Pipeline, features: Tensor, labels: Tensor, weights: Tensor) -> Step:
    """The mean loss's gradient of every client, of all in one broadcast circuit."""
    model = pipeline.model
    assert isinstance(model, Vqc)
    node = to_qnode(model.circuit, interface="torch", diff_method="backprop")
    shape = model.circuit.weight_shape or (model.circuit.n_weights,)
    own = weights.clone().requires_grad_()

    def step() -> Any:  # noqa: ANN401
        rows = own.repeat_interleave(MEMBERS // CLIENTS, dim=0)
        logits = model.scale * node(features, rows.reshape(len(rows), *shape)).float()
        loss = binary_cross_entropy_with_logits(logits, labels.float(), reduction="sum")
        return torch.autograd.grad(loss * CLIENTS / MEMBERS, own)

    return step


def _attacks_on_top(world: FederationWorld, repeats: int) -> AttackCost:
    """All trials on one run, scores included, beside the training of the shadow models that they share."""
    costs = [_trials(world) for _ in range(repeats + 1)][1:]
    return AttackCost(
        name=f"{len(_ATTACKS)} membership attacks, with their scores",
        baseline="the shadow models that they share",
        seconds=min(attacked for attacked, _ in costs),
        baseline_seconds=min(trained for _, trained in costs),
        target=0.1,
    )


def _trials(world: FederationWorld) -> tuple[float, float]:
    """The seconds of all trials, and of training what they share."""
    trained, attacked = 0.0, 0.0
    given: dict[str, Row] = {}
    for batch in world.plan(frozenset()).batches:
        for row in world.execute(batch, given):
            if isinstance(batch, ShadowBatch):
                given[row.unit_id] = row
                trained += row.seconds
            elif row.stage == "trial":
                if row.status != "ok":
                    raise RuntimeError(f"an attack of the benchmark ended {row.status}: {row.reason}")
                attacked += row.seconds
    return attacked, trained


class _TorchVqc(Vqc):
    """A circuit that is always the torch kernel's."""

    def _logits(
        self, params: Tensor, features: Tensor, execution: Execution, generator: Generators | None
    ) -> Tensor:
        return super()._logits(params, features, replace(execution, executor="torch"), generator)


def _matching(restarts: int, threat: ThreatModel) -> AttackCost:
    """Gradient matching of one client's two records from one plain gradient step."""
    model = build_model({"name": "vqc", "n_qubits": 4, "layers": 3, "n_features": 4, "n_classes": 2})
    assert isinstance(model, Vqc)
    fields = {name: getattr(model, name) for name in ("circuit", "n_classes", "scale", "recipe", "loss")}
    attack = DeepLeakage(restarts=restarts)
    seconds = []
    for own in (model, _TorchVqc(**fields)):
        pipeline = Pipeline(
            data=DataSpec(name="breast-cancer", n_features=4, balanced=True, members=20, nonmembers=0),
            model=own,
            federation=FederationConfig(n_clients=CLIENTS, rounds=1, learning_rate=RATE),
        )
        (run,) = run_batch(pipeline, Stack(name="none"), [RunSpec(seed=0)], secrets="seeded")
        challenge, _ = challenge_for(attack, run, seed=0, threat=threat)
        view = run.view(threat)
        DeepLeakage(restarts=1, screened=1, iterations=1)(view, challenge)  # compiles what is compiled
        started = time.process_time()
        attack(view, challenge)
        seconds.append(time.process_time() - started)
    return AttackCost(
        name=f"gradient matching, {restarts} restarts",
        baseline="the torch kernel",
        seconds=seconds[0],
        baseline_seconds=seconds[1],
        target=1 / 3,
    )


def render_attacks(rows: Iterable[AttackCost]) -> str:
    """The rows as a Markdown table."""
    lines = [["what", "beside", "ratio", "target", "seconds", "of the other"]]
    lines.append(["---"] * len(lines[0]))
    for row in rows:
        target = f"{fraction(row.target)} ({'met' if row.met else 'MISSED'})"
        costs = [f"{row.seconds:.3g}", f"{row.baseline_seconds:.3g}"]
        lines.append([row.name, row.baseline, fraction(row.ratio), target, *costs])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

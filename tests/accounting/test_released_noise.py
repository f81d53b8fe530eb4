"""What is released has the noise that its epsilon was computed from: every noise option, end to end.

Runs with noise and without, of the same seed, differ in what they release by the noise alone. Its spread over the reach of
the protected unit, which each test takes from the definition of the mechanism, gives an epsilon by the exact trade-off of
the Gaussian mechanism; the row must state it. Bands are 5.5 standard deviations of the estimated spread on either side: a
right mechanism fails in fewer than one of 10 million changes of seed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.accounting.skellam import skellam_epsilon
from qflsec.base import SeededSecrets, stream
from qflsec.circuits import Observable, sample_expectations
from qflsec.data import PartitionSpec
from qflsec.defenses.privacy import DpFedAvg, DpSgd, GradientNoise, LocalDp
from qflsec.federation import Layer, Pipeline, RoundUpdates, RunResult, RunSpec, Stack, run_batch
from qflsec.models import EXACT, Execution, Vqc
from qflsec.protocols.qdp import CircuitNoise, DepolarizingNoise, EncodingNoise, NoisyMeasurement
from qflsec.protocols.secagg import Ddp, Masked
from qflsec.threat import SERVER, client, honest_but_curious_server, public_final_model

Maker = Callable[..., Pipeline]
SERVER_LOOKS, PUBLIC = honest_but_curious_server(), public_final_model()
LANES, BAND = 100, 5.5
SKEWED = PartitionSpec(kind="dirichlet", alpha=0.5, min_records=4)


def epsilon_of(mu: float, delta: float) -> float:
    """The exact epsilon of the Gaussian mechanism with sensitivity ``mu`` in units of its noise (Balle, Wang 2018)."""

    def excess(epsilon: float) -> float:
        left = stats.norm.cdf(-epsilon / mu + mu / 2)
        return float(left - math.exp(epsilon) * stats.norm.cdf(-epsilon / mu - mu / 2) - delta)

    return float(optimize.brentq(excess, 0, 300))


def assert_stated(row: LedgerRow, mu: float, draws: int) -> None:
    """The row states the epsilon of this sensitivity in units of the noise that was seen, over so many draws."""
    off = BAND / math.sqrt(2 * draws)
    assert off < 0.1, "the test would not notice a tenth"
    stated = row.epsilon if row.epsilon_unsampled is None else row.epsilon_unsampled
    assert stated is not None
    assert row.delta is not None
    assert epsilon_of(mu * (1 - off), row.delta) <= stated <= epsilon_of(mu * (1 + off), row.delta) + 0.02


def stated(result: RunResult, threat: Any, adjacency: str = "") -> list[LedgerRow]:
    """The rows of the tighter accountant."""
    rows = [row for row in result.ledger(threat) if row.guarantee == "differential privacy"]
    return [row for row in rows if row.accountant.startswith("PRV") and adjacency in row.adjacency]


def runs(pipeline: Pipeline, layers: Sequence[Layer]) -> list[RunResult]:
    specs = [RunSpec(seed=seed) for seed in range(LANES)]
    return run_batch(pipeline, Stack.from_layers("s", layers), specs)


def silenced(layer: Layer) -> Layer:
    """The layer without its noise."""
    name = "noise_std" if isinstance(layer, GradientNoise) else "noise_multiplier"
    return replace(layer, **{name: 0.0})


def noise_in_models(pipeline: Pipeline, noisy: Layer, *others: Layer) -> tuple[list[RunResult], torch.Tensor]:
    """Runs, and the noise in the model after one round.

    Shapes:
        returns: ``(lane, P)``
    """
    loud, quiet = runs(pipeline, [noisy, *others]), runs(pipeline, [silenced(noisy), *others])
    return loud, torch.stack([a.params - b.params for a, b in zip(loud, quiet, strict=True)]).double()


def noise_in_updates(pipeline: Pipeline, noisy: Layer) -> tuple[list[RunResult], torch.Tensor]:
    """Runs, and the noise in the first client's update as the server reads it."""
    loud, quiet = runs(pipeline, [noisy]), runs(pipeline, [silenced(noisy)])

    def read(result: RunResult) -> torch.Tensor:
        items = result.view(SERVER_LOOKS).readable("update")
        return next(item.vector for item in items if item.sender == client(0) and item.receiver == SERVER)

    return loud, torch.stack([read(a) - read(b) for a, b in zip(loud, quiet, strict=True)]).double()


@pytest.fixture
def pipeline(make_pipeline: Maker) -> Maker:
    def make(**federation: Any) -> Pipeline:
        given = {"rounds": 1, "learning_rate": 0.3, "members": 60, "test": 0, **federation}
        return make_pipeline(n_qubits=4, layers=3, **given)

    return make


# -- dp-sgd -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", [{}, {"batch_size": 5, "sampling": "poisson"}], ids=["full", "poisson"])
def test_dp_sgd_of_a_single_update(pipeline: Maker, sampling: dict[str, Any]) -> None:
    """A record moves the update by at most the rate times the clip norm over the expected batch."""
    clip, z = 0.7, 1.4
    made = pipeline(**sampling)
    loud, noise = noise_in_updates(made, DpSgd(clip_norm=clip, noise_multiplier=z))
    batch = made.federation.batch_size or len(loud[0].clients[0])
    assert {len(result.clients[0]) for result in loud} == {20}
    mu = 0.3 * clip / batch / float(noise.std())
    assert mu == pytest.approx(1 / z, rel=0.1)
    assert_stated(stated(loud[0], SERVER_LOOKS)[0], mu, noise.numel())


@pytest.mark.parametrize("others", [(), (Masked(),)], ids=["plain", "masked"])
@pytest.mark.parametrize("sampling", [{}, {"batch_size": 5, "sampling": "poisson"}], ids=["full", "poisson"])
def test_dp_sgd_of_a_sum(pipeline: Maker, others: tuple[Layer, ...], sampling: dict[str, Any]) -> None:
    """Of the worst client's record, in the mean over clients of unequal sizes; each run has sizes of its own."""
    clip, z, rate = 0.7, 1.4, 0.3
    made = replace(pipeline(**sampling), partition=SKEWED)
    loud, noise = noise_in_models(made, DpSgd(clip_norm=clip, noise_multiplier=z), *others)
    shares = [
        [n / min(made.federation.batch_size or n, n) for n in map(len, result.clients)] for result in loud
    ]
    totals = [sum(map(len, result.clients)) for result in loud]
    claimed = torch.tensor(
        [rate * z * clip * math.hypot(*share) / total for share, total in zip(shares, totals, strict=True)]
    )
    seen = float((noise / claimed[:, None]).std())
    assert seen == pytest.approx(1, abs=0.1)
    threat = SERVER_LOOKS if others else PUBLIC
    for lane in (0, 1):
        reach = rate * clip * max(shares[lane]) / totals[lane]
        assert_stated(stated(loud[lane], threat)[-1], reach / (seen * float(claimed[lane])), noise.numel())


# -- whole clients ----------------------------------------------------------------------------------


def test_dp_fedavg(pipeline: Maker) -> None:
    """A client moves the step by the clip norm over the constant."""
    clip, z = 0.02, 1.3
    made = pipeline(n_clients=4)
    loud, noise = noise_in_models(made, DpFedAvg(clip_norm=clip, noise_multiplier=z))
    mu = clip / 4 / float(noise.std())
    (row,) = stated(loud[0], PUBLIC)
    assert_stated(row, mu, noise.numel())


@pytest.mark.parametrize("norm", [0.5, 0.02, 3.0], ids=["first", "smaller", "larger"])
def test_dp_fedavg_with_adaptive_clipping(ledger_context: Callable[..., LedgerContext], norm: float) -> None:
    """The clip norm that is in force scales the noise of the sum, and the count is paid for: together they have the
    multiplier of the row. A client moves the sum by the norm, and the centred count by one half."""
    z, count_noise, clients, eta = 1.0, 0.65, 4.0, 0.2
    layer = DpFedAvg(
        clip_norm=0.5,
        noise_multiplier=z,
        quantile=0.5,
        count_noise=count_noise,
        clip_learning_rate=eta,
        expected_clients=clients,
    )
    steps, counts = [], []
    for seed in range(4000):
        batch = RoundUpdates(
            round=3,
            updates=torch.zeros(4, 1),
            counts=torch.ones(4),
            ids=(0, 1, 2, 3),
            broadcast=torch.zeros(1),
            periods=(None,),
            f=0,
            generator=stream(seed, "rule", 3),
        )
        step, after = layer.aggregate(batch, norm)
        assert isinstance(after, float)
        steps.append(float(step))
        counts.append(clients * (0.5 - math.log(after / norm) / eta))
    of_sum = norm / clients / float(torch.tensor(steps, dtype=torch.float64).std())
    of_count = 0.5 / float(torch.tensor(counts, dtype=torch.float64).std())
    assert of_count > 0.7 * of_sum, "a count for free would show"
    public = ledger_context(server=False, smallest_k=0, reads_clients=False, rounds=1)
    (row,) = [row for row in layer.ledger(public) if row.accountant.startswith("PRV")]
    assert_stated(row, math.hypot(of_sum, of_count), len(steps))


def test_local_dp(pipeline: Maker) -> None:
    """Two data sets of a client are 2 S apart, a data set and an update of zero S."""
    clip, z = 0.02, 2.2
    loud, noise = noise_in_updates(pipeline(), LocalDp(clip_norm=clip, noise_multiplier=z))
    for adjacency, reach in (("replace-one", 2 * clip), ("zero-out", clip)):
        (row,) = stated(loud[0], SERVER_LOOKS, adjacency)
        assert_stated(row, reach / float(noise.std()), noise.numel())


@pytest.mark.parametrize("corrupted", [(), (0,), (0, 1, 2)], ids=len)
def test_ddp(ledger_context: Callable[..., LedgerContext], corrupted: tuple[int, ...]) -> None:
    """The words of as few honest clients as are sure to remain, for updates of zero."""
    layer, n, n_params = Ddp(colluders=1), 5, 400
    sure = max(1, layer.threshold_for(n) - len(corrupted))
    plan = layer.plan(n_params=n_params, rounds=3, honest=layer.threshold_for(n) - 1)
    words = [
        layer.noisy_words(torch.zeros(n_params), plan, SeededSecrets(7, f"client {index}"))[:-1].view("i4")
        for index in range(sure * 8)
    ]
    sums = np.array([sum(w.astype("i8") for w in words[k::8]) for k in range(8)], dtype=np.float64)
    off = BAND * math.sqrt(2 / sums.size)
    seen = float(sums.var())
    context = ledger_context(
        clients=corrupted, counts=(8,) * n, rounds=3, n_params=n_params, smallest_k=n - len(corrupted)
    )
    (row,) = [row for row in layer.ledger(context) if row.guarantee == "differential privacy"]
    low, high = (
        skellam_epsilon(variance=seen * factor, l1=plan.l1, l2=plan.l2, steps=3, delta=0.99e-5).epsilon
        for factor in (1 + off, 1 - off)
    )
    assert row.epsilon is not None
    assert low <= row.epsilon <= high


# -- circuits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer",
    [NoisyMeasurement(p=0.2), DepolarizingNoise(p=0.4), EncodingNoise(p=0.4)],
    ids=lambda x: x.card.name,
)
def test_noise_on_circuits(make_pipeline: Maker, layer: CircuitNoise) -> None:
    """On |00>, where every gate is the identity up to an order of outcomes: the most and the least likely outcome give
    the epsilon of one copy, ln(1 + tau (most - least) / least), that the row builds on."""
    made = make_pipeline(n_qubits=2, members=12, rounds=1, test=0)
    model = made.model
    assert isinstance(model, Vqc)
    joint = Observable(tuple((weight, word) for weight, word in ((0.5, "ZI"), (0.25, "IZ"), (0.25, "ZZ"))))
    made = replace(
        made,
        model=Vqc(circuit=replace(model.circuit, observables=(joint,))),
        execution=Execution(shots=4, gradient="parameter-shift"),
    )
    (result,) = run_batch(made, Stack.from_layers("s", [layer]), [RunSpec(seed=0)])
    (row,) = [row for row in result.ledger(SERVER_LOOKS) if row.guarantee == "differential privacy"]
    single = float(re.search(r"one copy alone has epsilon ([0-9.]+)", row.note).group(1))  # type: ignore[union-attr]
    tau = float(re.search(r"trace distance ([0-9.]+)", row.adjacency).group(1))  # type: ignore[union-attr]
    shots = 400_000
    words = tuple(Observable(((1.0, word),)) for word in ("ZI", "IZ", "ZZ"))
    circuit = replace(model.circuit, observables=words)
    zi, iz, zz = (
        sample_expectations(
            circuit,
            torch.zeros(circuit.n_weights, dtype=torch.float64),
            torch.zeros(1, 2, dtype=torch.float64),
            shots=shots,
            generator=stream(0, "shots"),
            noise=layer.execution(EXACT).noise,
        )[0]
        .double()
        .tolist()
    )
    chances = [(1 + a * zi + b * iz + a * b * zz) / 4 for a in (1, -1) for b in (1, -1)]
    most, least = max(chances), min(chances)
    off = BAND * math.sqrt(1 / (shots * least)) + BAND * math.sqrt(1 / (shots * most))
    ratio = tau * (most - least) / least
    assert off < 0.1
    assert math.log1p(ratio * (1 - off)) <= single <= math.log1p(ratio * (1 + off))


# -- heuristics -------------------------------------------------------------------------------------


def test_gradient_noise_has_its_size_and_no_epsilon(pipeline: Maker) -> None:
    loud, noise = noise_in_updates(pipeline(), GradientNoise(noise_std=0.03))
    assert float(noise.std()) == pytest.approx(0.03, rel=BAND / math.sqrt(2 * noise.numel()))
    for threat in (SERVER_LOOKS, PUBLIC):
        assert stated(loud[0], threat) == []

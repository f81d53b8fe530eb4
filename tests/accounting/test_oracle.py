"""The rows of runs against an oracle: every registered layer, the presets' stacks and pairs of them, for every threat model.

The oracle is written from definitions, without views, versions or closure: who hears whom, which clients are in a sum, which
keys are in one hand, what the server makes of it. It knows layers by their names only, so that it does not take a layer's
word for what it does.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

import pytest
import torch

from qflsec.accounting import LedgerRow, Observer, Training, run_rows
from qflsec.accounting.account import ledger
from qflsec.base import IncompatibleStack, names, stream
from qflsec.data import DataSpec, PartitionSpec
from qflsec.federation import (
    FederationConfig,
    Pipeline,
    RunResult,
    RunSpec,
    Stack,
    layer_from_config,
    run_batch,
)
from qflsec.models import EXACT, Execution, build_model
from qflsec.threat import (
    NOBODY,
    ThreatModel,
    coalition,
    corrupted_clients,
    honest_but_curious_edge,
    honest_but_curious_quantum_server,
    honest_but_curious_server,
    malicious_edge,
    malicious_quantum_server,
    malicious_server,
    public_final_model,
    run_anonymity,
    wire_eavesdropper,
)

N, ROUNDS, SEED = 6, 2, 9
GRANTED = ("architecture", "honest-updates")

LINKS = {"aes-gcm-link", "hybrid-link", "otp-link", "qkd-aes-link", "qkd-link"}
SHAPES = {
    "client-clip",
    "gradient-noise",
    "gradient-pruning",
    "local-dp",
    "mean-sign",
    "plain",
    "teleported",
    "ternary",
    "update-quantization",
}
CIRCUITS = {"depolarizing-noise", "encoding-noise", "few-shots", "noisy-measurement"}
DELEGATED = {"blind", "delegated"}
ROBUST = {
    "arc", "bucketing", "bulyan", "centred-clipping", "circular-geometric-median", "circular-mean", "cosine-filter", "crfl",
    "distance-weighted", "dnc", "erasure", "fedmgda", "flame", "fldetector", "fltrust", "foolsgold", "geometric-median", "inverse-noise", "krum", "loss-weighted",
    "mean", "mean-around-median", "median", "minimum-diameter", "multi-krum", "nnm", "norm-bound", "q-fedavg", "smea", "softmin", "trimmed-mean",
    "validation-gate", "weak-dp", "weight-cap", "wrap-angles",
}  # fmt: skip
"""Rules and filters of the server without a row of their own: to a ledger they are alike, so that few are run."""
RULES = {"dp-fedavg", *ROBUST}
"""What the server does besides the weighted mean."""
SHARED = {"secagg", "ddp", "validated"}
"""Sums whose masks a threshold of clients can open."""
KEYED = {"he-bfv", "he-ckks"}
"""One key, which every client has and the server has not."""
SUMMED = {*SHARED, "masked", "ghz", "he-threshold"}
FRACTIONAL_BITS = {
    "masked": 20, "secagg": 16, "ddp": 12, "validated-groups": 16, "he-bfv": 12, "he-masked": 12, "he-threshold": 16
}  # fmt: skip
EXACT_SUMS = {"masked", "secagg", "validated-groups", "he-bfv", "he-masked", "he-threshold"}
COUNTED_ALIKE = {"ghz", "ddp", "validated"}
ELSEWHERE = {"fine-pruning", "received-audit"}
"""Acts on hidden units, or in rings and gossip networks alone; the comparison's runs are stars of circuits."""
KNOWN = {
    *LINKS, *SHAPES, *CIRCUITS, *DELEGATED, *RULES, *SUMMED, *KEYED, "he-masked", "validated-groups", "dp-sgd", "fedavg",
    "adversarial-training", "circuit-attestation", "model-smoothing", "randomised-smoothing", *ELSEWHERE,
}  # fmt: skip

SMALL: Mapping[str, Mapping[str, Any]] = {
    "ghz": {"shots": 10, "tests": 4},
    "validated-groups": {"groups": 2, "min_groups": 2},
    "blind": {"executor": "exact", "shots": 2, "tests": 0},
    "delegated": {"executor": "exact", "shots": 2},
    "few-shots": {"shots": 4},
    "he-ckks": {"largest": 32.0, "precision": 0.01},
}

THREATS: dict[str, ThreatModel] = {
    "nobody": NOBODY,
    "public": public_final_model(),
    "server": honest_but_curious_server(),
    "server, active": malicious_server(),
    "server, granted": honest_but_curious_server(knows=GRANTED),
    "wire": wire_eavesdropper(),
    "wire, active": wire_eavesdropper(active=True),
    "quantum server": honest_but_curious_quantum_server(),
    "quantum server, active": malicious_quantum_server(),
    "a client": corrupted_clients(n=1),
    "two clients, passive": corrupted_clients(n=2, active=False),
    "all clients": corrupted_clients(n=N),
    "server and one": coalition(server=True, n=1),
    "server and one, active": coalition(server=True, n=1, active=True),
    "server and all but one": coalition(server=True, n=N - 1),
    "server, wire and two": coalition(server=True, wire=True, n=2),
    "wire and one": coalition(wire=True, n=1),
}


def config(name: str, **own: Any) -> dict[str, Any]:
    return {"name": name, **SMALL.get(name, {}), **own}


def shrunk(layers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**layer, **SMALL.get(layer["name"], {})} for layer in layers]


def stacks() -> Iterator[list[dict[str, Any]]]:
    """Every layer alone, example-level noise with every other, seals with links, and the presets' own."""
    everything = [
        name
        for name in names("layer")
        if name not in ROBUST - {"median", "norm-bound", "bucketing", "crfl"} and name not in ELSEWHERE
    ]
    yield []
    yield from ([config(name)] for name in everything)
    noise = config("dp-sgd", noise_multiplier=2.0, delta=1e-3)
    yield from (
        [noise, config(name)] for name in everything if name not in {"dp-sgd", *CIRCUITS, *DELEGATED, *LINKS}
    )
    yield from ([config(name), config("aes-gcm-link")] for name in (*sorted(SUMMED | KEYED), "he-masked"))
    yield [noise, config("gradient-noise"), config("masked")]
    yield [noise, config("validated-groups"), config("median")]
    yield [noise, config("norm-bound", max_norm=1.0), config("dp-fedavg")]
    yield [noise, config("delegated")]
    for preset in (files("qflsec.lab") / "presets").iterdir():
        if preset.name.endswith(".toml"):
            written = tomllib.loads(preset.read_text())
            yield from (
                shrunk(layers)
                for layers in written.get("stacks", {}).values()
                if isinstance(layers, list) and not {layer["name"] for layer in layers} & ELSEWHERE
            )


@dataclass(frozen=True)
class Oracle:
    """One run, from definitions.

    Attributes:
        layers: The names of its layers.
        members: For each round, who took part.
        counts: How many records each client has.
        groups: For each round, the groups that were drawn.
        drawn: How clients are drawn: not at all, so many in each round, or independently.
        released: Whether clients give the server the sum that they opened.
    """

    layers: frozenset[str]
    members: tuple[frozenset[int], ...]
    counts: tuple[int, ...]
    groups: tuple[tuple[frozenset[int], ...], ...] = ()
    drawn: str = "all"
    released: bool = False

    @property
    def linear(self) -> bool:
        """Whether the model moves by the weighted mean."""
        return not self.layers & RULES

    @property
    def seal(self) -> str:
        """What keeps single updates from the server, if anything."""
        return next(iter(self.layers & {*SUMMED, *KEYED, "he-masked", "validated-groups"}), "")

    def hears(self, threat: ThreatModel) -> bool:
        """Whether it hears what clients send to the server, under no more than their own seal."""
        return threat.server or (threat.wire and not self.layers & LINKS)

    def threshold(self, n: int) -> int:
        """More than two thirds."""
        return 2 * n // 3 + 1

    def opened(self, threat: ThreatModel, round_index: int) -> set[frozenset[int]]:
        """The sets of clients whose sum of updates it reads in a round, of what clients sent."""
        c, members = set(threat.clients), self.members[round_index]
        singles = {frozenset({i}) for i in members}
        if "honest-updates" in threat.knows:
            return singles
        if not self.hears(threat):
            return set()
        if not self.seal:
            return singles
        if self.seal in KEYED:
            return singles if c else {frozenset(members)} if self.released else set()
        if self.seal == "he-masked" and not c:
            return set()
        parts = self.groups[round_index] if self.seal == "validated-groups" else (members,)
        found = set()
        for part in parts:
            shares = len(c & part)
            whole = shares >= len(part) - 1 and self.seal != "ghz"
            enough = self.seal in SHARED | {"validated-groups"} and shares >= self.threshold(len(part))
            found |= {frozenset({i}) for i in part} if enough or whole else {part}
        return found

    def models(self, threat: ThreatModel) -> set[int]:
        """The models that it reads, by the number of steps that they have behind them."""
        read = {ROUNDS} if threat.public else set()
        sealed = self.seal in KEYED | {"he-masked"} and not self.released
        for round_index, members in enumerate(self.members):
            told = bool(set(threat.clients) & members)
            overheard = self.hears(threat) and (round_index == 0 or not sealed)
            if told or overheard:
                read.add(round_index)
        return read

    def observer(self, threat: ThreatModel) -> Observer:
        """What it reads, round by round."""
        c, read = frozenset(threat.clients), self.models(threat)
        sums: list[tuple[int, frozenset[int]]] = []
        sizes: list[int] = []
        for index, members in enumerate(self.members):
            of_messages = {part - c for part in self.opened(threat, index)}
            single = {i for part in of_messages if len(part) == 1 for i in part}
            by_models = {members - c} if {index, index + 1} <= read else set()
            together = frozenset().union(*of_messages)
            if self.linear:
                # a step that is made of sums which are read anyway says nothing more
                of_messages |= {part for part in by_models if part != together}
            elif any(part - single for part in by_models):
                sizes += [len(part - single) for part in by_models]
            sums += [(index, part) for part in of_messages if part]
        sizes += [len(part) for _, part in sums]
        paths = 0 in read and ROUNDS in read and not any(k in read for k in range(1, ROUNDS))
        behind = frozenset().union(*self.members) - c
        reads_path = paths and bool(behind - {i for _, part in sums if len(part) == 1 for i in part})
        sizes += [len(behind)] * reads_path
        listed = tuple(sorted(tuple(sorted(part)) for _, part in sums))
        told = self.seal != "" or not self.layers & {"dp-fedavg"}
        return Observer(
            threat=threat,
            smallest_k=min(sizes, default=0),
            reads_model=bool(threat.public),
            reads_clients=bool(sums),
            read=frozenset(i for _, part in sums if len(part) == 1 for i in part),
            over_run=run_anonymity([frozenset(part) for part in listed]) if listed else None,
            reads_paths=reads_path,
            reads_unnamed=False,
            knows_rosters=self.drawn == "all"
            or threat.server
            or threat.wire
            or "honest-updates" in threat.knows
            or (threat.quantum_server and bool(self.layers & DELEGATED))
            or (bool(c) and told),
            reads_made="honest-updates" in threat.knows and len(c) < N,
        )

    def training(self, pipeline: Pipeline) -> Training:
        """What was trained, with whose weights."""
        alike = bool(self.layers & COUNTED_ALIKE)
        return Training(
            counts=self.counts,
            rounds=ROUNDS,
            n_params=pipeline.model.n_params,
            participation={"all": 1.0, "fixed": 4 / N, "poisson": 0.5}[self.drawn],
            client_sampling=self.drawn,  # type: ignore[arg-type]
            weights=tuple(1.0 if alike else float(n) for n in self.counts),
            additive=not self.layers & (SHAPES | RULES) and (not self.seal or self.seal in EXACT_SUMS),
            grid=2.0 ** -FRACTIONAL_BITS[self.seal] if self.seal in FRACTIONAL_BITS else 0.0,
            learning_rate=0.1,
            members=self.members,
        )


def pipeline_of(layers: list[dict[str, Any]], **federation: Any) -> Pipeline:
    circuits = bool({layer["name"] for layer in layers} & CIRCUITS)
    return Pipeline(
        data=DataSpec(name="breast-cancer", n_features=2, members=30, nonmembers=4, auxiliary=12, test=0),
        partition=PartitionSpec(kind="dirichlet", alpha=1.0, min_records=2),
        model=build_model({"name": "vqc", "n_qubits": 2, "layers": 1, "n_features": 2}),
        federation=FederationConfig(n_clients=N, rounds=ROUNDS, learning_rate=0.1, **federation),
        execution=Execution(shots=4, gradient="parameter-shift") if circuits else EXACT,
    )


def made(layers: list[dict[str, Any]], **federation: Any) -> RunResult | str:
    """A run, or why there is none."""
    pipeline = pipeline_of(layers, **federation)
    try:
        stack = Stack.from_layers("s", [layer_from_config(layer) for layer in layers])
        stack.check(pipeline)
    except IncompatibleStack as error:
        return str(error)
    (result,) = run_batch(pipeline, stack, [RunSpec(seed=SEED)], grant_honest_updates=True)
    assert result.outcome == "completed", result.outcome + result.traceback
    return result


def oracle_of(result: RunResult, layers: list[dict[str, Any]]) -> Oracle:
    everybody, drawn = frozenset(range(N)), result.training.who
    members = [everybody] * ROUNDS
    chance = [stream(SEED, "participation", r) for r in range(ROUNDS)]
    if drawn == "poisson":
        coins = [torch.rand(N, generator=one) < 0.5 for one in chance]
        members = [frozenset(torch.nonzero(row).flatten().tolist()) for row in coins]
    if drawn == "fixed":
        members = [frozenset(torch.randperm(N, generator=one)[:4].tolist()) for one in chance]
    groups = []
    for r in range(ROUNDS):
        # which groups the clients' coins drew is chance: the run says it
        read = result.view(honest_but_curious_server()).readable("aggregate", round_index=r)
        groups.append(tuple(item.named for item in read if len(item.named) == N // 2))
    return Oracle(
        layers=frozenset(layer["name"] for layer in layers),
        members=tuple(members),
        counts=tuple(map(len, result.clients)),
        groups=tuple(groups),
        drawn=drawn,
        released=any(layer.get("mode") == "released" for layer in layers),
    )


def claims(rows: tuple[LedgerRow, ...]) -> list[LedgerRow]:
    return [row for row in rows if row.guarantee != "seen"]


def compare(result: RunResult, layers: list[dict[str, Any]], threats: Mapping[str, ThreatModel]) -> None:
    oracle = oracle_of(result, layers)
    for words, threat in threats.items():
        where = f"{'+'.join(layer['name'] for layer in layers) or 'none'} against {words}"
        context = result.context(result.view(threat))
        # who stands behind the records is a matter of the data, which has tests of its own
        training = replace(oracle.training(result.pipeline), people=context.training.people)
        right = replace(context, observer=oracle.observer(threat), training=training)
        assert context.training == right.training, where
        assert context.observer == right.observer, where
        rows = [*(row for layer in result.stack.layers for row in layer.ledger(right)), *run_rows(right)]
        if oracle.layers & {"delegated"} and (threat.quantum_server or threat.wire):
            rows = [row for row in rows if row.guarantee in {"integrity", "not covered"}]
        assert claims(result.ledger(threat)) == claims(ledger(right, rows)), where


STACKS = {repr(layers): layers for layers in stacks()}


@pytest.mark.parametrize(
    "layers", STACKS.values(), ids=lambda layers: "+".join(x["name"] for x in layers) or "none"
)
def test_the_rows_of_a_run_are_those_of_the_oracle(layers: list[dict[str, Any]]) -> None:
    """All clients in all rounds."""
    result = made(layers)
    if isinstance(result, str):
        assert {layer["name"] for layer in layers} & RULES, f"only rules cannot work on sums: {result}"
        return
    compare(result, layers, THREATS)


@pytest.mark.parametrize(
    "layers",
    [
        [],
        [config("dp-sgd", noise_multiplier=2.0, delta=1e-3)],
        [config("dp-fedavg", delta=1e-2)],
        [config("dp-fedavg", delta=1e-2), config("aes-gcm-link")],
        [config("dp-sgd", noise_multiplier=2.0, delta=1e-3), config("dp-fedavg", delta=1e-2)],
        [config("local-dp", delta=1e-2)],
        [config("median")],
        [config("delegated"), config("dp-fedavg", delta=1e-2)],
    ],
    ids=lambda layers: "+".join(x["name"] for x in layers) or "none",
)
def test_the_rows_of_a_run_whose_clients_are_drawn_are_those_of_the_oracle(
    layers: list[dict[str, Any]],
) -> None:
    """Credit for sampling, and sums over those who were there; coalitions with clients read models of their rounds only,
    and have the property tests of rosters."""
    result = made(layers, participation=0.5, client_sampling="poisson")
    assert isinstance(result, RunResult), result
    oracle = oracle_of(result, layers)
    assert len({len(members) for members in oracle.members}) > 1, "draws of different sizes"
    compare(result, layers, {words: threat for words, threat in THREATS.items() if not threat.clients})


@pytest.mark.parametrize(
    "layers",
    [
        [],
        [config("dp-sgd", noise_multiplier=2.0, delta=1e-3)],
        [config("dp-fedavg", delta=1e-2)],
        [config("dp-sgd", noise_multiplier=2.0, delta=1e-3), config("masked")],
        [config("dp-sgd", noise_multiplier=2.0, delta=1e-3), config("secagg"), config("aes-gcm-link")],
        [config("ddp", delta=1e-2)],
        [config("he-bfv")],
    ],
    ids=lambda layers: "+".join(x["name"] for x in layers) or "none",
)
def test_the_rows_of_a_run_with_four_of_six_clients_are_those_of_the_oracle(
    layers: list[dict[str, Any]],
) -> None:
    """No credit for a draw of a fixed size; sums over four, of other clients in each round."""
    result = made(layers, participation=4 / N)
    assert isinstance(result, RunResult), result
    assert len(set(oracle_of(result, layers).members)) > 1
    compare(result, layers, {words: threat for words, threat in THREATS.items() if not threat.clients})


def test_every_registered_layer_and_threat_model_is_in_the_comparison() -> None:
    """A new layer or threat model has to be told to the oracle."""
    assert set(names("layer")) == KNOWN
    kinds = {
        "coalition", "corrupted-clients", "drawn-clients", "honest-but-curious-quantum-server", "honest-but-curious-server",
        "malicious-quantum-server", "malicious-server", "nobody", "public-final-model", "wire-eavesdropper",
    }  # fmt: skip
    # a star has no edge servers, and a peer in it is a client as any other
    assert set(names("threat")) == {*kinds, "honest-but-curious-edge", "malicious-edge", "peer"}
    for threat in (honest_but_curious_edge(), malicious_edge()):
        with pytest.raises(IncompatibleStack, match="lacks"):
            threat.check(pipeline_of([]).parties)

"""``qflsec blind``: one circuit on a server that sees nothing, and the matrix of the server's attacks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from qflsec.base.errors import ConfigError
from qflsec.cli.options import (
    Address,
    AsJson,
    Backend,
    Jobs,
    Report,
    SeedOffset,
    Seeds,
    StoreFile,
    command_line,
    refuse_options,
)
from qflsec.cli.render import print_json
from qflsec.cli.run_matrix import run_matrix_command

if TYPE_CHECKING:
    from qflsec.circuits import Circuit
    from qflsec.lab.worlds.delegation import Device
    from qflsec.protocols.blind import RoundCounts

__all__ = ["app"]

app = typer.Typer(help="Circuits on a quantum server that sees nothing; 'qflsec blind matrix' attacks them.")


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    qubits: Annotated[int, typer.Option(min=1, max=6, help="Qubits of the circuit.")] = 2,
    layers: Annotated[int, typer.Option(min=1, max=8, help="Layers of RY and a chain of CZ.")] = 2,
    attack: Annotated[
        str | None, typer.Option(help="What the server does, as in flip:0.2 (kind:fraction of rounds).")
    ] = None,
    shots: Annotated[int, typer.Option(min=1, help="Computation rounds.")] = 1000,
    tests: Annotated[int | None, typer.Option(min=0, help="Test rounds; 1000, or planned for --target.")] = None,
    threshold: Annotated[
        int | None, typer.Option(min=0, help="Failed tests that are accepted; 0, or planned for --target.")
    ] = None,
    target: Annotated[
        float | None, typer.Option(help="Plan tests and threshold for this soundness error, as in 1e-3.")
    ] = None,
    noise: Annotated[float, typer.Option(help="Rate at which an honest server's tests fail, for --target.")] = 0.0,
    corrupted_fraction: Annotated[
        float, typer.Option(help="Fraction of the shots that may be corrupted, for the soundness.")
    ] = 0.1,
    embedding: Annotated[
        str, typer.Option(help="ansatz shows the circuit's graph; brickwork only its size.")
    ] = "ansatz",
    executor: Annotated[
        str, typer.Option(help="shots is the protocol; exact a simulator's shortcut, which proves nothing.")
    ] = "shots",
    bits: Annotated[int, typer.Option(help="The grid has 2^bits angles.")] = 32,
    depolarising: Annotated[
        float, typer.Option(help="Probability with which a sent qubit is replaced by a random one.")
    ] = 0.0,
    mean_photons: Annotated[
        float | None, typer.Option(help="Of a laser in the client's hands; single photons by default.")
    ] = None,
    transmittance: Annotated[float, typer.Option(help="Of the line that a laser's client expects.")] = 1.0,
    pads: Annotated[
        str, typer.Option(help="all, or a control: none, no-angle-pads, no-outcome-pads, fixed-dummies.")
    ] = "all",
    seed: Annotated[int, typer.Option(help="Of nature, inputs and the server; secrets are fresh.")] = 0,
    seeded_secrets: Annotated[
        bool, typer.Option("--seeded-secrets", help="Take the pads from the seed too: they protect nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Delegate one circuit blindly and print what came of it; an abort is a result, with its reason."""
    if context.invoked_subcommand is not None:
        refuse_options(context)
        return
    from qflsec.lab.worlds.delegation import session_circuit, session_inputs

    _choice("--executor", executor, ("shots", "exact"))
    device = _device(embedding, bits, depolarising, mean_photons, transmittance, pads)
    circuit = session_circuit(qubits, layers)
    weights, features = session_inputs(circuit, seed)
    document: dict[str, Any] = {
        "schema": "qflsec-blind/1",
        "command": command_line(),
        "circuit_qubits": qubits,
        "circuit_layers": layers,
        "circuit_weights_rad": weights.tolist(),
        "circuit_features_rad": features.tolist(),
    }
    if executor == "exact":
        document |= _exact(circuit, document, device, attack, seed)
    else:
        counts = _counts(circuit, device, shots, tests, threshold, target, noise, corrupted_fraction)
        document |= _shots(
            circuit, document, device, attack, counts, seed, corrupted_fraction, seeded=seeded_secrets
        )
    if as_json:
        print_json(document)
        return
    from qflsec.cli.blind_text import session_lines

    for line in session_lines(document):
        typer.echo(line)


@app.command("matrix")
def matrix(
    spec: Annotated[
        str, typer.Argument(help="A matrix of sessions: blind-sessions, or a TOML file like it.")
    ] = "blind-sessions",
    store: StoreFile = None,
    report: Report = None,
    jobs: Jobs = None,
    backend: Backend = "local",
    address: Address = None,
    seeds: Seeds = None,
    seed: SeedOffset = 0,
    as_json: AsJson = False,
) -> None:
    """Cross the server's attacks with clients: what does it learn, and is a wrong result accepted?"""
    run_matrix_command(
        spec,
        kind="delegation",
        store=store,
        report=report,
        jobs=jobs,
        backend=backend,
        address=address,
        seeds=seeds,
        seed=seed,
        as_json=as_json,
    )


def _choice(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"unknown value of {option}", got=repr(value), expected=" or ".join(known))


def _device(
    embedding: str,
    bits: int,
    depolarising: float,
    mean_photons: float | None,
    transmittance: float,
    pads: str,
) -> Device:
    from qflsec.lab.worlds.delegation import PADS, Device, PadSet
    from qflsec.protocols.blind import AngleGrid, BlindConfig, PulsedSource
    from qflsec.protocols.blind.compiler import Embedding

    _choice("--embedding", embedding, get_args(Embedding))
    _choice("--pads", pads, PADS)
    source = None
    if mean_photons is not None:
        source = PulsedSource(mean_photons=mean_photons, transmittance=transmittance)
    config = BlindConfig(grid=AngleGrid(bits=bits), embedding=cast("Embedding", embedding))
    return Device(config=config, pads=cast("PadSet", pads), source=source, depolarising=depolarising)


def _counts(
    circuit: Circuit,
    device: Device,
    shots: int,
    tests: int | None,
    threshold: int | None,
    target: float | None,
    noise: float,
    corrupted_fraction: float,
) -> RoundCounts:
    """The rounds that were asked for, or that the planner finds."""
    from qflsec.protocols.blind import RoundCounts, compile_patterns, plan_tests

    if not 0 < corrupted_fraction <= 0.5:
        raise ConfigError("bad --corrupted-fraction", got=corrupted_fraction, expected="above 0, at most 0.5")
    (delegation,) = compile_patterns(circuit, embedding=device.config.embedding)
    colours = max(delegation.pattern.graph.n_colours, 1)
    if target is None:
        asked = 1000 if tests is None else tests
        return RoundCounts(shots=shots, tests=asked, threshold=threshold or 0, colours=colours)
    if tests is not None or threshold is not None:
        raise ConfigError(
            "--target plans tests and threshold", fix="leave out --tests and --threshold, or --target"
        )
    return plan_tests(
        shots=shots,
        colours=colours,
        corrupted_fraction=corrupted_fraction,
        target=target,
        failure_rate=noise,
    )


def _shots(
    circuit: Circuit,
    document: dict[str, Any],
    device: Device,
    attack: str | None,
    counts: RoundCounts,
    seed: int,
    corrupted_fraction: float,
    *,
    seeded: bool,
) -> dict[str, Any]:
    import numpy as np

    from qflsec.lab.worlds.delegation import SessionReport, run_session, server_attack_from_text

    opponent = None if attack is None else server_attack_from_text(attack)
    start = time.process_time()
    outcome = run_session(
        opponent,
        device,
        circuit=circuit,
        weights=np.array(document["circuit_weights_rad"]),
        features=np.array(document["circuit_features_rad"]),
        counts=counts,
        seed=seed,
        seeded=seeded,
    )
    report = SessionReport(
        outcome=outcome,
        device=device,
        attack=opponent,
        corrupted_fraction=corrupted_fraction,
        seed=seed,
        cpu_seconds=time.process_time() - start,
    )
    return report.to_dict()


def _exact(
    circuit: Circuit, document: dict[str, Any], device: Device, attack: str | None, seed: int
) -> dict[str, Any]:
    """The simulator's shortcut, which knows no attack, no test and no noise."""
    import torch

    from qflsec.circuits import expectations
    from qflsec.protocols.blind import Exact, blind_expectations, compile_patterns

    if attack is not None or device.depolarising or device.source is not None or device.pads != "all":
        raise ConfigError(
            "the exact executor is a simulator's shortcut for an honest server and a perfect client",
            fix="use --executor shots, or leave out --attack, --depolarising, --mean-photons and --pads",
        )
    weights, features = document["circuit_weights_rad"], document["circuit_features_rad"]
    start = time.process_time()
    value = blind_expectations(circuit, weights, features, executor=Exact(seed=seed), config=device.config)
    seconds = time.process_time() - start
    exact = expectations(circuit, torch.tensor(weights), torch.tensor(features), dtype=torch.complex128)
    (delegation,) = compile_patterns(circuit, embedding=device.config.embedding)
    graph = delegation.pattern.graph
    return {
        "executor": "exact",
        "embedding": device.config.embedding,
        "angle_grid_bits": device.config.grid.bits,
        "seed": seed,
        "simulated": True,
        "server_sees": {"nodes": graph.n_nodes, "edges": len(graph.edges)},
        "cost": {"rounds": 1, "qubits_sent": graph.n_nodes, "cpu_seconds": seconds},
        "tests": None,
        "accepted": True,
        "abort_reason": None,
        "result": {"estimate": value.tolist(), "exact": exact.tolist()},
        "soundness": None,
        "judgement": {"error": float(abs(value - exact.numpy()).max())},
        "ledger": [],
    }

"""``qflsec epsilon``: what a noise is worth, for one copy of a state and for a whole training run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from qflsec.base.errors import ConfigError
from qflsec.cli.epsilon_audit import audit
from qflsec.cli.options import AsJson, command_line, refuse_options
from qflsec.cli.render import print_json

if TYPE_CHECKING:
    from qflsec.protocols.qdp import Ceiling, NamedNoise, RunAccount
    from qflsec.protocols.qdp.copies import Gradient
    from qflsec.protocols.qdp.results import Adjacency

__all__ = ["app"]

app = typer.Typer(help="What a quantum noise is worth; 'qflsec epsilon audit' bounds epsilon from below.")
app.command("audit")(audit)


@app.callback(invoke_without_command=True)
def epsilon(
    context: typer.Context,
    noise: Annotated[
        str | None,
        typer.Option(help="As in global-depolarizing:p=0.1; depolarizing:0.1 is local-depolarizing:p=0.1."),
    ] = None,
    qubits: Annotated[int, typer.Option(help="Qubits that the noise acts on.")] = 1,
    tau: Annotated[float, typer.Option(help="Trace distance of adjacent states; 1 covers any two records.")] = 1.0,
    adjacency: Annotated[str, typer.Option(help="all: mixed states too; pure: as an encoder makes them.")] = "all",
    measurement: Annotated[str, typer.Option(help="any, bits (all qubits read) or bit0 (one qubit read).")] = "any",
    shots: Annotated[
        int | None, typer.Option(help="Shots of every circuit; left out: an analytic expectation value.")
    ] = None,
    parameters: Annotated[int, typer.Option(help="Parameters of the circuit.")] = 1,
    gradient: Annotated[str, typer.Option(help="parameter-shift (2P + 1), shifts-only (2P), spsa or none.")] = "none",
    groups: Annotated[int, typer.Option(help="Groups of observables with shots of their own.")] = 1,
    uses_per_round: Annotated[int, typer.Option(help="Local steps of a round that use the record.")] = 1,
    rounds: Annotated[int, typer.Option(help="Rounds.")] = 1,
    delta: Annotated[float, typer.Option(help="Delta of the run.")] = 1e-5,
    seed: Annotated[int, typer.Option(help="Of the search, where there is no closed form.")] = 0,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Print epsilon of one copy and of the run, with two states that attain it and what the figures rest on."""
    if context.invoked_subcommand is not None:
        refuse_options(context)
        return
    if noise is None:
        raise ConfigError("--noise is missing", expected="a noise, as in depolarizing:0.1")
    from qflsec.protocols.qdp import (
        Copies,
        account_run,
        measurement_by_name,
        noise_by_name,
        run_ceiling,
        single_copy,
    )

    if adjacency not in ("all", "pure"):
        raise ConfigError("unknown adjacency", got=repr(adjacency), expected="all or pure")
    named = noise_by_name(noise, qubits)
    copies = Copies.of_rule(
        cast("Gradient", gradient),
        parameters=parameters,
        shots=shots,
        groups=groups,
        uses_per_round=uses_per_round,
        rounds=rounds,
    )
    single = single_copy(
        named.channel,
        tau,
        adjacency=cast("Adjacency", adjacency),
        measurement=measurement_by_name(measurement, qubits),
        known_kappa=named.known_kappa,
        known_variation=None if named.known_contraction is None else named.known_contraction * tau,
        seed=seed,
    )
    account = account_run(single, copies, delta=delta)
    ceiling = run_ceiling(account)
    if as_json:
        print_json(_document(named, account, ceiling, measurement))
        return
    for line in _lines(named, account, ceiling, measurement):
        typer.echo(line)


def _notes(account: RunAccount) -> list[str]:
    single, notes = account.single, []
    if single.pure.status == "lower bound":
        notes.append(
            "the search found a pair, and nothing proves that it is the worst: the upper bound guarantees"
        )
    if account.lattice_epsilon is not None and single.pure.measurement == "any" and account.refusal is None:
        notes.append(
            "figures with a delta cover copies measured one by one, each as one likes; against an observer who keeps all "
            "copies and measures them together only the pure figure holds"
        )
    if single.pure.tau < 1:
        notes.append(
            f"tau {single.pure.tau:g} covers changes of that size; two whole records can be at distance 1 "
            "(record_distance tells how far an encoder takes them)"
        )
    notes.append(
        "parameters may move between shots and rounds: the noise comes last and its floor holds always"
    )
    return notes


def _number(value: float | None) -> float | str | None:
    return "infinity" if value is not None and math.isinf(value) else value


def _matrix(state: Any) -> list[list[list[float]]]:  # noqa: ANN401 - an array
    return [[[round(float(z.real), 12), round(float(z.imag), 12)] for z in row] for row in state]


def _document(named: NamedNoise, account: RunAccount, ceiling: Ceiling, measurement: str) -> dict[str, Any]:
    pure, copies = account.single.pure, account.copies
    return {
        "schema": "qflsec-epsilon/1",
        "command": command_line(),
        "noise": {
            "kind": named.kind,
            "parameters": named.parameters,
            "place": named.place,
            "convention": named.convention,
            "qubits": named.n_qubits,
        },
        "adjacency": pure.adjacency,
        "tau": pure.tau,
        "measurement": measurement,
        "single_copy": {
            "epsilon_nats": _number(pure.epsilon),
            "epsilon_upper_nats": _number(pure.upper),
            "kappa": _number(pure.kappa),
            "status": pure.status,
            "reason": pure.reason,
            "variation_upper": account.single.variation,
            "variation_reason": account.single.variation_reason,
        },
        "witness": {
            "rho": _matrix(pure.witness.rho),
            "sigma": _matrix(pure.witness.sigma),
            "effect": _matrix(pure.witness.effect),
            "probabilities": list(account.single.witness_chances),
            "trace_distance": pure.witness.distance,
            "epsilon_check_nats": _number(pure.check()),
        },
        "copies": {
            "shots": copies.shots,
            "circuits": copies.circuits,
            "uses_per_round": copies.uses_per_round,
            "rounds": copies.rounds,
            "total": copies.total,
        },
        "run": {
            "delta": account.delta,
            "epsilon_nats": _number(account.epsilon),
            "kind": account.kind,
            "method": account.method,
            "epsilon_pure_nats": _number(account.pure_epsilon),
            "epsilon_dominating_pair_nats": _number(account.lattice_epsilon),
            "epsilon_renyi_nats": _number(account.renyi_epsilon),
            "epsilon_attained_nats": _number(account.attained_epsilon),
            "refusal": account.refusal,
        },
        "membership_ceiling": {
            "advantage": ceiling.advantage,
            "vacuous": ceiling.vacuous,
            "covers": ceiling.covers,
        },
        "notes": _notes(account),
    }


def _lines(named: NamedNoise, account: RunAccount, ceiling: Ceiling, measurement: str) -> Iterator[str]:
    pure, copies = account.single.pure, account.copies
    first, second = account.single.witness_chances
    yield f"noise        {named}"
    yield f"  place      {named.place}"
    yield f"  convention {named.convention}"
    yield f"adjacency    {pure.adjacency} states within trace distance tau = {pure.tau:g}"
    yield f"measurement  {measurement}"
    yield ""
    yield "one copy"
    yield f"  epsilon    {_text(pure.epsilon)} nats ({pure.status}; kappa {_text(pure.kappa)}; {pure.reason})"
    if pure.upper != pure.epsilon:
        yield f"  guaranteed {_text(pure.upper)} nats"
    yield f"  variation  at most {account.single.variation:.6g} ({account.single.variation_reason})"
    yield f"  witness    an outcome of probability {first:.6g} against {second:.6g}: ln ratio {_text(pure.check())}"
    yield f"    rho      {_state(pure.witness.rho)}"
    yield f"    sigma    {_state(pure.witness.sigma)}"
    yield f"    effect   {_state(pure.witness.effect)}"
    yield ""
    yield "whole run, for one protected record"
    shots = "infinitely many" if copies.shots is None else f"{copies.shots:,}"
    total = "infinitely many" if copies.total is None else f"{copies.total:,}"
    yield (
        f"  copies     {total} = {shots} shots x {copies.circuits} circuits x {copies.uses_per_round} uses per round "
        f"x {copies.rounds} rounds"
    )
    if account.refusal is not None:
        yield f"  epsilon    infinity: {account.refusal}"
    else:
        yield (
            f"  epsilon    {_text(account.epsilon)} nats at delta {account.delta:g} ({account.kind}; {account.method})"
        )
        yield f"    pure composition   {_text(account.pure_epsilon)} at delta 0"
        if account.lattice_epsilon is not None:
            yield f"    dominating pair    {_text(account.lattice_epsilon)}"
        yield f"    Rényi composition  {_text(account.renyi_epsilon)}"
        yield f"    attained           {_text(account.attained_epsilon)} (lower bound: shots of one circuit, exact binomial)"
    yield f"  membership {ceiling}"
    yield ""
    for note in _notes(account):
        yield f"note: {note}"


def _text(value: float) -> str:
    if math.isinf(value):
        return "infinity"
    return f"{value:,.1f}" if value >= 1000 else f"{value:.6f}"


def _state(state: Any) -> str:  # noqa: ANN401 - an array
    """The weights and vectors of a state or effect."""
    import numpy as np

    values, vectors = np.linalg.eigh(state)
    if values[-1] - values[0] < 1e-12:
        return f"{values[0]:.6g} times the identity"
    parts = [i for i in range(len(values))[::-1] if values[i] > 1e-9]
    return " + ".join(f"{values[i]:.6g} |{_vector(vectors[:, i])}>" for i in parts)


def _vector(vector: Any) -> str:  # noqa: ANN401 - an array
    import numpy as np

    n = len(vector).bit_length() - 1
    turned = vector * np.exp(-1j * np.angle(vector[np.argmax(np.abs(vector))]))
    if np.abs(turned).max() > 1 - 1e-9:
        return f"{int(np.argmax(np.abs(turned))):0{n}b}"
    return "(" + ", ".join(f"{z.real:.4g}{z.imag:+.4g}i" for z in turned) + ")"

"""``qflsec leak``: what the gradients of a pipeline's model determine about records, before any attack is run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qflsec.cli.options import AsJson, Spec, command_line
from qflsec.cli.render import print_json
from qflsec.cli.specified import federated_matrix, named

if TYPE_CHECKING:
    from qflsec.attacks.inversion.leak import Certificate, CircuitLeak, Unknowns

__all__ = ["leak"]


def leak(
    spec: Spec,
    pipeline: Annotated[
        list[str] | None, typer.Option(help="A pipeline of the specification; all of them by default.")
    ] = None,
    records: Annotated[
        int | None, typer.Option(min=1, help="Records in one gradient; those of a client by default.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=200, help="The most rounds that are tried.")] = 24,
    seed: Annotated[int, typer.Option(help="Of the models and records that ranks are taken at.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Print the gradient-leak certificate: algebra, ranks, rounds to a full breach, condition numbers."""
    from qflsec.attacks.inversion.leak import certify

    found = {}
    for name, chosen in named(federated_matrix(spec).pipelines, pipeline, "pipeline").items():
        low, high = chosen.data.feature_range
        found[name] = certify(
            chosen.model,
            records=records or math.ceil(chosen.data.members / chosen.federation.n_clients),
            seed=seed,
            feature_range=(low, high),
            max_rounds=rounds,
        )
    if as_json:
        print_json(
            {
                "schema": "qflsec-leak/1",
                "command": command_line(),
                "pipelines": {name: _document(certificate) for name, certificate in found.items()},
            }
        )
        return
    for name, certificate in found.items():
        typer.echo(f"{name}")
        for line in _lines(certificate):
            typer.echo(f"  {line}")
        typer.echo("")
    typer.echo("note: " + NOTE)


NOTE = (
    "ranks say what can be had from exact gradients, and condition numbers how noise grows; that a search finds it is not "
    "said, and what is not determined is not private for that"
)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _document(certificate: Certificate) -> dict[str, Any]:
    tangent, circuit = certificate.tangent, certificate.circuit
    return {
        "model": certificate.model,
        "n_params": certificate.n_params,
        "n_features": certificate.n_features,
        "records": certificate.records,
        "tangent": {
            **asdict(tangent),
            "condition": _finite(tangent.condition),
            "error": _finite(tangent.error),
        },
        "circuit": None
        if circuit is None
        else {
            **asdict(circuit),
            "unknowns": [{**asdict(one), "condition": _finite(one.condition)} for one in circuit.unknowns],
        },
        "refusal": certificate.refusal or None,
        "first_layer": certificate.first_layer,
        "warnings": list(certificate.warnings()),
    }


def _lines(certificate: Certificate) -> Iterator[str]:
    tangent = certificate.tangent
    yield (
        f"model        {certificate.model}, {certificate.n_params} parameters, {certificate.n_features} features, "
        f"{certificate.records} record{'s' * (certificate.records > 1)} in a gradient"
    )
    error = f"; 1 % of noise moves a feature by {tangent.error:.2g}" if math.isfinite(tangent.error) else ""
    yield (
        f"one round    rank {tangent.rank} of {tangent.unknowns} features, condition number "
        f"{tangent.condition:.3g}{error}"
    )
    if certificate.circuit is None:
        yield f"snapshot     none: {certificate.refusal}"
    else:
        yield from _circuit_lines(certificate.circuit)
    for warning in certificate.warnings():
        yield f"warning      {warning}"


def _circuit_lines(circuit: CircuitLeak) -> Iterator[str]:
    yield f"algebra      dimension {circuit.algebra} of at most {circuit.largest} on {circuit.n_qubits} qubits"
    yield f"round cap    {circuit.cap} independent derivatives of one measured value, whatever the number of parameters"
    yield f"one record   its update shows {circuit.reveals}"
    for one in circuit.unknowns:
        yield f"snapshot     {_told(one)}"


def _told(one: Unknowns) -> str:
    who = "encoder known  " if one.encoder_known else "encoder unknown"
    reached = "" if one.count == one.visible else f" (of {one.visible} that more layers would show)"
    start = f"{who} {one.count} unknowns{reached}, at least {one.at_least} round{'s' * (one.at_least > 1)}"
    if not one.ranks:
        return f"{start}; ranks not computed"
    if one.rounds_known is None:
        return f"{start}; rank {one.ranks[-1]} after {len(one.ranks)} rounds"
    alone = "not linear" if one.rounds_alone is None else str(one.rounds_alone)
    return (
        f"{start}; breached in {one.rounds_known} with known residuals (ranks {' '.join(map(str, one.ranks))}, condition "
        f"number {one.condition:.3g}), from gradients alone: {alone}"
    )

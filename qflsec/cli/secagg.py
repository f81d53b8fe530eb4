"""``qflsec secagg``: one round of an aggregation protocol on random vectors, and who sees what of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qflsec.base.errors import ConfigError
from qflsec.cli.options import AsJson, command_line
from qflsec.cli.render import print_json

if TYPE_CHECKING:
    from qflsec.federation import ClientLayer
    from qflsec.protocols.secagg.one_round import RoundReport
    from qflsec.protocols.secagg.who_sees_what import Sight

__all__ = ["secagg"]

_EXACT = 1e-12


def secagg(
    protocol: Annotated[
        str, typer.Option(help="plain, masked, secagg, ddp, validated, he-bfv, he-ckks, he-masked, he-threshold or ghz.")
    ] = "secagg",
    clients: Annotated[int, typer.Option(min=2, help="The number of clients.")] = 10,
    drop: Annotated[int, typer.Option(min=0, help="How many of them drop out; the last ones.")] = 0,
    parameters: Annotated[int, typer.Option(min=1, help="The length of a vector.")] = 1000,
    agreement: Annotated[
        str | None, typer.Option(help="x25519, ml-kem-768, hybrid, or bb84 (secagg only).")
    ] = None,
    signature: Annotated[str | None, typer.Option(help="ed25519 or ml-dsa-65.")] = None,
    bits: Annotated[int | None, typer.Option(help="Size of a masked word: 32 or 64.")] = None,
    threshold: Annotated[int | None, typer.Option(help="How many clients must remain.")] = None,
    drop_stage: Annotated[
        str, typer.Option(help="When they drop out: advertise, share, mask, agree or reveal.")
    ] = "mask",
    seed: Annotated[int, typer.Option(help="Of the vectors; keys and masks are fresh.")] = 0,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Run one round between real parties; an abort is a result, with its reason."""
    from qflsec.protocols.secagg.catalogue import protocol as find_protocol
    from qflsec.protocols.secagg.one_round import run_round
    from qflsec.protocols.secagg.who_sees_what import sights

    if drop >= clients:
        raise ConfigError("nobody is left", got=f"--drop {drop} of {clients} clients", expected="fewer")
    chosen = find_protocol(protocol)
    layer = chosen.layer(agreement=agreement, signature=signature, bits=bits, threshold=threshold)
    report = run_round(
        layer,
        n_clients=clients,
        n_params=parameters,
        drop=tuple(range(clients - drop, clients)),
        drop_at=chosen.message_at(drop_stage),
        seed=seed,
        namer=chosen.namer,
    )
    seen = sights(report, clients)
    if as_json:
        print_json(
            _document(
                layer, report, seen, parameters=parameters, clients=clients, seed=seed, stage=drop_stage
            )
        )
        return
    for line in _lines(layer, report, seen, parameters=parameters, clients=clients, stage=drop_stage):
        typer.echo(line)


def _document(
    layer: ClientLayer,
    report: RoundReport,
    seen: tuple[Sight, ...],
    *,
    parameters: int,
    clients: int,
    seed: int,
    stage: str,
) -> dict[str, Any]:
    card = layer.card
    return {
        "schema": "qflsec-secagg/1",
        "command": command_line(),
        "protocol": card.name,
        "layer": layer.to_config(),
        "clients": clients,
        "parameters": parameters,
        "seed": seed,
        "dropped": list(report.dropped),
        "drop_stage": stage if report.dropped else None,
        "threshold": report.threshold,
        "outcome": {
            "status": report.status,
            "reason": report.reason,
            "caused_by": report.caused_by,
            "survivors": list(report.survivors),
            "exact": _exact(report),
            "max_error": report.max_error,
            "encoding_error": report.encoding_error,
        },
        "sees": [{**asdict(sight), "sentence": sight.sentence} for sight in seen],
        "messages": [
            {
                "kind": sent.name,
                "direction": "up" if sent.up else "down",
                "messages": sent.messages,
                "total_bytes": sent.total_bytes,
                "largest_bytes": sent.largest_bytes,
            }
            for sent in report.sent
        ],
        "bytes": {
            "client_up_bytes": report.up_bytes,
            "client_down_bytes": report.down_bytes,
            "up_to_float32": report.up_bytes / (4 * (parameters + 1)),
            "setup_bytes": report.setup_bytes,
        },
        "cpu": {"client_ms": report.client_ms, "server_ms": report.server_ms},
        "costs": dict(report.costs),
        "claim": card.claim,
        "assumption": card.assumption,
        "does_not": list(card.does_not),
    }


def _exact(report: RoundReport) -> bool | None:
    return None if report.encoding_error is None else report.encoding_error < _EXACT


def _lines(
    layer: ClientLayer,
    report: RoundReport,
    seen: tuple[Sight, ...],
    *,
    parameters: int,
    clients: int,
    stage: str,
) -> Iterator[str]:
    dropped = f", {len(report.dropped)} drop out at the stage '{stage}'" if report.dropped else ""
    groups = getattr(layer, "groups", 1)
    among = f" in each of {groups} groups" if groups > 1 else ""
    threshold = f", threshold {' or '.join(map(str, report.thresholds))}{among}" if report.thresholds else ""
    yield f"{layer.card.name}: {clients} clients{dropped}, {parameters:,} parameters{threshold}"
    yield from _outcome(report)
    yield "who sees what:"
    yield from (f"  {sight.sentence}" for sight in seen)
    yield "messages of the round:"
    for sent in report.sent:
        way = "to the server" if sent.up else "to clients"
        yield (
            f"  {sent.name:<12}{way:<15}{sent.messages:>5} messages{sent.total_bytes:>14,} bytes, "
            f"the largest {sent.largest_bytes:,}"
        )
    ratio = report.up_bytes / (4 * (parameters + 1))
    yield (
        f"a client sends {report.up_bytes:,.0f} bytes ({ratio:.3f} times float32) and receives "
        f"{report.down_bytes:,.0f}; the set-up of the session took {report.setup_bytes:,} bytes of all together"
    )
    yield f"processor time: a client {report.client_ms:.2f} ms, the server {report.server_ms:.2f} ms"
    for name, value in report.costs.items():
        quantity, _, unit = name.rpartition("_")
        yield f"{quantity.replace('_', ' ')}: {value:,.0f} {unit}"
    yield f"claim ({layer.card.assumption}): {layer.card.claim}"
    yield from layer.card.does_not


def _outcome(report: RoundReport) -> Iterator[str]:
    if report.status == "aborted":
        yield f"ABORTED: {report.reason}. No sum was released."
        return
    kind = "the exact sum of what they encoded" if _exact(report) else "an approximate sum"
    yield (
        f"outcome: {kind} of {len(report.survivors)} clients; the mean differs from that of their vectors by at most "
        f"{report.max_error:.1e}"
    )

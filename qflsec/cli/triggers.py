"""``qflsec triggers``: whether a search for triggers finds the backdoors of a specification, at a stated rate of false alarms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qflsec.base.errors import ConfigError, IncompatibleStack
from qflsec.cli.options import AsJson, Spec, command_line
from qflsec.cli.render import print_json
from qflsec.cli.specified import federated_matrix, named

if TYPE_CHECKING:
    from torch import Tensor

    from qflsec.defenses.backdoor import TriggerAlarm
    from qflsec.federation import Stack
    from qflsec.lab.worlds.federation.matrix import AttackEntry, Matrix

__all__ = ["triggers"]


def triggers(
    spec: Spec,
    pipeline: Annotated[
        str | None, typer.Option(help="A pipeline of the specification; the first by default.")
    ] = None,
    stack: Annotated[str, typer.Option(help="A stack of the specification.")] = "none",
    runs: Annotated[int, typer.Option(min=1, help="Models of each kind that are searched.")] = 20,
    clean: Annotated[
        int, typer.Option(min=4, help="Clean models that calibrate the alarm, of other seeds.")
    ] = 80,
    rate: Annotated[float, typer.Option(help="Share of clean models on which it may be raised.")] = 0.05,
    records: Annotated[int, typer.Option(min=1, help="Clean records of the server, without labels.")] = 50,
    seed: Annotated[int, typer.Option(help="Of the first run; the others follow.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Search final models for backdoors' triggers: alarms on attacked models, and on clean ones."""
    from qflsec.defenses.backdoor import TriggerAlarm, clean_models, trigger_sizes

    matrix = federated_matrix(spec)
    named(matrix.stacks, [stack], "stack")
    if not matrix.pipelines:
        raise ConfigError("the specification has no pipeline", got=spec)
    name = pipeline or next(iter(matrix.pipelines))
    chosen = named(matrix.pipelines, [name], "pipeline")[name]
    layers, attacks = _stack(matrix, name, stack), _backdoors(matrix, name, stack, spec)
    if clean < clean_models(rate):
        raise ConfigError(
            "too few clean models for this rate of false alarms",
            got=f"--clean {clean}, --rate {rate:g}",
            expected=f"{clean_models(rate)} models or more",
        )
    models = clean + runs * (1 + len(attacks))
    typer.echo(f"note: {models} models are trained and searched, which takes its time", err=True)
    later = range(seed + runs, seed + runs + clean)
    alarm = TriggerAlarm.calibrated(trigger_sizes(chosen, layers, later, records=records), rate=rate)
    searched = range(seed, seed + runs)
    found = {"": trigger_sizes(chosen, layers, searched, records=records)}
    for entry in attacks:
        found[entry.label] = trigger_sizes(
            chosen,
            layers,
            searched,
            records=records,
            adversary=entry.run_spec(seed).adversary,
            threat=entry.threat,
        )
    targets = {entry.label: getattr(entry.attack, "target_class", None) for entry in attacks}
    rows = [_row(alarm, label, sizes, targets.get(label)) for label, sizes in found.items()]
    if as_json:
        document = {"pipeline": name, "stack": stack, "clean_models": clean, "rate": rate, "seed": seed}
        print_json({"schema": "qflsec-triggers/1", "command": command_line(), **document, "rows": rows})
        return
    for line in _lines(name, stack, clean, rate, rows):
        typer.echo(line)


def _stack(matrix: Matrix, pipeline: str, stack: str) -> Stack:
    made, why = matrix.column(pipeline, stack).stack, matrix.incompatible(pipeline, stack)
    if made is None or why:
        raise IncompatibleStack(why)
    return made


def _backdoors(matrix: Matrix, pipeline: str, stack: str, spec: str) -> list[AttackEntry]:
    from qflsec.attacks.base import BackdoorManipulation

    planted = [
        entry
        for entry in matrix.attacks
        if entry.pipeline == pipeline and isinstance(entry.attack, BackdoorManipulation)
    ]
    possible = [entry for entry in planted if not matrix.impossible(entry, stack)]
    if not possible:
        raise ConfigError(
            "no backdoor of the specification is planted in this pipeline under this stack",
            got=f"{spec}, {pipeline}, {stack}",
            fix="name another --pipeline or --stack, or add an attack such as 'feature-trigger'",
        )
    return possible


def _row(alarm: TriggerAlarm, label: str, sizes: Tensor, target: int | None) -> dict[str, Any]:
    from qflsec.accounting.statistics import clopper_pearson

    suspected = [alarm.suspected(row) for row in sizes]
    raised = clopper_pearson(sum(map(bool, suspected)), len(sizes))
    return {
        "attack": label or None,
        "target_class": target,
        "models": len(sizes),
        "alarms": sum(map(bool, suspected)),
        "alarms_low": raised.low,
        "alarms_high": raised.high,
        "target_suspected": None if target is None else sum(target in classes for classes in suspected),
        "suspected": [list(classes) for classes in suspected],
        "least_p_value": [float(alarm.p_values(row).min()) for row in sizes],
        "sizes": sizes.tolist(),
    }


def _lines(pipeline: str, stack: str, clean: int, rate: float, rows: list[dict[str, Any]]) -> Iterator[str]:
    yield (
        f"{pipeline}, {stack}: {clean} clean models calibrate the alarm, which is raised on at most {100 * rate:.4g}% of clean models"
    )
    for row in rows:
        share = f"{row['alarms']} of {row['models']} [{row['alarms_low']:.0%}, {row['alarms_high']:.0%}]"
        if row["attack"] is None:
            yield f"  clean models: alarms on {share}"
        else:
            yield (
                f"  {row['attack']}: alarms on {share}, class {row['target_class']} suspected in {row['target_suspected']}"
            )
    yield "note: the rate holds for models that are trained like those that calibrate; no alarm proves nothing"
    yield "note: it detects and does not mend; the searched model is the trained one, before layers on its answers"

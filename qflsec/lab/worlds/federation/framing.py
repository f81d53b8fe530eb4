"""The frame of a matrix that was made into objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qflsec.lab.worlds.federation.frame import Frame, FramedAttack, FramedRun, FramedTrial
from qflsec.lab.worlds.federation.matrix import AttackEntry, Matrix
from qflsec.lab.worlds.federation.plan import Layout
from qflsec.lab.worlds.federation.results import AttackInfo, StackInfo

__all__ = ["frame_of"]


def frame_of(matrix: Matrix, layout: Layout, head: Mapping[str, Any]) -> Frame:
    """What a result says of the matrix beside the rows.

    Args:
        matrix: The matrix.
        layout: Everything that it consists of.
        head: The head of every result.
    """
    attacked = [trial.run for trial in layout.trials.values() if trial.run.label]
    return Frame(
        head=head,
        attacks=tuple(_attack(entry) for entry in matrix.attacks),
        stacks=tuple(_stack(matrix, name) for name in matrix.stacks),
        observers={threat.name: str(threat) for threat in matrix.observers},
        pipelines={name: _pipeline(matrix, name) for name in matrix.pipelines},
        utility_pipeline=matrix.utility_pipeline,
        reference=_reference(matrix),
        trials=tuple(
            FramedTrial(
                label=label,
                stack=stack,
                seed=seed,
                unit_id=trial.unit_id,
                run_id=trial.run.unit_id,
                baseline_run_id=trial.baseline_run_id,
            )
            for (label, stack, seed), trial in layout.trials.items()
        ),
        runs=tuple(
            FramedRun(
                unit_id=run.unit_id,
                pipeline=run.pipeline,
                stack=run.stack,
                seed=run.seed,
                label=run.label,
            )
            for run in (*layout.honest.values(), *attacked)
        ),
        ledgers=tuple((*place, unit.unit_id) for place, unit in layout.ledgers.items()),
        outside=tuple(
            (entry.label, name, why)
            for entry in matrix.attacks
            for name in matrix.stacks
            if (why := matrix.outside(entry, name))
        ),
    )


def _pipeline(matrix: Matrix, name: str) -> dict[str, Any]:
    """The pipeline's configuration, and the layers that belong to it where there are some."""
    own = [layer.to_config() for layer in matrix.systems[name]]
    return {**matrix.pipelines[name].to_config(), **({"layers": own} if own else {})}


def _reference(matrix: Matrix) -> str | None:
    """The reference stack, or the one without layers; None where there is none."""
    if matrix.spec.reference is not None:
        return matrix.spec.reference
    return next((name for name, column in matrix.stacks.items() if not column.layers), None)


def _attack(entry: AttackEntry) -> FramedAttack:
    card = entry.attack.card
    info = AttackInfo(
        label=entry.label,
        name=card.name,
        family=card.family,
        goal=card.goal,
        idea=card.idea,
        source=f"{card.source.paper} ({card.source.year}), {card.source.where}",
        pipeline=entry.pipeline,
        threat=entry.threat.name,
        threat_sentence=str(entry.threat),
        params={key: value for key, value in entry.attack.to_config().items() if key != "name"},
        adaptive=entry.adaptive,
    )
    return FramedAttack(info=info, metric=card.metric, baseline=card.baseline, ideal=card.ideal)


def _stack(matrix: Matrix, name: str) -> StackInfo:
    column = matrix.stacks[name]
    return StackInfo(
        name=name,
        layers=tuple(layer.to_config() for layer in column.layers),
        claims=tuple(layer.card.claim for layer in column.layers),
        incompatible=column.incompatible,
    )

"""``qflsec certify``: which answers of a training stand, whatever corrupted clients send: CRFL's certificate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qflsec.base.errors import ConfigError, IncompatibleStack
from qflsec.cli.options import AsJson, Spec, command_line
from qflsec.cli.render import print_json
from qflsec.cli.specified import federated_matrix, named

if TYPE_CHECKING:
    from qflsec.defenses.backdoor import TrainingCertificate

__all__ = ["certify"]


def certify(
    spec: Spec,
    stack: Annotated[
        str, typer.Option(help="A stack of the specification, with norm-bound, mean and crfl.")
    ] = "crfl",
    pipeline: Annotated[
        str | None, typer.Option(help="A pipeline of the specification; the first by default.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Trainings that vote.")] = 200,
    attacked_rounds: Annotated[int, typer.Option(min=1, help="Rounds on end that are attacked.")] = 1,
    later_rounds: Annotated[int, typer.Option(min=0, help="Rounds that follow them.")] = 0,
    alpha: Annotated[float, typer.Option(help="Probability of a wrong certificate, for each record.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Of the data and of the trainings.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Train many models behind CRFL, and print how many answers stand with how many corrupted clients."""
    from qflsec.data import load
    from qflsec.defenses.backdoor import certified_training

    matrix = federated_matrix(spec)
    named(matrix.stacks, [stack], "stack")
    if not matrix.pipelines:
        raise ConfigError("the specification has no pipeline", got=spec)
    name = pipeline or next(iter(matrix.pipelines))
    chosen = named(matrix.pipelines, [name], "pipeline")[name]
    entry = matrix.column(name, stack)
    if entry.stack is None:
        raise IncompatibleStack(entry.incompatible)
    found = certified_training(
        chosen,
        entry.stack,
        load(chosen.data, seed),
        samples=samples,
        seed=seed,
        alpha=alpha,
        attacked_rounds=attacked_rounds,
        later_rounds=later_rounds,
    )
    if as_json:
        print_json(_document(name, stack, found))
        return
    for line in _lines(name, stack, found):
        typer.echo(line)


def _document(pipeline: str, stack: str, found: TrainingCertificate) -> dict[str, Any]:
    return {
        "schema": "qflsec-certify/1",
        "command": command_line(),
        "pipeline": pipeline,
        "stack": stack,
        "trainings": found.samples,
        "alpha_per_record": found.alpha,
        "clip_norm": found.clip_norm,
        "model_norm": found.max_norm,
        "noise_std": found.noise_std,
        "attacked_rounds": found.attacked_rounds,
        "later_rounds": found.later_rounds,
        "records": len(found.labels),
        "proved": found.proved,
        "clients_in_a_round": found.participants,
        "weight_of_a_client": found.weight,
        "stand_by_corrupted_clients": [found.stand(k) for k in range(found.participants + 1)],
        "shift_by_record": found.shifts.tolist(),
    }


def _lines(pipeline: str, stack: str, found: TrainingCertificate) -> Iterator[str]:
    yield (
        f"{pipeline}, {stack}: {found.samples} honest trainings; updates clipped to {found.clip_norm:g}, the model to "
        f"{found.max_norm:.4g}, noise of {found.noise_std:g} on every parameter in every round"
    )
    yield (
        f"{found.proved} of {len(found.labels)} records have a proved answer, each wrong with a probability of at most "
        f"{found.alpha:g}, and {found.stand(0)} a right one"
    )
    when = "one round" if found.attacked_rounds == 1 else f"{found.attacked_rounds} rounds on end"
    after = f", {found.later_rounds} rounds before the end" if found.later_rounds else ""
    yield f"whatever corrupted clients send in {when}{after}:"
    for corrupted in range(1, found.participants + 1):
        standing = found.stand(corrupted)
        yield f"  {corrupted:>3} of {found.participants} clients: {standing} right answers stand"
        if not standing:
            break
    yield "note: an answer is that of most trainings, each with noise of its own; a single trained model may give another"
    yield f"note: each client of a round weighs 1/{found.participants}, whatever it states, and all other rounds are honest"

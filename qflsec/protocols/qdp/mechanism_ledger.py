"""Ledger rows of noise on clients' circuits: an epsilon where only sampled outcomes are released, else the reason."""

from __future__ import annotations

import math
from collections.abc import Callable

from qflsec.accounting import LedgerContext, LedgerRow, RowWriter
from qflsec.circuits import NoiseModel
from qflsec.models import Execution
from qflsec.protocols.qdp.derived import run_ceiling
from qflsec.protocols.qdp.errors import QdpError
from qflsec.protocols.qdp.training import TrainingAccount

__all__ = ["mechanism_rows", "no_guarantee"]

_PLACES = {"measurement": "before measurement", "encoded": "on the encoded state"}


def no_guarantee(only_measures: bool, execution: Execution) -> str | None:
    """Why noise on circuits earns no epsilon with this execution; None where it may."""
    if not only_measures:
        return (
            "the model reads features outside its circuit, and its gradient contains them: noise on the circuit does "
            "not cover that"
        )
    if execution.shots is None:
        return (
            "values are analytic, which is the limit of infinitely many copies: epsilon is infinite whatever the "
            "noise; release finite shots"
        )
    if execution.gradient != "parameter-shift":
        return (
            "gradients by autograd are exact, which no device could give: epsilon is infinite whatever the shots; set "
            "gradient = 'parameter-shift'"
        )
    return None


def mechanism_rows(
    layer: str,
    noise: NoiseModel,
    context: LedgerContext,
    account: Callable[[LedgerContext, int | None], TrainingAccount],
) -> tuple[LedgerRow, ...]:
    """The rows of one layer's noise against one observer.

    Args:
        layer: The layer.
        noise: Its noise.
        context: The observer and the run.
        account: The account for a number of shots.
    """
    if not context.honest or not context.observer.reads_anything:
        return ()
    writer = RowWriter.of(layer, context)
    found = _account(noise, context, account)
    if isinstance(found, str):
        return (writer.not_covered(f"no epsilon: {found}"),)
    return (
        _row(layer, noise, context, found),
        writer.not_covered(
            "labels and the number of records are in what is released and in no epsilon of this layer; nor is a device "
            "whose noise is weaker, or depends on the record",
        ),
    )


def _account(
    noise: NoiseModel,
    context: LedgerContext,
    account: Callable[[LedgerContext, int | None], TrainingAccount],
) -> TrainingAccount | str:
    """The account of the client with the most shots; or why there is none."""
    use = context.circuit_use
    if use is None:
        return "the model has no circuit that honest clients execute"
    for execution in use.executions:
        if reason := no_guarantee(use.only_measures, execution):
            return reason
    if any(execution.noise != noise for execution in use.executions):
        return "clients do not execute with this noise"
    try:
        found = account(context, max(execution.shots_in_all or 1 for execution in use.executions))
    except QdpError as error:
        return str(error)
    return found if math.isfinite(found.run.epsilon) else str(found.run.refusal)


def _row(layer: str, noise: NoiseModel, context: LedgerContext, found: TrainingAccount) -> LedgerRow:
    run, copies = found.run, found.run.copies
    tau = found.distance.tau
    ceiling = run_ceiling(run)
    bound = "forbids nothing (vacuous)" if ceiling.vacuous else f"is at most {ceiling.advantage:.4g}"
    notes = [
        "simulated guarantee: outcomes are drawn from a seeded stream",
        f"the advantage of telling two such records apart {bound}; this is no bound on whether a record is there",
        f"one copy alone has epsilon {run.single.epsilon:.4g}: not the figure of a gradient",
        f"{run.method}, never added to what other layers give",
    ]
    use = context.circuit_use
    if use is not None and any(execution.mitigation for execution in use.executions):
        notes.append(
            "the values at every noise scale of an extrapolation are releases of their own, all reckoned at the weakest noise"
        )
    return LedgerRow(
        observer=context.observer.name,
        layer=layer,
        guarantee="differential privacy",
        statement=f"epsilon {run.epsilon:.4g} at delta {run.delta:g} over {copies.total:,} copies of each record of an "
        f"honest client, for a change of its features within trace distance {tau:.4g}",
        assumption="trusted device",
        trusted="the client itself: its device has this noise, and only sampled outcomes enter what it sends",
        released="functions of sampled outcomes and of labels: updates, losses and models of all rounds",
        bound="upper bound",
        epsilon=run.epsilon,
        delta=run.delta,
        unit="features of an example",
        adjacency=f"trace distance {tau:.4g}: the features of a record of the same label",
        mechanism=f"{noise.kind} p = {noise.p:.6g} {_PLACES[noise.where]}; measured: {found.measurement}; "
        f"{copies.shots:,} shots x {copies.circuits} circuits x {copies.uses_per_round} uses x {copies.rounds} rounds; "
        f"tau is {found.distance.kind} ({found.distance.reason})",
        sampling="no credit: a record is reckoned to be in every batch",
        steps=copies.total,
        accountant="copy-aware accountant of qflsec.protocols.qdp",
        note="; ".join(notes),
    )

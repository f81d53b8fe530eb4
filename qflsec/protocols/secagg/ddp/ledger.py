"""The ledger row of distributed differential privacy."""

from __future__ import annotations

import math
from dataclasses import replace

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.accounting.rows import SEEN_OF_MESSAGES, SIMULATED, joined
from qflsec.accounting.skellam import SkellamBound

__all__ = ["ddp_row"]


def ddp_row(
    layer: str,
    context: LedgerContext,
    *,
    bound: SkellamBound,
    delta: float,
    honest: int,
    sensitivities: tuple[float, float],
    local_variance: int,
    scale: float,
    clip_norm: float,
) -> LedgerRow:
    """The budget of a client against one observer.

    Args:
        layer: The layer's name.
        context: The observer and the run.
        bound: The bound.
        delta: The delta that is claimed, which covers the sampler's distance from Skellam noise as well.
        honest: The honest clients whose noise is counted.
        sensitivities: L1 and L2 of the integers.
        local_variance: The variance of one client's noise, in integers.
        scale: Integers for each unit of an update.
        clip_norm: Of an update.
    """
    if context.observer.reads_made:
        # noise is drawn when an update is sealed
        bound = replace(bound, epsilon=math.inf)
    l1, l2 = sensitivities
    sigma = math.sqrt(honest * local_variance) / scale
    return LedgerRow(
        observer=context.observer.name,
        layer=layer,
        guarantee="differential privacy",
        statement="this observer is granted updates before their noise, so epsilon is infinite: nothing is guaranteed"
        if math.isinf(bound.epsilon)
        else f"distributed differential privacy of a client: epsilon {bound.epsilon:.4g} at delta {delta:g} over "
        f"{context.training.rounds} rounds",
        assumption="none" if context.seeds.secrets else "computational",
        trusted="nobody but the client itself, which adds its noise"
        if honest == 1
        else f"secure aggregation; {honest} honest clients that remain in each round and add their noise",
        released="every update of an honest client, as it made it"
        if context.observer.reads_made
        else "the noisy mean of each round, and the number of clients that remain",
        bound="upper bound",
        epsilon=bound.epsilon,
        delta=delta,
        unit="client",
        adjacency="zero-out",
        mechanism=f"Skellam noise of standard deviation {sigma:.4g} on the sum of updates clipped to {clip_norm:g}, "
        f"counting {honest} share{'s' * (honest > 1)} of variance {local_variance} in steps of 1/{scale:g}; sensitivities after "
        f"conditional rounding L1 {l1:.6g}, L2 {l2:.6g} steps",
        sampling="none: no amplification is claimed for rounds that a client misses",
        steps=context.training.rounds,
        accountant=f"{bound.accountant} at order {bound.order}, {bound.version}",
        note=joined(
            SIMULATED if context.seeds.secrets else "",
            SEEN_OF_MESSAGES,
            "zero-out: a neighbouring run has the client's updates replaced by zero, and replacing them by others costs "
            "up to twice the sensitivity",
        ),
    )

"""Ledger rows of quantum secure aggregation, for each observer."""

from __future__ import annotations

from dataclasses import replace

from qflsec.accounting import LedgerContext, LedgerRow, RowWriter, sum_rows
from qflsec.accounting.rows import joined
from qflsec.protocols.secagg.ledger import DIFFERENT_MODELS

__all__ = ["ghz_rows"]

_SEEN = (
    "states and lines are simulated; the sum itself leaks; its shot noise is no differential privacy; not hidden: who "
    "takes part, sizes and times; messages are authenticated by Ed25519, which must hold during the round only"
)


def ghz_rows(
    layer: str, context: LedgerContext, *, tests: int, allowed: int, half: float, tenth: float, rest: float
) -> tuple[LedgerRow, ...]:
    """What phases on GHZ states hide from one observer.

    Args:
        layer: The layer's name.
        context: The observer and the run.
        tests: The number of tests in a round.
        allowed: The number of failures that is tolerated.
        half: The probability that a server passes which hands out product states in half of the copies.
        tenth: The same for a tenth.
        rest: The largest share of the untested copies that would fail, but for 1e-6.
    """
    observer = context.observer
    unproved = [
        "not proved for states that the server shares with the clients that collude with it"
        if observer.threat.server and observer.clients
        else "",
        "coins from a seed are known beforehand and test nothing" if context.seeds.secrets else "",
    ]
    rows = sum_rows(
        # no sealed message: what would be weaker with a seed are the tests, which the secrecy row says
        RowWriter(observer=observer.name, layer=layer),
        context,
        assumption="information-theoretic",
        sealed="hears everybody's outcomes, whose distribution depends on the sum of the updates alone",
        opened="reads an estimate of a single honest client's update, by subtracting what it knows from the sum",
        opened_note=_SEEN,
        released="an estimate of the mean of each round",
        trusted="the clients' own devices; the directory of signature keys; coins of one honest client",
        mechanism="a server that hands out product states in half (a tenth) of the copies of a round passes with "
        f"probability {half:.1e} ({tenth:.1e}): {tests} random stabiliser tests, {allowed} failures tolerated; "
        f"whatever the server does, at most {100 * rest:.1f} % of the untested copies would fail a test, but for "
        "1e-6 in each round",
        deviating=f"{DIFFERENT_MODELS}; the tests vouch for states and not for models",
        note=joined(_SEEN, *unproved),
    )
    return tuple(
        replace(row, assumption="none") if row.guarantee == "secrecy" and any(unproved) else row
        for row in rows
    )

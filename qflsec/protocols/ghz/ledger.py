"""Ledger rows of quantum secure aggregation, for each observer."""

from __future__ import annotations

from qflsec.accounting import LedgerContext, LedgerRow

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
    if not context.honest or not (context.sees_updates or context.sees_aggregates):
        return ()
    released = "an estimate of the mean of each round"
    if context.sees_updates:
        return (_opened(layer, context, released),)
    k = context.smallest_k
    anonymity = LedgerRow(
        observer=context.observer,
        layer=layer,
        guarantee="anonymity",
        statement=f"a round's sum mixes {k} or more honest clients whose updates this observer does not know",
        assumption="information-theoretic",
        trusted=f"{k} or more honest clients in each round, who do not collude with this observer",
        released=released,
        note="each further client that colludes takes one off",
    )
    if not (context.server or context.wire):
        return (anonymity,)
    escape = (
        "a server that hands out product states in half (a tenth) of the copies of a round passes with "
        f"probability {half:.1e} ({tenth:.1e}): {tests} random stabiliser tests, {allowed} failures tolerated; "
        f"whatever the server does, at most {100 * rest:.1f} % of the untested copies would fail a test, but for "
        "1e-6 in each round"
    )
    collude = ""
    seeded = "; coins from a seed are known beforehand and test nothing" if context.seeded_secrets else ""
    if context.server and context.corrupted:
        collude = "; not proved for states that the server shares with the clients that collude with it"
    return (
        LedgerRow(
            observer=context.observer,
            layer=layer,
            guarantee="secrecy",
            statement="hears everybody's outcomes, whose distribution depends on the sum of the updates alone",
            assumption="none" if collude or seeded else "information-theoretic",
            trusted="the clients' own devices; the directory of signature keys; coins of one honest client",
            released=released,
            mechanism=escape,
            note=f"{_SEEN}{collude}{seeded}",
        ),
        anonymity,
    )


def _opened(layer: str, context: LedgerContext, released: str) -> LedgerRow:
    return LedgerRow(
        observer=context.observer,
        layer=layer,
        guarantee="not covered",
        statement="reads an estimate of a single honest client's update, by subtracting what it knows from the sum",
        assumption="none",
        released=released,
        note=_SEEN,
    )

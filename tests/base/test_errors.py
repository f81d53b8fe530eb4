"""Errors: what an abort says of who caused it, also after a process boundary."""

from __future__ import annotations

import pickle

import pytest

from qflsec.base import ProtocolAbort
from qflsec.protocols.stages import OutOfOrder
from qflsec.threat import Party, client


@pytest.mark.parametrize("kind", [ProtocolAbort, OutOfOrder])
@pytest.mark.parametrize(
    ("caused_by", "cause"), [(client(3), "caused by client:3"), (None, "who caused it cannot be known")]
)
def test_an_abort_says_who_caused_it_or_that_nobody_knows(
    kind: type[ProtocolAbort], caused_by: Party | None, cause: str
) -> None:
    abort = kind("a check failed", got=1, expected=2, fix="look", caused_by=caused_by)
    assert str(abort) == "a check failed; got 1; expected 2; look", (
        "who caused it is no part of what is wrong"
    )
    for one in (abort, pickle.loads(pickle.dumps(abort))):
        assert type(one) is kind
        assert one.told == f"a check failed; got 1; expected 2; look; {cause}"
        assert one.caused_by == (None if caused_by is None else "client:3")

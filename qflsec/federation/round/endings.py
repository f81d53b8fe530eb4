"""How a run may end, and what the ending is called.

- *failed*: a mistake of the experiment. The code of an attack raised or broke its promise, or an honest client's
  training diverged. The server of a deployment could not tell a diverged client from a liar and drops both; the
  lab knows who is honest, and says so.
- *aborted*: a protocol stopped, and no corrupted client had done anything: it noticed a server or a network that
  deviates, as it promises, or something was missing.
- *lost*: a corrupted party had deviated before the run ended, and no protocol stopped it for a server's or a
  network's deviation. Whatever ended it (a receiver that refuses a client, a model that overflows), somebody was
  able to end it, which is all that an attack on availability wants.

Where a protocol stopped, the outcome says who caused it, or that it cannot be known: by what the parties of the
protocol could prove to each other, and not by what the lab knows of who is corrupted.
"""

from __future__ import annotations

from collections.abc import Mapping

from qflsec.base import ProtocolAbort, QflsecError
from qflsec.base.failures import traceback_of
from qflsec.threat import Party

__all__ = ["ending", "failure"]


def failure(error: Exception) -> tuple[str, str]:
    """Message and traceback of a failed run."""
    message = str(error) if isinstance(error, QflsecError) else f"{type(error).__name__}: {error}"
    return message, traceback_of(error)


def ending(loss: str | None, abort: ProtocolAbort | None, acts: Mapping[Party, str]) -> str:
    """The outcome of a run that did not fail.

    Args:
        loss: Why it could not go on after a corrupted party had deviated; None where it could.
        abort: Why a protocol stopped it; None where none did.
        acts: What corrupted parties sent last that no honest one would have.
    """
    reason = loss if loss is not None else None if abort is None else abort.told
    if reason is None:
        return "completed"
    if loss is None and not any(party.role == "client" for party in acts):
        return f"aborted: {reason}"
    told = ", ".join(f"{party} sent {what}" for party, what in sorted(acts.items()))
    return f"lost: {told}; then {reason}"

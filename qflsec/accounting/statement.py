"""A row of the ledger as a paragraph for people: the unit first, then every condition of the figure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qflsec.accounting.ledger import LedgerRow

__all__ = ["dp_statement"]

_ADJACENCY = {
    "add/remove": "add-or-remove-one adjacency",
    "replace-one": "replace-one adjacency",
    "zero-out": "zero-out adjacency (what the unit sent is taken away, its place in the protocol stays)",
}
_UNIT = {
    "example": "Example-level",
    "client": "Client-level",
    "features of an example": "Feature-level (an example's features, not its label)",
}


def dp_statement(row: LedgerRow) -> str:
    """The row's guarantee with all its conditions; a row of another kind is stated as it is.

    Args:
        row: A row.

    Source:
        The form follows ``compute_dp_sgd_privacy_statement`` of TensorFlow Privacy, which prints epsilon with and
        without the assumption of Poisson sampling.
    """
    if row.guarantee != "differential privacy" or row.epsilon is None:
        return row.statement
    level = _UNIT.get(row.unit, f"Differential privacy of the unit '{row.unit}'")
    at = "" if row.delta is None else f" at delta = {row.delta:g}"
    adjacency = _ADJACENCY.get(row.adjacency, f"adjacency '{row.adjacency}'")
    kind = {"upper bound": "proved upper bound"}.get(row.bound, row.bound)
    by = f", {row.accountant}" if row.accountant else ""
    lead = f"{level} DP with {adjacency}{at}: epsilon = {_number(row.epsilon)} ({kind}{by}"
    parts = [f"{lead}, {row.steps} compositions)." if row.steps is not None else f"{lead})."]
    if row.epsilon_unsampled is not None:
        parts.append(
            "This assumes Poisson sampling that the observer cannot see; without that assumption epsilon = "
            f"{_number(row.epsilon_unsampled)}."
        )
    elif row.sampling:
        parts.append(f"Sampling: {row.sampling}.")
    parts += [
        f"{label}: {text}."
        for label, text in (
            ("Mechanism", row.mechanism),
            ("Released", row.released),
            ("Trusted", row.trusted),
            ("Note", row.note),
        )
        if text
    ]
    return " ".join(parts)


def _number(epsilon: float) -> str:
    return "infinite, which guarantees nothing" if math.isinf(epsilon) else f"{epsilon:.4g}"

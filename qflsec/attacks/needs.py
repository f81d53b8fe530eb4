"""What a view lacks, as sentences: why an attack is blocked.

An attack is blocked where the kind of message that it needs does not exist in the view, or exists only in a
form that the coalition cannot open: then there is nothing to compute with. A random guess in its place
would have an advantage near zero, which reads as a defense that was attacked and held.
"""

from __future__ import annotations

from qflsec.threat import View

__all__ = ["missing_answers", "missing_architecture", "missing_items"]


def missing_answers(view: View) -> str | None:
    """Why no model can be evaluated or queried; None where one can."""
    if view.oracle is not None:
        return None
    return missing_architecture(view) or missing_items(view, "model", "final-model", what="model")


def missing_architecture(view: View) -> str | None:
    """Why the model cannot be evaluated; None where it can."""
    return None if view.granted.model is not None else "the adversary does not know the model's architecture"


def missing_items(view: View, *kinds: str, what: str, about: int | None = None) -> str | None:
    """Why no item of these kinds can be read; None where one can.

    Args:
        view: The view.
        kinds: The kinds of items.
        what: What they are called in the reason.
        about: Only items that may contain this client's contribution, as far as the view says.
    """
    held = [item for item in view.items if item.kind in kinds and (about is None or item.may_hold(about))]
    if not held:
        return f"no {what} is in the view"
    if all(item.form != "plain" for item in held):
        return f"every {what} in the view is sealed"
    return None

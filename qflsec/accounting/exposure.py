"""What a view holds, in words."""

from __future__ import annotations

from collections.abc import Sequence

from qflsec.threat import Item, View

__all__ = ["exposure"]

_WORDS = {
    "update": "updates of single honest clients",
    "aggregate": "sums of updates",
    "step": "steps of the server's rule, which need not mix what it was given,",
    "path": "differences of models over several steps",
    "model": "models that clients start from",
    "final-model": "the final model",
    "delta": "angles that clients told a quantum server",
    "reply": "bits that a quantum server answered",
}


def exposure(view: View) -> tuple[str, ...]:
    """What this view holds of honest clients, a sentence for each kind of item.

    Args:
        view: The view of a coalition on a run.
    """
    sentences = [_sentence(kind, view.readable(kind)) for kind in _WORDS]
    if any(item.metric is not None and item.k > 0 for item in view.readable("update", "aggregate")):
        sentences.append("behind these, mean metrics of the records, from which candidates can be told")
    sealed = [item for item in view.items if item.form != "plain"]
    if sealed:
        forms = ", ".join(sorted({item.form for item in sealed}))
        sentences.append(
            f"{len(sealed)} messages that it cannot read ({forms}): who sends, when and how long"
        )
    if view.granted.data:
        owners = ", ".join(str(party) for party in sorted(view.granted.data))
        sentences.append(f"the records of its own clients ({owners})")
    if any(item.granted for item in view.items):
        sentences.append(
            "of these, updates as clients made them before anything sealed them, by a strong assumption of the threat model"
        )
    return tuple(sentence for sentence in sentences if sentence)


def _sentence(kind: str, items: Sequence[Item]) -> str:
    """One kind of item; models hold everybody's contributions, all others say whose are in them."""
    if kind in {"model", "final-model"}:
        if not items:
            return ""
        rounds = _rounds(len({item.round for item in items}))
        return _WORDS[kind] if kind == "final-model" else f"{_WORDS[kind]} in {rounds}"
    held = [item for item in items if item.k > 0]
    if not held:
        return ""
    rounds = _rounds(len({item.round for item in held}))
    derived = ", computed from other items" if all(item.derived for item in held) else ""
    single = {client for item in held if item.size == 1 for client in item.named}
    unnamed = [item for item in held if item.about is None]
    whose = ", of clients that it cannot name" if len(unnamed) == len(held) else ""
    if kind == "update" and single:
        return f"{_WORDS[kind]} ({len(single)} of them) in {rounds}{derived}"
    smallest = min(item.k for item in held)
    if any(item.of is None for item in unnamed):
        return f"{_WORDS[kind]}, of clients whose number it cannot tell either, in {rounds}{derived}"
    return (
        f"{_WORDS[kind]} with at least {smallest} honest client{'s' if smallest > 1 else ''} in them{whose}, "
        f"in {rounds}{derived}"
    )


def _rounds(n: int) -> str:
    return f"{n} round{'s' if n != 1 else ''}"

"""Labels: what the gradient of a last bias tells, and which multisets are left."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from qflsec.attacks.inversion.matching import Matching
from qflsec.attacks.inversion.reconstruction import label_hypotheses
from qflsec.models.losses import CrossEntropy

__all__ = ["label_options", "present_classes"]


def present_classes(piece: Matching) -> list[int]:
    """Classes that some record of an update must have, by the gradient of the last bias under cross entropy.

    The gradient of bias c is the mean over the records of p_c - [label is c]. It can be negative only where a
    record has that label. Of one record it is negative for the label alone. Of several, a class may be there without a
    negative sign, and the sign does not count how often: labels that repeat are not told apart. Of more than
    one step, and of Adam, signs are not those of one gradient, and nothing is concluded.

    Source:
        Zhao, Mopuri, Bilen: iDLG, arXiv:2001.02610, equation 4 (one record); Yin et al.: See through gradients,
        CVPR 2021 (batches whose labels do not repeat).
    """
    model = piece.model
    names = [name for name, shape in model.layout if shape == (model.n_classes,) and name.endswith("bias")]
    last = model.layout[-1][0]
    if not piece.rule.linear or last not in names or not isinstance(model.loss, CrossEntropy):
        return []
    bias = model.unflatten(piece.observed)[last]
    least = 1e-6 * float(bias.abs().max())
    return [label for label in range(model.n_classes) if float(bias[label]) < -least]


def label_options(
    pieces: Sequence[Matching], n_records: int, *, how: str, most: int, generator: torch.Generator
) -> Tensor | None:
    """Labels to try, one of all orders that no update tells apart; None to search for labels by derivatives.

    Args:
        pieces: The updates.
        n_records: Records behind them.
        how: ``"enumerate"``, ``"joint"``, or ``"auto"``: enumerate where all fit.
        most: The most rows.
        generator: Of the choice, where there are more.

    Shapes:
        returns: ``(H, n_records)``
    """
    n_classes = pieces[0].model.n_classes
    # Which client has which labels matters where every client trains on its own part for several steps.
    mixed = any(len(piece.clients or ()) > 1 and not piece.rule.linear for piece in pieces)
    blocks = _alike(pieces, n_records)
    fits = math.prod(math.comb(len(block) + n_classes - 1, len(block)) for block in blocks) <= most
    if how == "joint" or (how == "auto" and (mixed or not fits)):
        return None
    parts = [label_hypotheses(len(block), n_classes, most=most, generator=generator) for block in blocks]
    options = _in_their_places(parts, blocks, most, generator)
    complete = [piece for piece in pieces if sum(len(group) for group in piece.clients or ()) == n_records]
    needed = {label for piece in complete for label in present_classes(piece)}
    kept = [row for row in options.tolist() if needed <= set(row)]
    return torch.tensor(kept) if kept else options


def _alike(pieces: Sequence[Matching], n_records: int) -> list[list[int]]:
    """The places of records that are in the same updates: exchanging their labels changes nothing of a single step."""
    found: dict[tuple[bool, ...], list[int]] = {}
    for place in range(n_records):
        where = tuple(any(place in group for group in piece.clients or ()) for piece in pieces)
        found.setdefault(where, []).append(place)
    return list(found.values())


def _in_their_places(
    parts: Sequence[Tensor], blocks: Sequence[list[int]], most: int, generator: torch.Generator
) -> Tensor:
    """Each choice of one row of every part, the row's labels in the places of its block; some where there are too many."""
    sizes = [len(part) for part in parts]
    if math.prod(sizes) <= most:
        chosen = torch.cartesian_prod(*map(torch.arange, sizes)).reshape(-1, len(parts))
    else:
        drawn = [torch.randint(size, (most,), generator=generator) for size in sizes]
        chosen = torch.stack(drawn, dim=1)
    rows = torch.zeros(len(chosen), sum(map(len, blocks)), dtype=torch.int64)
    for part, block, picks in zip(parts, blocks, chosen.T, strict=True):
        rows[:, block] = part[picks]
    return rows

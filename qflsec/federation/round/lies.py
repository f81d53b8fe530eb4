"""What corrupted clients say beside their updates that is not true."""

from __future__ import annotations

from collections.abc import Collection

import torch

from qflsec.federation.payloads import Sent

__all__ = ["lies"]


def lies(acting: Collection[tuple[int, int]], honest: Sent, said: Sent) -> dict[tuple[int, int], str]:
    """What each of these clients says of itself that an honest one would not, in words.

    Args:
        acting: ``(lane, client)`` of corrupted clients.
        honest: What they would send if they followed the protocol.
        said: What they send.
    """
    found: dict[tuple[int, int], str] = {}
    for place in sorted(acting):
        for name, truth in honest.reports.items():
            if not torch.equal(truth[place], said.reports[name][place]):
                found.setdefault(place, f"a {name} of its own making")
        metric, told = honest.metrics, said.metrics
        if metric is not None and told is not None and not torch.equal(metric[place], told[place]):
            found.setdefault(place, "a metric of its own making")
    return found

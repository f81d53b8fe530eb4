"""What the clients of a trial round hold: random, and no secret of anybody."""

from __future__ import annotations

import torch

from qflsec.base import stream

__all__ = ["random_updates"]


def random_updates(
    n_clients: int, n_params: int, *, max_count: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Updates in ``[-0.5, 0.5)`` and numbers of examples from 1 to ``max_count``, uniform.

    Args:
        n_clients: The number of clients.
        n_params: The length of an update.
        max_count: The largest number of examples.
        seed: The same gives the same.

    Shapes:
        returns: ``(n_clients, n_params)`` and ``(n_clients,)`` in double precision
    """
    generator = stream(seed, "one-round")
    updates = torch.rand(n_clients, n_params, generator=generator, dtype=torch.float64) - 0.5
    return updates, torch.randint(1, max_count + 1, (n_clients,), generator=generator).double()

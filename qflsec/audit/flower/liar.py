"""One client of a recorded app lies: its reply is altered, and the app's own server runs again on what the others said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qflsec.audit.check import NotApplicable
from qflsec.audit.flower.recording import Alter, Recording, Sent, as_vector
from qflsec.audit.parts import Array

__all__ = ["altered_by", "filled", "first_client", "model_after"]


def model_after(part: Recording, alter: Alter) -> Array:
    """The model after the first round, where replies were altered; nobody trains again.

    Args:
        part: The recording.
        alter: What is sent in place of a reply.

    Raises:
        NotApplicable: An altered reply did not reach the server, or the server does not show its model.
        Exception: Whatever the server raises.

    Shapes:
        returns: ``(P,)``, float64
    """
    made = part.again(alter, 1, False)
    if len(made.replies(1)) < len(part.replies(1)):
        raise NotApplicable("the altered reply did not reach the server")
    after = as_vector(made.model(2))
    if not len(after):
        raise NotApplicable("the server does not show the model that it makes of the replies")
    return after


def first_client(part: Recording) -> int:
    """The first client whose reply of the first round holds a model.

    Raises:
        NotApplicable: Fewer than two do, so that nobody honest is left beside the liar.
    """
    readable = part.readable(1)
    if len(readable) < 2:
        raise NotApplicable("fewer than two clients' replies hold a model that can be read")
    return min(readable)


def altered_by(liar: int, make: Alter) -> Alter:
    """Alter the training replies of one client."""
    return lambda sent: make(sent) if sent.node == liar and sent.kind == "train" and sent.arrays else sent


def filled(sent: Sent, *, value: float) -> Sent:
    """The same reply with this value everywhere."""
    arrays = {
        name: np.full_like(array, value) if np.issubdtype(array.dtype, np.floating) else array
        for name, array in sent.arrays.items()
    }
    return replace(sent, arrays=arrays)

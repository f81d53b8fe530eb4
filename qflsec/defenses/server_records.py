"""What a layer needs that goes by clean records of the server."""

from __future__ import annotations

from qflsec.base import IncompatibleStack
from qflsec.federation import Pipeline

__all__ = ["need_server_records"]


def need_server_records(name: str, pipeline: Pipeline, does: str) -> None:
    """Refuse a pipeline in which the server has no records, or not the whole model.

    Args:
        name: The layer's name.
        pipeline: The pipeline.
        does: What the layer does with records and model, such as "tries updates".

    Raises:
        IncompatibleStack: It has not.
    """
    if pipeline.data.auxiliary < 1:
        raise IncompatibleStack(
            f"{name!r} {does} on records of the server, but the auxiliary split is empty",
            fix="set 'auxiliary' of the data",
        )
    if pipeline.personal:
        raise IncompatibleStack(
            f"{name!r} {does} on the whole model, but clients keep parts of theirs to themselves",
            got=", ".join(pipeline.personal),
            fix="leave out 'personal'",
        )

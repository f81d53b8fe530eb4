"""How the results of channel matrices are read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar

from qflsec.lab.scoring.channel_outcome import ChannelOutcome
from qflsec.lab.worlds.channel.cells import ChannelCell, ChannelMatrixResult
from qflsec.lab.worlds.pairs.cells import PairCell, PairResult, mean_document
from qflsec.lab.worlds.pairs.reading import PairReading

__all__ = ["ChannelReading"]


class ChannelReading(PairReading[ChannelOutcome, ChannelMatrixResult]):
    """Reads them."""

    schema: ClassVar[str] = "qflsec-bb84-matrix/2"
    result_type: ClassVar[type[PairResult[Any]]] = ChannelMatrixResult
    cell_type: ClassVar[type[PairCell[Any]]] = ChannelCell

    @staticmethod
    def content(outcome: ChannelOutcome) -> dict[str, Any]:
        """An outcome as JSON types."""
        return {**asdict(outcome), "claim_holds": outcome.claim_holds}

    @staticmethod
    def outcome(content: Mapping[str, Any]) -> ChannelOutcome:
        """The outcome that :meth:`content` wrote."""
        values = {name: value for name, value in content.items() if name != "claim_holds"}
        for name in ("countermeasures", "detected_by"):
            values[name] = tuple(values[name])
        return ChannelOutcome(**{**values, "qber": math.nan if values["qber"] is None else values["qber"]})

    @classmethod
    def summary(cls, cell: ChannelCell) -> dict[str, Any]:
        """What a document says of a cell over all seeds."""
        return {
            "runs": len(cell.outcomes),
            "runs_detected": cell.detected,
            "detected_by": list(cell.detected_by),
            "runs_key_claimed": cell.claimed,
            "runs_false_claim": cell.false_claims,
            "eve_information_bits_per_raw_bit": mean_document(cell.eve_information),
            "key_length_bits": mean_document(cell.key_length),
        }

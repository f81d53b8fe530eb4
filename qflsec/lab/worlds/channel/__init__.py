"""BB84 in the lab: attacks on the quantum channel against countermeasures, and what is claimed afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qflsec.base.faces import lazily

if TYPE_CHECKING:
    from qflsec.lab.worlds.channel.cells import ChannelCell, ChannelMatrixResult
    from qflsec.lab.worlds.channel.chain import attack_from_text, prepare
    from qflsec.lab.worlds.channel.judging import Judgement, judge
    from qflsec.lab.worlds.channel.spec import ChannelMatrixSpec
    from qflsec.lab.worlds.channel.world import ChannelWorld

__all__ = [
    "ChannelCell",
    "ChannelMatrixResult",
    "ChannelMatrixSpec",
    "ChannelWorld",
    "Judgement",
    "attack_from_text",
    "judge",
    "prepare",
]

__getattr__, __dir__ = lazily(__name__)

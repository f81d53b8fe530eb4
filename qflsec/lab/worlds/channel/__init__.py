"""BB84 in the lab: attacks on the quantum channel against countermeasures, and what is claimed afterwards."""

from __future__ import annotations

from qflsec.lab.worlds.channel.chain import attack_from_text, prepare
from qflsec.lab.worlds.channel.judge import Judgement, judge
from qflsec.lab.worlds.channel.matrix import (
    ChannelCell,
    ChannelMatrixResult,
    ChannelProgress,
    assemble_channel_matrix,
    run_channel_matrix,
)
from qflsec.lab.worlds.channel.spec import ChannelMatrixSpec, channel_presets, load_channel_spec

__all__ = [
    "ChannelCell",
    "ChannelMatrixResult",
    "ChannelMatrixSpec",
    "ChannelProgress",
    "Judgement",
    "assemble_channel_matrix",
    "attack_from_text",
    "channel_presets",
    "judge",
    "load_channel_spec",
    "prepare",
    "run_channel_matrix",
]

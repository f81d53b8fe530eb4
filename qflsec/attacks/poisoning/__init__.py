"""Poisoning: corrupted clients that spoil the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qflsec.base.faces import lazily

if TYPE_CHECKING:
    from qflsec.attacks.poisoning.alie import Alie, alie_factor
    from qflsec.attacks.poisoning.angle_wrap import AngleWrap, most_harmful_turns
    from qflsec.attacks.poisoning.circuit_tampering import GateInsertion, RotationBias
    from qflsec.attacks.poisoning.claimed_part import ClaimedPart
    from qflsec.attacks.poisoning.constant import Constant, Withhold
    from qflsec.attacks.poisoning.device_tampering import Crosstalk, ReadoutTampering
    from qflsec.attacks.poisoning.edge_replacement import EdgeReplacement
    from qflsec.attacks.poisoning.fang import FangKrum, FangTrimmedMean
    from qflsec.attacks.poisoning.free_rider import FreeRider
    from qflsec.attacks.poisoning.gaussian import Gaussian
    from qflsec.attacks.poisoning.greedy_label_flip import GreedyLabelFlip
    from qflsec.attacks.poisoning.ipm import Ipm
    from qflsec.attacks.poisoning.label_flip import LabelFlip, TargetedLabelFlip
    from qflsec.attacks.poisoning.loss_liar import LossLiar
    from qflsec.attacks.poisoning.metric_liar import MetricLiar
    from qflsec.attacks.poisoning.mimic import Mimic
    from qflsec.attacks.poisoning.min_max import MinMax, MinSum
    from qflsec.attacks.poisoning.optimised import OptimisedAlie, OptimisedIpm
    from qflsec.attacks.poisoning.pair_tap import PairTap
    from qflsec.attacks.poisoning.pareto_collapse import ParetoCollapse
    from qflsec.attacks.poisoning.quality_liar import QualityLiar
    from qflsec.attacks.poisoning.quid import Quid
    from qflsec.attacks.poisoning.replacement import ModelReplacement
    from qflsec.attacks.poisoning.replayed_update import ReplayedUpdate
    from qflsec.attacks.poisoning.sign_flip import ScaledSignFlip, SignFlip
    from qflsec.attacks.poisoning.sybil import Sybil
    from qflsec.attacks.poisoning.wrong_cluster import WrongCluster

__all__ = [
    "Alie",
    "AngleWrap",
    "ClaimedPart",
    "Constant",
    "Crosstalk",
    "EdgeReplacement",
    "FangKrum",
    "FangTrimmedMean",
    "FreeRider",
    "GateInsertion",
    "Gaussian",
    "GreedyLabelFlip",
    "Ipm",
    "LabelFlip",
    "LossLiar",
    "MetricLiar",
    "Mimic",
    "MinMax",
    "MinSum",
    "ModelReplacement",
    "OptimisedAlie",
    "OptimisedIpm",
    "PairTap",
    "ParetoCollapse",
    "QualityLiar",
    "Quid",
    "ReadoutTampering",
    "ReplayedUpdate",
    "RotationBias",
    "ScaledSignFlip",
    "SignFlip",
    "Sybil",
    "TargetedLabelFlip",
    "Withhold",
    "WrongCluster",
    "alie_factor",
    "most_harmful_turns",
]
__getattr__, __dir__ = lazily(__name__)

"""The training loop, its hooks and stacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qflsec.base.faces import lazily

if TYPE_CHECKING:
    from qflsec.federation.adversary import (
        Adversary,
        EdgeHands,
        Hands,
        Moved,
        Sending,
        ServerHands,
        TrainFunction,
    )
    from qflsec.federation.aggregation import FedAvg, weighted_mean
    from qflsec.federation.audit_layers import AuditLayer
    from qflsec.federation.calibration import CalibratedLayer, calibrate_stack
    from qflsec.federation.config import FederationConfig
    from qflsec.federation.control import Control
    from qflsec.federation.delegation import Conversation, DelegationLayer
    from qflsec.federation.executions import ExecutionLayer, executed
    from qflsec.federation.gradient_layers import Clipping, ClippingLayer, GradientLayer
    from qflsec.federation.identity import Identity
    from qflsec.federation.layer_config import layer_from_config
    from qflsec.federation.layers import (
        AggregationLayer,
        AggregatorLayer,
        BoundLayer,
        ClientLayer,
        Layer,
        LinkLayer,
        NoiseLayer,
        SecretLayer,
        ServerLayer,
        ShapeLayer,
        Streams,
    )
    from qflsec.federation.loop import run_batch
    from qflsec.federation.moving import Satellites, Vehicles
    from qflsec.federation.natural_gradient import NaturalGradient
    from qflsec.federation.own_models import OwnModels
    from qflsec.federation.pair_layers import PairLayer
    from qflsec.federation.parties import Header, PartyState, Setup
    from qflsec.federation.parts import Depths, Parts, Slimmable
    from qflsec.federation.parts_config import parts_from_config
    from qflsec.federation.payloads import ClientPayloads
    from qflsec.federation.pipeline import Pipeline
    from qflsec.federation.record_layers import RecordLayer
    from qflsec.federation.run import RunResult
    from qflsec.federation.run_spec import RunSpec
    from qflsec.federation.schedule import Schedule
    from qflsec.federation.serving import REFUSED, ServingLayer
    from qflsec.federation.sporadic import Sporadic
    from qflsec.federation.stack import Stack
    from qflsec.federation.statements import Asked, StatementLayer
    from qflsec.federation.topology import (
        Affinity,
        Clusters,
        Gossip,
        Hierarchy,
        Mix,
        Preference,
        Ring,
        Star,
        Topology,
        Tree,
        Turn,
        affinities,
        groups_by_error,
        preferences,
    )
    from qflsec.federation.updates import RoundUpdates, SummedUpdates

__all__ = [
    "REFUSED",
    "Adversary",
    "Affinity",
    "AggregationLayer",
    "AggregatorLayer",
    "Asked",
    "AuditLayer",
    "BoundLayer",
    "CalibratedLayer",
    "ClientLayer",
    "ClientPayloads",
    "Clipping",
    "ClippingLayer",
    "Clusters",
    "Control",
    "Conversation",
    "DelegationLayer",
    "Depths",
    "EdgeHands",
    "ExecutionLayer",
    "FedAvg",
    "FederationConfig",
    "Gossip",
    "GradientLayer",
    "Hands",
    "Header",
    "Hierarchy",
    "Identity",
    "Layer",
    "LinkLayer",
    "Mix",
    "Moved",
    "NaturalGradient",
    "NoiseLayer",
    "OwnModels",
    "PairLayer",
    "Parts",
    "PartyState",
    "Pipeline",
    "Preference",
    "RecordLayer",
    "Ring",
    "RoundUpdates",
    "RunResult",
    "RunSpec",
    "Satellites",
    "Schedule",
    "SecretLayer",
    "Sending",
    "ServerHands",
    "ServerLayer",
    "ServingLayer",
    "Setup",
    "ShapeLayer",
    "Slimmable",
    "Sporadic",
    "Stack",
    "Star",
    "StatementLayer",
    "Streams",
    "SummedUpdates",
    "Topology",
    "TrainFunction",
    "Tree",
    "Turn",
    "Vehicles",
    "affinities",
    "calibrate_stack",
    "executed",
    "groups_by_error",
    "layer_from_config",
    "parts_from_config",
    "preferences",
    "run_batch",
    "weighted_mean",
]

__getattr__, __dir__ = lazily(__name__)

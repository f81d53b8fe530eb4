"""Views, hands and pipelines for attacks that are tested without or with the loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch

from qflsec.data import DataSpec
from qflsec.federation import FederationConfig, Hands, Pipeline, Stack, layer_from_config
from qflsec.models import Model, build_model
from qflsec.threat import (
    MODELS,
    SERVER,
    SUMS,
    Granted,
    Item,
    Records,
    View,
    client,
    corrupted_clients,
    honest_but_curious_server,
)


@pytest.fixture
def vqc() -> Model:
    """Four qubits, three layers, 36 parameters."""
    return build_model({"name": "vqc", "n_qubits": 4, "layers": 3})


@pytest.fixture
def item() -> Callable[..., Item]:
    """An item of a view; plain unless it says otherwise."""

    def make(kind: str, value: torch.Tensor, *, round_index: int = 0, **change: Any) -> Item:
        about = change.pop("about", frozenset())
        values = {
            "form": "plain",
            "weight": None,
            "about": about,
            "k": len(about),
            "sender": SERVER,
            "receiver": client(0),
            "version": str(round_index) if kind in MODELS else None,
            "base": str(round_index) if kind in SUMS else None,
        }
        return Item(round=round_index, kind=kind, value=value, **{**values, **change})

    return make


@pytest.fixture
def view() -> Callable[..., View]:
    """A view of these items by somebody who knows the architecture unless told otherwise."""

    def make(*items: Item, model: Model | None, auxiliary: Records | None = None) -> View:
        granted = Granted(model=model, auxiliary=auxiliary)
        return View(threat=honest_but_curious_server(), items=items, granted=granted)

    return make


@pytest.fixture
def hands(vqc: Model) -> Callable[..., Hands]:
    """Hands of clients 0 and 1 of ten in two lanes; ``train`` notes what it gets and returns ones."""

    def make(seen: list[tuple[torch.Tensor, torch.Tensor]], *, n_records: int = 6, **change: Any) -> Hands:
        def train(features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            seen.append((features, labels))
            return torch.ones(2, 2, 36)

        generator = torch.Generator().manual_seed(0)
        mask = torch.ones(2, 2, n_records)
        mask[:, 1, 4:] = 0  # the second client has four records
        values = {
            "round": 0,
            "model": vqc,
            "received": torch.zeros(2, 2, 36),
            "features": torch.rand(2, 2, n_records, 4, generator=generator),
            "labels": torch.randint(0, 2, (2, 2, n_records), generator=generator),
            "mask": mask,
            "honest": torch.randn(2, 2, 36, generator=generator),
            "base": torch.zeros(2, 2, 36),
            "periods": vqc.periods,
            "training": FederationConfig(n_clients=10),
            "threat": corrupted_clients(n=2),
            "clients": (0, 1),
            "n_clients": 10,
            "train": train,
            "views": list,
            "generators": [torch.Generator().manual_seed(lane) for lane in (1, 2)],
        }
        return Hands(**{**values, **change})

    return make


@pytest.fixture
def pipeline() -> Callable[..., Pipeline]:
    """Ten clients on breast cancer with four qubits."""

    def make(
        *, model: Mapping[str, object] | None = None, members: int, nonmembers: int = 0, **federation: Any
    ) -> Pipeline:
        return Pipeline(
            data=DataSpec(
                name="breast-cancer", members=members, nonmembers=nonmembers, auxiliary=100, test=150
            ),
            model=build_model({"name": "vqc", "n_qubits": 4, "layers": 3, **(model or {})}),
            federation=FederationConfig(**{"n_clients": 10, "learning_rate": 0.5, **federation}),
        )

    return make


@pytest.fixture
def stack() -> Callable[..., Stack]:
    """A stack of layers by their registry names, with default parameters or as tables."""

    def make(*layers: str | Mapping[str, Any]) -> Stack:
        configs: Sequence[Mapping[str, Any]] = [
            {"name": layer} if isinstance(layer, str) else layer for layer in layers
        ]
        return Stack.from_layers(
            "+".join(str(c["name"]) for c in configs) or "none",
            [layer_from_config(config) for config in configs],
        )

    return make

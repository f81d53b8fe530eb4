"""Broadcasting: every row is the single call, and lanes do not touch each other, to the last bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.base.randomness import stream
from qflsec.models import Model, build_model, per_sample_gradients

MODELS = {
    "vqc": build_model({"name": "vqc", "n_qubits": 3, "layers": 2}),
    "vqc-4": build_model(
        {"name": "vqc", "n_qubits": 4, "layers": 2, "n_classes": 4, "encoder": "reuploading"}
    ),
    "amplitude": build_model({"name": "vqc", "n_qubits": 2, "layers": 1, "encoder": "amplitude"}),
    "hybrid": build_model({"name": "hybrid", "n_qubits": 3, "layers": 1, "n_features": 12, "n_classes": 3}),
    "classical": build_model({"name": "classical", "n_features": 30, "hidden": [7]}),
}


def draw(model: Model, params_lead: list[int], features_lead: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    params = torch.randn(*params_lead, model.n_params, generator=stream(0, "p"))
    return params, torch.randn(*features_lead, model.n_features, generator=stream(0, "x"))


@st.composite
def leads(draw_from: st.DrawFn) -> tuple[list[int], list[int]]:
    """Two shapes that broadcast, of up to three axes."""
    joint = draw_from(st.lists(st.integers(1, 3), max_size=3))

    def part() -> list[int]:
        kept = [size if draw_from(st.booleans()) else 1 for size in joint]
        return kept[draw_from(st.integers(0, len(kept))) :]

    return part(), part()


@pytest.mark.parametrize("name", MODELS)
@given(shapes=leads())
@settings(deadline=None, max_examples=15)
def test_every_row_is_the_single_call(name: str, shapes: tuple[list[int], list[int]]) -> None:
    model = MODELS[name]
    params, features = draw(model, *shapes)
    logits = model(params, features)
    lead = torch.broadcast_shapes(*shapes)
    assert logits.shape == (*lead, model.n_classes)
    rows = zip(
        params.expand(*lead, -1).reshape(-1, model.n_params),
        features.expand(*lead, -1).reshape(-1, model.n_features),
        logits.reshape(-1, model.n_classes),
        strict=True,
    )
    for p, x, row in rows:
        assert torch.allclose(model(p, x), row, atol=2e-5)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("lanes", "clients", "batch"), [(5, 3, 4), (3, 2, 1), (17, 1, 7)])
def test_a_lane_alone_is_the_lane_in_the_batch_bit_for_bit(
    name: str, lanes: int, clients: int, batch: int
) -> None:
    model = MODELS[name]
    params, features = draw(model, [lanes, clients, 1], [lanes, clients, batch])
    labels = torch.randint(model.n_classes, (lanes, clients, batch), generator=stream(0, "y"))

    def run(part: slice) -> list[torch.Tensor]:
        leaf = params[part].clone().requires_grad_()
        logits = model(leaf, features[part])
        flat = torch.nn.functional.cross_entropy(
            logits.flatten(0, -2), labels[part].flatten(), reduction="none"
        )
        loss = flat.reshape(labels[part].shape).mean(-1).sum()
        (gradient,) = torch.autograd.grad(loss, leaf)
        return [
            logits.detach(),
            gradient,
            per_sample_gradients(model, params[part], features[part], labels[part]),
        ]

    together = run(slice(None))
    for lane in {0, 1, lanes - 1}:
        part = slice(lane, lane + 1)
        for alone, joint in zip(run(part), together, strict=True):
            assert torch.equal(alone, joint[part])

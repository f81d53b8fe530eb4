"""Execution, shapes and configurations, which all models share."""

from __future__ import annotations

import json
import pickle

import pytest
import torch

from qflsec.base.errors import ConfigError, UnknownName
from qflsec.base.randomness import stream
from qflsec.models import EXACT, Execution, Model, build_model

CONFIGS = [
    {"name": "vqc", "n_qubits": 3, "layers": 2},
    {
        "name": "vqc",
        "n_qubits": 3,
        "layers": 1,
        "n_classes": 3,
        "scale": 2.0,
        "ansatz": "ry-cz",
        "rotation": "Y",
    },
    {"name": "vqc", "n_qubits": 2, "layers": 2, "encoder": "amplitude", "n_features": 3},
    {"name": "vqc", "n_qubits": 2, "layers": 2, "encoder": "reuploading", "ansatz": "basic-entangler"},
    {"name": "hybrid", "n_qubits": 2, "layers": 1, "n_features": 5, "n_classes": 3, "hidden": [4]},
    {"name": "hybrid", "n_qubits": 2, "layers": 1, "n_features": 5},
    {"name": "classical", "n_features": 4, "n_classes": 3, "hidden": [6, 5]},
    {"name": "classical", "n_features": 4},
]


@pytest.fixture(params=CONFIGS, ids=lambda c: "-".join(str(v) for v in c.values()))
def model(request: pytest.FixtureRequest) -> Model:
    return build_model(request.param)


def test_configuration_round_trips_through_json(model: Model) -> None:
    config = json.loads(json.dumps(model.to_config()))
    again = build_model(config)
    assert again == model
    assert again.to_config() == model.to_config()
    assert hash(again) == hash(model)


def test_defaults_are_written_out() -> None:
    config = build_model({"name": "vqc", "n_qubits": 4}).to_config()
    assert config == {
        "name": "vqc",
        "n_qubits": 4,
        "layers": 3,
        "encoder": "angle",
        "ansatz": "strongly-entangling",
        "rotation": "X",
        "n_features": 4,
        "n_classes": 2,
        "scale": 3.0,
        "loss": "cross-entropy",
    }


def test_survives_pickle(model: Model) -> None:
    assert pickle.loads(pickle.dumps(model)) == model


def test_layout_covers_the_parameters(model: Model) -> None:
    params = model.initial(stream(0, "initial"))
    assert params.shape == (model.n_params,)
    assert params.dtype == torch.float32
    assert len(model.periods) == model.n_params
    blocks = model.unflatten(params.expand(2, 3, -1))
    assert [(name, tuple(block.shape)) for name, block in blocks.items()] == [
        (name, (2, 3, *shape)) for name, shape in model.layout
    ]
    joined = torch.cat([block.reshape(6, -1) for block in blocks.values()], dim=-1)
    assert torch.equal(joined, params.expand(6, -1))


def test_initial_depends_on_the_stream_alone(model: Model) -> None:
    first = model.initial(stream(1, "initial"))
    assert torch.equal(first, model.initial(stream(1, "initial")))
    assert not torch.equal(first, model.initial(stream(2, "initial")))


def test_logits_have_one_entry_for_each_class(model: Model) -> None:
    params = model.initial(stream(0, "initial"))
    features = torch.rand(7, model.n_features, generator=stream(0, "x"))
    logits = model(params, features)
    assert logits.shape == (7, model.n_classes)
    assert logits.dtype == torch.float32
    double = model(params, features, execution=Execution(dtype="complex128"))
    assert double.dtype == torch.float64
    assert (double - logits).abs().max() < 1e-5
    assert (double - logits).abs().max() > 0


def test_logits_stay_on_the_device_of_the_arguments(model: Model) -> None:
    """The meta device refuses to mix with any other, as a GPU does."""
    params = torch.zeros(2, 1, model.n_params, device="meta")
    features = torch.zeros(2, 3, model.n_features, device="meta")
    logits = model(params, features)
    assert logits.device.type == "meta"
    assert logits.shape == (2, 3, model.n_classes)


@pytest.mark.parametrize(
    ("params_shape", "features_shape"), [((-1,), (4,)), ((3, -1), (2, 4)), ((2, 1, -1), (3, 5, 4))]
)
def test_shapes_that_do_not_fit_are_refused(
    params_shape: tuple[int, ...], features_shape: tuple[int, ...]
) -> None:
    model = build_model({"name": "classical", "n_features": 4})
    right = model.n_params
    params = torch.zeros([right if size < 0 else size for size in params_shape])
    if len(params_shape) == 1:
        with pytest.raises(ConfigError, match="parameters do not fit"):
            model(params[:-1], torch.zeros(features_shape))
        with pytest.raises(ConfigError, match="features do not fit"):
            model(params, torch.zeros(5))
    else:
        with pytest.raises(ConfigError, match="do not broadcast"):
            model(params, torch.zeros(features_shape))


@pytest.mark.parametrize(
    "wrong",
    [{"shots": 0}, {"shots": True}, {"dtype": "float32"}, {"gradient": "adjoint"}],
    ids=str,
)
def test_execution_refuses(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Execution(**wrong)  # type: ignore[arg-type]


def test_executions_are_values() -> None:
    assert Execution() == EXACT
    assert hash(Execution(shots=10)) == hash(Execution(shots=10))
    assert Execution(shots=10) != EXACT


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"n_qubits": 4}, "needs a name"),
        ({"name": "vqc", "n_qubits": 4, "layer": 2}, "did you mean 'layers'"),
        ({"name": "vqc"}, "needs 'n_qubits'"),
        ({"name": "vqc", "n_qubits": "4"}, "whole number"),
        ({"name": "vqc", "n_qubits": 4, "n_classes": 1}, "n_classes"),
        ({"name": "vqc", "n_qubits": 2, "n_classes": 3}, "too many for 2 qubits"),
        ({"name": "vqc", "n_qubits": 2, "scale": -1}, "scale"),
        ({"name": "vqc", "n_qubits": 2, "encoder": "fourier"}, "encoder"),
        ({"name": "vqc", "n_qubits": 2, "n_features": 5}, "5 features"),
        ({"name": "hybrid", "n_qubits": 2}, "needs 'n_features'"),
        ({"name": "hybrid", "n_qubits": 2, "n_features": 3, "hidden": [0]}, "hidden"),
        ({"name": "classical", "n_features": True}, "n_features"),
        ({"name": "vqc", "n_qubits": 2, "circuit": {}}, "already determines"),
    ],
    ids=str,
)
def test_mistakes_in_a_configuration_get_one_clear_line(config: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build_model(config)
    assert "\n" not in str(caught.value)


def test_an_unknown_model_names_its_neighbours() -> None:
    with pytest.raises(UnknownName, match="vqc"):
        build_model({"name": "vqcc"})

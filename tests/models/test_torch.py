"""A user's torch module: against plain calls of the module, with its quantum layers in the kernel, and what is refused."""

from __future__ import annotations

import math
import pickle
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pennylane as qml
import pytest
import torch
from torch import Tensor, nn

from qflsec.base import ConfigError
from qflsec.base.notices import forget
from qflsec.base.randomness import stream
from qflsec.circuits import NoiseModel
from qflsec.models import Execution, TorchModel, build_model, per_sample_gradients

FILE = Path(__file__).with_name("torch_modules.py")
DOUBLE = Execution(dtype="complex128")
WORKING = {
    "classical": "vmap",
    "one_output": "vmap",
    "images": "vmap",
    "hybrid": "vmap",
    "Several": "vmap",
    "own_layer": "vmap",
    "channels": "vmap",
    "only_a_layer": "vmap",
    "tape_layer": "vmap",
    "pennylane_layer": "loop",
    "Called": "records",
    "Mapped": "vmap",
    "Deeper": "vmap",
    "Varying": "records",
    "Left": "loop",
    "Branching": "loop",
}


def model_of(name: str, **options: Any) -> TorchModel:
    n_features = {"images": 36, "only_a_layer": 2}.get(name, 4)
    shape = {"input_shape": [1, 6, 6]} if name == "images" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = build_model(
            {"name": "torch", "path": f"{FILE}:{name}", "n_features": n_features, **shape, **options}
        )
    assert isinstance(model, TorchModel)
    return model


@pytest.fixture(scope="module")
def models() -> dict[str, TorchModel]:
    return {name: model_of(name) for name in WORKING}


def plain(model: TorchModel, params: Tensor, x: Tensor) -> Tensor:
    """The logits of one record, of a module of its own whose parameters are set; stock layers included."""
    module = model._made(0).to(params.dtype)  # frozen parameters are those of the seed 0
    for name, block in model.unflatten(params).items():
        prefix, _, key = name.rpartition(".")
        owner = module.get_submodule(prefix)
        owner._parameters[key] = block
        if "qnode_weights" in owner.__dict__:
            owner.qnode_weights[key] = block
    found = module(x.reshape(1, *(model.input_shape or x.shape))).reshape(-1)
    return torch.cat([-found / 2, found / 2]) if len(found) == 1 else found


@pytest.mark.parametrize("name", WORKING)
def test_logits_and_gradients_equal_plain_calls(models: dict[str, TorchModel], name: str) -> None:
    model = models[name]
    assert model.call.mode == WORKING[name]
    params = torch.stack([model.initial(stream(i, "initial")) for i in range(2)])[:, None]
    x = torch.rand(2, 3, model.n_features, generator=stream(0, "x"))
    y = torch.tensor([0, 1, 1])
    logits = model(params, x)
    assert logits.shape == (2, 3, model.n_classes)
    gradients = per_sample_gradients(model, params, x, y)
    for i in range(2):
        for j in range(3):
            leaf = params[i, 0].clone().requires_grad_()
            alone = plain(model, leaf, x[i, j])
            assert torch.allclose(logits[i, j], alone, atol=1e-5)
            (slope,) = torch.autograd.grad(nn.functional.cross_entropy(alone, y[j]), leaf)
            assert torch.allclose(gradients[i, j], slope, atol=1e-5)
            assert torch.allclose(model(params[i, 0], x[i, j]), alone, atol=1e-5)


@pytest.mark.parametrize("name", WORKING)
def test_a_lane_has_the_same_bits_alone_and_beside_others(models: dict[str, TorchModel], name: str) -> None:
    model = models[name]
    params = torch.stack([model.initial(stream(i, "initial")) for i in range(3)])
    x = torch.rand(3, 2, model.n_features, generator=stream(0, "x"))
    y = torch.tensor([0, 1])
    logits, gradients = model(params[:, None], x), per_sample_gradients(model, params[:, None], x, y)
    for lane in range(3):
        one = slice(lane, lane + 1)
        assert torch.equal(model(params[one, None], x[one]), logits[one])
        assert torch.equal(per_sample_gradients(model, params[one, None], x[one], y), gradients[one])


def test_layout_classes_and_initial_values(models: dict[str, TorchModel]) -> None:
    model = models["Several"]
    assert model.n_classes == 2
    assert models["images"].n_classes == 3
    assert dict(model.layout) == {
        "parts.0.weights": (1, 2),
        "parts.1.weights": (1, 2),
        "single.weights": (1, 2, 3),
        "single.bias": (2,),
        "head.weight": (2, 5),
        "head.bias": (2,),
    }
    assert model.periods == (None,) * 24
    before = torch.get_rng_state()
    first, second = model.initial(stream(0, "initial")), model.initial(stream(1, "initial"))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(model.initial(stream(0, "initial")), first)
    assert not torch.equal(first, second)
    head = model.unflatten(first)["head.weight"]
    assert float(head.abs().max()) <= 1 / math.sqrt(5)


def test_double_precision_and_modules_that_cannot(models: dict[str, TorchModel]) -> None:
    for model in (models["hybrid"], model_of("SinglePrecision")):
        params, x = model.initial(stream(0, "initial")).double(), torch.rand(3, 4, generator=stream(0, "x"))
        found = model(params, x, execution=DOUBLE)
        assert found.dtype == torch.float64
        assert torch.allclose(found, model(params, x).double(), atol=1e-6)


def test_second_derivatives_reach_the_features(models: dict[str, TorchModel]) -> None:
    """Gradient inversion differentiates the gradient; against differences."""
    model = models["hybrid"]
    params = model.initial(stream(0, "initial")).double()
    x, y = torch.rand(1, 4, generator=stream(0, "x"), dtype=torch.float64), torch.tensor([1])

    def norm(x: Tensor) -> Tensor:
        return per_sample_gradients(model, params, x, y, execution=DOUBLE, create_graph=True).square().sum()

    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(norm(leaf), leaf)
    for i in range(4):
        step = torch.zeros_like(x)
        step[0, i] = 1e-5
        assert float((norm(x + step) - norm(x - step)).detach() / 2e-5) == pytest.approx(
            float(slope[0, i]), abs=1e-6
        )


def test_channels_of_a_layer_are_its_noise(models: dict[str, TorchModel]) -> None:
    """Beside shots of the run, and not beside another noise."""
    model = models["channels"]
    params, x = model.initial(stream(0, "initial")), torch.rand(2, 4, generator=stream(0, "x"))
    sampled = model(params, x, execution=Execution(shots=50_000), generator=stream(0, "shots"))
    assert 0 < float((sampled - model(params, x)).abs().max()) < 0.05
    noise = NoiseModel(kind="bit-flip", p=0.1, where="measurement")
    with pytest.raises(ConfigError, match="has noise of its own"):
        model(params, x, execution=Execution(noise=noise))


def test_layers_carry_shots_and_noise(models: dict[str, TorchModel]) -> None:
    noise = NoiseModel(kind="global-depolarizing", p=1.0, where="measurement")
    for name in ("hybrid", "own_layer", "Called", "Mapped", "Deeper"):
        model = models[name]
        params, x = model.initial(stream(0, "initial")), torch.rand(2, 4, generator=stream(0, "x"))
        exact = model(params, x)
        shots = Execution(shots=20_000)
        sampled = model(params, x, execution=shots, generator=stream(0, "shots"))
        assert 0 < float((sampled - exact).abs().max()) < 0.1
        assert torch.equal(sampled, model(params, x, execution=shots, generator=stream(0, "shots")))
        mixed = model(params, x, execution=Execution(noise=noise))
        assert torch.allclose(mixed[0], mixed[1], atol=1e-6)
        lanes = model(
            params.expand(2, 1, -1),
            x.expand(2, 2, -1),
            execution=shots,
            generator=[stream(s, "shots") for s in (1, 0)],
        )
        assert torch.allclose(lanes[1], sampled, atol=1e-6)


@pytest.mark.parametrize("name", ["classical", "tape_layer", "pennylane_layer", "Varying", "Left"])
def test_what_cannot_be_carried_is_refused(models: dict[str, TorchModel], name: str) -> None:
    model = models[name]
    with pytest.raises(ConfigError, match="evaluated exactly and by autograd only; got Execution"):
        model(
            model.initial(stream(0, "i")),
            torch.rand(1, 4),
            execution=Execution(shots=5),
            generator=stream(0, "s"),
        )


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("hybrid", {}, "quantum layer '2' runs in the batched kernel"),
        (
            "tape_layer",
            {},
            "'1' is no circuit, and evaluated for many records at once (",
        ),
        ("pennylane_layer", {}, "'1' stays with PennyLane"),
        ("Called", {}, "quantum layer 'affine' runs in the batched kernel"),
        ("Varying", {}, "'varying' is no circuit, and evaluated for many records at once ("),
        ("Left", {}, "'damped' stays with PennyLane"),
        ("dropout", {"dropout": "off"}, "dropout is off, in training too"),
        ("Branching", {}, "one by one, which is slow"),
        ("classical", {}, None),
    ],
)
def test_what_was_done_is_said_once(
    name: str, options: dict[str, Any], said: str | None, tmp_path: Path
) -> None:
    file = shutil.copy(FILE, tmp_path / FILE.name)
    forget()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            build_model({"name": "torch", "path": f"{file}:{name}", "n_features": 4, **options})
    messages = [str(w.message) for w in caught if "torch_modules.py" in str(w.message)]
    assert len(messages) == (said is not None)
    assert said is None or said in messages[0]


def test_a_qnode_is_the_users_own_but_while_a_module_runs(
    models: dict[str, TorchModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, x = models["Called"]._made(0), torch.rand(3, 4, generator=stream(0, "x"))
    calls, call = [], qml.QNode.__call__

    def note(qnode: Any, *args: Any, **options: Any) -> Any:
        calls.append(qnode)
        return call(qnode, *args, **options)

    monkeypatch.setattr(qml.QNode, "__call__", note)
    params = torch.nn.utils.parameters_to_vector(module.parameters())
    for name, theirs in (("Called", 0), ("Deeper", 0), ("Left", 3)):
        calls.clear()
        model = models[name]
        model(model.initial(stream(0, "initial")) if name != "Called" else params, x)
        assert len(calls) == theirs, name
    calls.clear()
    assert torch.allclose(module(x), models["Called"](params, x), atol=1e-6)
    assert len(calls) == 3


def test_a_call_unlike_those_that_were_tried_is_exact_or_refused() -> None:
    model = model_of("Growing")
    params, x = model.initial(stream(0, "initial")), 1 + torch.rand(2, 4, generator=stream(0, "x"))
    module = model._made(0)
    torch.nn.utils.vector_to_parameters(params, module.parameters())
    assert torch.allclose(model(params, x), module(x), atol=1e-6)
    with pytest.raises(ConfigError, match="with other arguments than when it was tried"):
        model(params, x, execution=Execution(shots=10), generator=stream(0, "shots"))


def test_dropout_that_is_off_does_nothing() -> None:
    model = model_of("dropout", dropout="off")
    params, x = model.initial(stream(0, "initial")), torch.rand(3, 4)
    assert torch.equal(model(params, x), model(params, x))


REFUSED = {
    "batch_norm": "layer '1' is BatchNorm1d: its statistics mix the records of a batch.*GroupNorm",
    "dropout": "layer '1' is Dropout: it draws at random.*got p = 0.5; set p = 0, or dropout = \"off\"",
    "embedding": "layer '0' is Embedding: it takes whole numbers",
    "Functional": "draws at random when it is called",
    "Mixing": "depends on the other records of the batch.*LayerNorm",
    "Counting": "buffer 'calls' of the module changes",
    "Squeezing": r"does not fit a batch of 1 record; got shape \(2,\).*squeeze\(-1\)",
    "Rounding": "no gradient in the features",
    "Detached": "depends on 'first.weight', but has no gradient in it",
    "NumpyWeights": "initial values of 'extra' are not drawn from torch's generator",
    "misfit": r"fails on a batch of shape \(4, 4\); got RuntimeError: mat1 and mat2",
    "no_module": "makes no torch module; got int",
    "needs_arguments": "fails; got TypeError.*it must need no arguments",
    "own_shots": "has shots of its own; got 10",
    "nowhere": "has no function 'nowhere'",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_function_of_single_records_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=REFUSED[name]) as caught:
        model_of(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_shape": [1, 3]}, r"does not hold the features of a record; got \[1, 3\], which is 3, for 4"),
        ({"n_classes": 5}, "n_classes is not what the module gives; got 5; expected 3"),
        ({"dropout": "on"}, "unknown 'dropout'; got 'on'"),
        ({"loss": "mae"}, "'loss' of model 'torch' is wrong"),
        ({"path": None}, "add path"),
    ],
)
def test_mistakes_in_the_configuration(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model_of("classical", **options)


def test_pickles_by_its_file_and_sees_it_change(tmp_path: Path) -> None:
    file = tmp_path / "task.py"
    shutil.copy(FILE, file)
    model = build_model({"name": "torch", "path": f"{file}:classical", "n_features": 4, "loss": "hinge"})
    assert build_model(model.to_config()) == model
    params, x = model.initial(stream(0, "initial")), torch.rand(3, 4)
    assert torch.equal(pickle.loads(pickle.dumps(model))(params, x), model(params, x))
    own = build_model({"name": "classical", "n_features": 4, "loss": f"{file}:focal"}).loss
    stored = pickle.dumps(model), pickle.dumps(own)
    file.write_text(file.read_text() + "\nMORE = 1\n")
    for one in stored:
        with pytest.raises(ConfigError, match="has changed since"):
            pickle.loads(one)


def test_one_output_follows_the_loss() -> None:
    """For squared errors on labels 0 and 1 the decision is at one half."""
    x = torch.rand(20, 4, generator=stream(0, "x"))
    for loss, threshold in (("cross-entropy", 0.0), ("mse", 0.5), ("mse-plus-minus", 0.0)):
        model = model_of("one_output", loss=loss)
        params = model.initial(stream(0, "initial"))
        module = model._made(0)
        torch.nn.utils.vector_to_parameters(params, module.parameters())
        outputs = module(x) - module(x).mean() + threshold
        with torch.no_grad():
            params[-1] += threshold - module(x).mean()
        assert torch.equal(model(params, x).argmax(-1), (outputs > threshold).long()), loss
        assert 5 < int((outputs > threshold).sum()) < 15


@pytest.mark.parametrize("mode", ["vmap", "loop"])
def test_layers_that_are_held_twice_share_their_parameters(mode: Literal["vmap", "loop"]) -> None:
    """Per-sample gradients are those of the module itself, which is as it was afterwards, and takes double precision."""
    model = replace(model_of("sharing"))  # one of its own: models of files are kept
    assert [name for name, _ in model.layout] == [
        "first.weight", "first.bias", "other.bias", "head.weight", "head.bias"
    ]  # fmt: skip
    object.__setattr__(model, "call", replace(model.call, mode=mode))
    kept = torch.nn.utils.parameters_to_vector(model.call.module.parameters()).detach().clone()
    params, x, y = (
        model.initial(stream(0, "i")) + 0.1,
        torch.rand(3, 4, generator=stream(0, "x")),
        torch.tensor([0, 1, 2]),
    )
    found = per_sample_gradients(model, params, x, y)
    module = model._made(0)
    torch.nn.utils.vector_to_parameters(params, module.parameters())
    for record, label, gradient in zip(x, y, found, strict=True):
        loss = nn.functional.cross_entropy(module(record[None]), label[None])
        expected = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(module.parameters()))])
        assert torch.allclose(gradient, expected, atol=1e-6)
    assert torch.equal(torch.nn.utils.parameters_to_vector(model.call.module.parameters()), kept)
    single, double = model(params, x), model(params, x, execution=DOUBLE)
    assert 0 < float((single - double).abs().max()) < 1e-5


def test_an_own_loss() -> None:
    model = model_of("classical", loss=f"{FILE}:focal")
    params, x, y = (
        model.initial(stream(0, "i")),
        torch.rand(4, 4, generator=stream(0, "x")),
        torch.tensor([0, 1, 2, 1]),
    )
    cross = nn.functional.cross_entropy(model(params, x), y, reduction="none")
    assert torch.allclose(model.loss.per_sample(model(params, x), y), (1 - torch.exp(-cross)) ** 2 * cross)
    assert build_model(model.to_config()) == model
    assert pickle.loads(pickle.dumps(model.loss)) == model.loss
    assert build_model({"name": "classical", "n_features": 4, "loss": f"{FILE}:focal"}).loss == model.loss


def test_an_own_loss_with_weights_of_classes_takes_double_precision() -> None:
    """Membership scores and gradient inversion compute in double precision; the weights are in single."""
    loss = model_of("classical", loss=f"{FILE}:class_weighted").loss
    logits, y = torch.randn(4, 3, generator=stream(0, "logits")), torch.tensor([0, 1, 2, 1])
    expected = torch.tensor([1.0, 2.0, 3.0])[y] * nn.functional.cross_entropy(logits, y, reduction="none")
    assert torch.allclose(loss.confidence(logits, y), -expected.double())
    leaf = logits.double().requires_grad_()
    (gradient,) = torch.autograd.grad(loss.per_sample(leaf, y).sum(), leaf)
    assert gradient.dtype == torch.float64
    assert torch.allclose(gradient.sum(-1), torch.zeros(4, dtype=torch.float64), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("reduced", r"one value for each record; got \(\) for 6 records; use reduction='none'"),
        ("counted", "has no gradient"),
        ("batch_weighted", "depends on the other records"),
        ("noisy", "no pure function"),
        ("infinite", "is not finite"),
        ("WIRES", "is no function"),
        ("nothing", "has no loss 'nothing'"),
        ("no_module", "fails; got TypeError"),
    ],
)
def test_losses_that_are_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model_of("classical", loss=f"{FILE}:{name}")
